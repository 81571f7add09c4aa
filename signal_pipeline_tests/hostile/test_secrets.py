"""Credentials in settings are never printed: by no command, in no error, log or traceback.

Not here: Dagster's UI (`test_ui.py`).
"""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from signal_pipeline.db.engine import create_engine, ping
from signal_pipeline.db.urls import domain_url
from signal_pipeline.errors import SettingsError, SignalPipelineError
from signal_pipeline.settings import DatabaseSettings, Settings, load_settings
from signal_pipeline_tests.hostile.ui_site import with_password
from signal_pipeline_tests.signals import insert_signals, statuses

SECRET = "hunter2-never-show-me"  # noqa: S105

BAD_URLS = (
    f"postgresql://u:{SECRET}@127.0.0.1:1/db",
    f"postgresql://u:{SECRET}@127.0.0.1:1/db?sslmode=bogus",
    f"postgresql://u:{SECRET}@127.0.0.1:1/db?sslmod=require",
    f"postgresql://u:{SECRET}@127.0.0.1:1/db?connect_timeout={SECRET}",
    f"postgresql://u@127.0.0.1:1/db?password={SECRET}",
    f"postgresql://u@127.0.0.1:1/db?sslpassword={SECRET}&sslmode=require",
    f"postgresql://u:{SECRET}@[::1/db",
    f"postgresql://u:{SECRET}@h:port/db",
    f"postgresql://u:{SECRET}/@h/db",
    f"postgresql://u:{SECRET}@h@127.0.0.1:1/db",
    f"mysql://u:{SECRET}@127.0.0.1:1/db",
    f"u:{SECRET}@127.0.0.1/db",
    f"postgresql://u:{SECRET}@127.0.0.1:1",
    f"host=127.0.0.1 password={SECRET}",
    f"postgresql://u:{SECRET}%00@127.0.0.1:1/db",
    f"postgresql://u:{SECRET}%0a@127.0.0.1:1/db",
    f"postgresql://u:{SECRET}@127.0.0.1:1/db%00x",
    f"postgresql://u:{SECRET}@127.0.0.1:1/db?application_name=%00{SECRET}",
    f"postgresql://u:{SECRET}@{'h' * 64}/db",
    f"postgresql://u:{SECRET}@a..b/db",
    f"postgresql://u:{SECRET}@/db?host=%FF",
)
COMMANDS = (["status"], ["health", "--json"], ["db", "upgrade"], ["ingest", "."], ["process"], ["forecast"])


def run(url: str, arguments: list[str], tmp_path: Path, **variables: str) -> str:
    """All that a command says, with everything logged."""
    environment = os.environ | {
        "DATABASE_URL": url,
        "SIGNAL_PIPELINE_HOME": str(tmp_path / "home"),
        "DATABASE_CONNECT_TIMEOUT_SECONDS": "1",
        "LOG_LEVEL": "DEBUG",
        **variables,
    }
    command = [str(Path(sys.executable).with_name("signal-pipeline")), *arguments]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_error_about_a_url_says_what_is_wrong_without_it(url: str) -> None:
    settings = DatabaseSettings(database_url=SecretStr(url), database_connect_timeout_seconds=1)
    assert SECRET not in repr(settings)
    with pytest.raises(SignalPipelineError) as caught:
        ping(create_engine(domain_url(url), settings))
    error: BaseException | None = caught.value
    assert "DATABASE_URL" in str(error)
    while error is not None:  # what a traceback would show, too
        assert SECRET not in str(error)
        error = error.__cause__ or error.__context__ if not error.__suppress_context__ else error.__cause__


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_no_command_shows_a_password_when_the_server_is_away(arguments: list[str], tmp_path: Path) -> None:
    said = run(BAD_URLS[0], arguments, tmp_path, DAGSTER_DATABASE_URL=BAD_URLS[0])
    assert SECRET not in said
    assert "Traceback" not in said
    assert "127.0.0.1:1" in said


@pytest.mark.parametrize("url", [url for url in BAD_URLS if "%0" in url or "a..b" in url])
def test_a_url_of_dagsters_storage_that_no_driver_takes_is_an_error_without_it(
    database_url: str, url: str, tmp_path: Path
) -> None:
    said = run(database_url, ["process"], tmp_path, DAGSTER_DATABASE_URL=url)
    assert SECRET not in said
    assert "Traceback" not in said
    assert "DAGSTER_DATABASE_URL" in said


@pytest.mark.parametrize("name", ["LOG_LEVEL", "CLAIM_BATCH_SIZE", "FEATURE_BANDS_HZ"])
@pytest.mark.parametrize("value", [BAD_URLS[0], f"u:{SECRET}@h", f"host=h password={SECRET}"])
def test_a_url_in_another_variable_is_not_shown(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as caught:
        load_settings()
    assert SECRET not in str(caught.value)


def test_nothing_that_dagster_stores_of_a_run_holds_a_password(
    engine: Engine, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    """Tags, config, events and tracebacks of real runs, one signal of which fails: every byte of Dagster's database."""
    insert_signals(engine, 2, equipment="good")
    insert_signals(engine, 1, equipment="bad", samples_count=7)
    environment = os.environ | {
        "DATABASE_URL": with_password(database_url, SECRET),
        "DAGSTER_DATABASE_URL": with_password(empty_database_url, SECRET),
        "SIGNAL_PIPELINE_HOME": str(tmp_path / "home"),
        "LOG_LEVEL": "DEBUG",
    }
    command = [str(Path(sys.executable).with_name("signal-pipeline")), "process"]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert sorted(statuses(engine).values()) == ["completed", "completed", "failed"], done.stderr
    stored = dump(empty_database_url)
    assert "corrupt_blob" in stored
    assert "dagster/asset_partition_range_start" in stored
    written = [path.read_text(errors="replace") for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert SECRET not in "".join([done.stdout, done.stderr, stored, dump(database_url), *written])


def dump(url: str) -> str:
    """Every table of a database as text."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as conn:
        tables = conn.execute("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = [conn.execute(f"SELECT t::text FROM {table} AS t".encode()).fetchall() for (table,) in tables]
    return "\n".join(str(row) for table in rows for (row,) in table)


def test_health_as_json_names_the_server_and_not_the_password(tmp_path: Path) -> None:
    said = run(BAD_URLS[4], ["health", "--json"], tmp_path, LOG_LEVEL="ERROR")
    found = json.loads(said.splitlines()[-1])
    assert found["healthy"] is False
    assert "127.0.0.1:1" in found["checks"]["database"]["message"]
    assert SECRET not in said


def test_every_setting_that_may_hold_a_credential_is_a_secret() -> None:
    """Found by name: a new one is covered when it is added."""
    words = ("url", "password", "token", "secret", "dsn", "webhook", "credential", "key")
    groups = [field.annotation for field in Settings.model_fields.values()]
    found = {
        name: field
        for group in groups
        if isinstance(group, type) and issubclass(group, BaseSettings)
        for name, field in group.model_fields.items()
        if set(name.split("_")) & set(words)
    }
    assert {"database_url", "dagster_database_url"} <= set(found)
    plain = [name for name, field in found.items() if "SecretStr" not in str(field.annotation)]
    assert plain == [], "a setting that may hold a credential must be SecretStr"


def test_a_bad_neighbour_does_not_make_settings_show_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", BAD_URLS[0])
    monkeypatch.setenv("DATABASE_POOL_SIZE", "many")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "DATABASE_POOL_SIZE" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)


def test_the_drivers_own_logs_show_no_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SignalPipelineError):
        ping(create_engine(domain_url(BAD_URLS[0]), DatabaseSettings(database_connect_timeout_seconds=1)))
    assert SECRET not in caplog.text
