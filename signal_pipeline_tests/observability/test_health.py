"""Health: a verdict on each part; here on Dagster's daemon, from its table as it is."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from signal_pipeline.observability.health import Check, check_health
from signal_pipeline.settings import AppSettings, DatabaseSettings, Settings


def daemon(engine: Engine, home: Path, dagster: str) -> Check:
    database = DatabaseSettings(dagster_database_url=SecretStr(dagster))
    settings = Settings(database=database, app=AppSettings(signal_pipeline_home=home))
    found = {check.name: check for check in check_health(engine, settings)}
    assert set(found) == {"database", "migrations", "daemon", "disk"}
    return found["daemon"]


@pytest.mark.parametrize(("age", "ok"), [(10, True), (4000, False), (None, True)])
def test_a_daemon_is_well_while_it_beats_or_if_it_never_ran(
    engine: Engine, tmp_path: Path, age: float | None, ok: bool
) -> None:
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE daemon_heartbeats (daemon_type text, body text)"))
        if age is not None:
            body = json.dumps({"__class__": "DaemonHeartbeat", "timestamp": time.time() - age})
            conn.execute(text("INSERT INTO daemon_heartbeats VALUES ('SENSOR', :body)"), {"body": body})
    assert daemon(engine, tmp_path, engine.url.render_as_string(hide_password=False)).ok is ok


def test_a_storage_that_is_down_is_an_illness_and_one_that_was_not_made_yet_is_none(
    engine: Engine, tmp_path: Path
) -> None:
    missing = engine.url.set(database="not_made_yet").render_as_string(hide_password=False)
    assert daemon(engine, tmp_path, engine.url.render_as_string(hide_password=False)).ok
    assert daemon(engine, tmp_path, missing).ok
    down = daemon(engine, tmp_path, "postgresql://nobody@127.0.0.1:1/dagster")
    assert not down.ok
    assert "storage" in down.message


@pytest.mark.parametrize("database", [None, "not_made_yet"])
def test_a_login_that_the_server_refuses_is_an_illness_whether_the_storage_is_there_or_not(
    engine: Engine, tmp_path: Path, database: str | None
) -> None:
    """Only a database that is not there yet is none; the server's words may be in any language."""
    stranger = engine.url.set(username="nosuch", database=database or engine.url.database)
    found = daemon(engine, tmp_path, stranger.render_as_string(hide_password=False))
    assert not found.ok
    assert "nosuch" in found.message
    assert "DAGSTER_DATABASE_URL" in found.message


@pytest.mark.processes
def test_health_ends_with_1_for_a_login_that_is_refused(engine: Engine, tmp_path: Path) -> None:
    stranger = engine.url.set(username="nosuch").render_as_string(hide_password=False)
    variables = {
        "DATABASE_URL": engine.url.render_as_string(hide_password=False),
        "DAGSTER_DATABASE_URL": stranger,
        "SIGNAL_PIPELINE_HOME": str(tmp_path),
    }
    command = [str(Path(sys.executable).with_name("signal-pipeline")), "health"]
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 1, done.stdout
