"""`process`, `retry`, `partitions`, `status`, `health` and `db` on a real database and a real Dagster instance."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from signal_pipeline.cli.environment import PROJECT_ROOT
from signal_pipeline.domain import FailureReason
from signal_pipeline_tests.cli.conftest import COMMAND, Run, write_csv
from signal_pipeline_tests.signals import change, failures, insert_signals, statuses, value


def test_process_completes_what_is_pending_and_ends(tmp_path: Path, as_json: Callable[..., Any]) -> None:
    for i in range(3):
        write_csv(tmp_path / "data" / f"{i}.csv", seed=i)
    as_json("ingest", str(tmp_path / "data"), "--sample-rate", "1000")
    done = as_json("process")
    assert done["processed"] == 3
    assert done["signals"] == {"pending": 0, "processing": 0, "completed": 3, "failed": 0}
    assert done["features_total"] == 9
    assert as_json("process")["processed"] == 0
    assert as_json("status")["features_total"] == 9


def test_failed_signals_of_one_reason_are_put_back(engine: Engine, as_json: Callable[..., Any]) -> None:
    (rate,) = insert_signals(engine, 1, equipment="rate", sample_rate_hz=0.0)
    (gone,) = insert_signals(
        engine, 1, equipment="gone", phase_a=None, phase_b=None, phase_c=None, file_name="/no/such.csv"
    )
    as_json("process")
    assert failures(engine) == {rate: "validation_failed", gone: "file_missing"}
    assert as_json("retry", "--failed", "--reason", "file_missing")["pending_again"] == [str(gone)]
    assert statuses(engine) == {rate: "failed", gone: "pending"}


def test_what_another_version_computed_is_computed_again_when_a_person_asks(
    engine: Engine, as_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other windows: nothing changes by itself, and a signal that cannot be read again keeps what it had."""
    pumps = insert_signals(engine, 3, equipment="pump")
    (fan,) = insert_signals(engine, 1, equipment="fan")
    as_json("process")
    before = windows_by_version(engine, fan)
    monkeypatch.setenv("WINDOW_MS", "500")
    assert as_json("recompute", "--equipment", "pump") == {"outdated": 3, "recomputed": 3}
    assert windows_by_version(engine, fan) == before
    change(engine, "UPDATE raw_signals SET phase_a = '\\x00' WHERE id = :id", id=fan)
    assert as_json("recompute", code=1) == {"outdated": 1, "recomputed": 0}
    assert windows_by_version(engine, fan) == before
    assert failures(engine) == {fan: "corrupt_blob"}
    assert as_json("recompute") == {"outdated": 0, "recomputed": 0}
    (version,) = {tuple(windows_by_version(engine, pump)) for pump in pumps}
    assert version != tuple(before)
    assert len(windows_by_version(engine, pumps[0])) == 1


def windows_by_version(engine: Engine, signal_id: UUID) -> dict[str, int]:
    query = """
        SELECT coalesce(jsonb_object_agg(feature_version, n), '{}') FROM (
            SELECT feature_version, count(*) AS n FROM features WHERE raw_id = :id GROUP BY feature_version) AS f
    """
    return dict(value(engine, query, id=signal_id))


def test_retry_without_failed_does_nothing_and_says_what_to_say(run: Run) -> None:
    assert "--failed" in run("retry", code=2).stderr


def test_status_names_who_holds_what(engine: Engine, run: Run) -> None:
    insert_signals(engine, 2)
    with engine.begin() as conn:
        conn.execute(
            text(
                "UPDATE raw_signals SET processing_status = 'processing', claim_token = gen_random_uuid(), "
                "claimed_by = 'host-9', lease_expires_at = now() + interval '1 minute'"
            )
        )
    assert "host-9" in run("status").stdout


def test_health_is_good_on_a_migrated_database(as_json: Callable[..., Any]) -> None:
    found = as_json("health")
    assert found["healthy"] is True
    assert set(found["checks"]) == {"database", "migrations", "daemon", "disk"}


def test_health_names_the_command_for_a_database_without_tables(
    empty_database_url: str, as_json: Callable[..., Any], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    assert "db upgrade" in as_json("health", code=1)["checks"]["migrations"]["message"]
    assert "db upgrade" in run("status", code=1).stderr
    run("db", "upgrade")
    as_json("health")


def test_a_database_that_is_down_is_named_without_its_password(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://someone:secret-word@127.0.0.1:1/motors")
    for command in (["status"], ["health"], ["process"], ["ingest", "x.csv"], ["db", "upgrade"]):
        result = run(*command, code=1)
        assert "127.0.0.1" in result.output
        assert "secret-word" not in result.output


def test_a_bad_setting_is_an_error_at_start_that_names_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAIM_LEASE_SECONDS", "soon")
    assert "CLAIM_LEASE_SECONDS" in run("status", code=1).stderr


def test_db_run_hands_on_the_url_and_the_exit_code(run: Run, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = f"import os, sys; open({str(seen)!r}, 'w').write(os.environ['DATABASE_URL']); sys.exit(7)"
    run("db", "run", "--", sys.executable, "-c", script, code=7)
    assert seen.read_text().startswith("postgresql://")


def test_db_run_lets_programs_of_libpq_connect_by_themselves(run: Run, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = (
        "import os, psycopg; names = [n for n in os.environ if n.startswith('PG')]; assert 'PGHOST' in names; "
        f"open({str(seen)!r}, 'w').write(psycopg.connect('').info.dbname)"
    )
    run("db", "run", "--", sys.executable, "-c", script)
    assert seen.read_text() == make_url(os.environ["DATABASE_URL"]).database


def test_db_run_of_a_program_that_is_not_there_says_so(run: Run) -> None:
    assert "no-such-program cannot be run" in run("db", "run", "--", "no-such-program", code=127).stderr


def test_partitions_can_be_added_by_hand(engine: Engine, run: Run) -> None:
    (signal_id,) = insert_signals(engine, 1)
    assert "1 partition is there" in run("partitions", "add", str(signal_id)).stdout


def test_a_partition_of_no_signal_is_refused_by_name(engine: Engine, run: Run) -> None:
    (signal_id,) = insert_signals(engine, 1)
    stranger = str(uuid4())
    assert stranger in run("partitions", "add", str(signal_id), stranger, code=1).stderr


def test_status_says_which_files_failed_and_why(engine: Engine, run: Run) -> None:
    insert_signals(engine, 1, sample_rate_hz=-3.0, file_name="/data/pump-1/x.csv")
    run("process")
    shown = run("status").stdout
    assert "x.csv" in shown
    assert "-3" in shown


def test_status_says_how_fast_it_went_and_which_models_are_in_use(engine: Engine, as_json: Callable[..., Any]) -> None:
    insert_signals(engine, 2)
    insert_signals(engine, 1, equipment="rate", sample_rate_hz=0.0)
    as_json("process")
    found = as_json("status")
    assert found["last_hour"] == {"completed": 2, "failed": 1}
    assert found["per_minute"] == {"completed": 0.03, "failed": 0.02}
    assert found["models"] == {"anomaly_detection": None, "embedding": None}


def test_a_narrow_terminal_shows_all_of_the_status(
    engine: Engine, run: Run, pipeline_environment: dict[str, str]
) -> None:
    name = "x" * 70 + ".csv"
    insert_signals(engine, 1, sample_rate_hz=-3.0, file_name=f"/data/pump-1/{name}")
    run("process")
    environment = os.environ | pipeline_environment | {"COLUMNS": "60"}
    shown = subprocess.run([COMMAND, "status"], env=environment, capture_output=True, text=True, check=True).stdout
    assert max(map(len, shown.splitlines())) <= 60
    assert name in shown.replace("\n", "")


def narrow(*arguments: str) -> str:
    """What a command prints into 60 columns."""
    environment = os.environ | {"COLUMNS": "60"}
    return subprocess.run([COMMAND, *arguments], env=environment, capture_output=True, text=True, check=True).stdout


def test_no_reason_is_broken_in_two_in_a_narrow_terminal() -> None:
    said = narrow("retry", "--help")
    assert [reason for reason in FailureReason if reason not in said] == []


def test_the_command_that_simulate_suggests_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / ("a-folder-with-a-long-name-" * 3)
    said = narrow("simulate", str(folder), "--motors", "1", "--recordings", "1", "--seconds", "0.1").splitlines()
    assert said[-1] == f"load them: signal-pipeline ingest {folder} --sample-rate 6400"


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    assert narrow("--version") == f"signal-pipeline {project['version']}\n"


def test_a_role_that_may_not_create_databases_is_told_what_to_set(
    engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch, pipeline_environment: dict[str, str]
) -> None:
    role = f"plant_{uuid4().hex}"
    with engine.begin() as conn:
        conn.execute(text(f"CREATE ROLE {role} LOGIN"))
        conn.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"))
    try:
        for name in ("DATABASE_URL", "DAGSTER_DATABASE_URL"):
            url = make_url(pipeline_environment[name]).set(username=role)
            monkeypatch.setenv(name, url.render_as_string(hide_password=False))
        assert "DAGSTER_DATABASE_URL" in run("process", code=1).stderr
    finally:
        with engine.begin() as conn:
            conn.execute(text(f"DROP OWNED BY {role}"))
            conn.execute(text(f"DROP ROLE {role}"))


def test_dagster_runs_as_many_batches_at_once_as_the_settings_say(
    run: Run, pipeline_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAIM_MAX_RUNS", "7")
    run("process")
    written = yaml.safe_load(Path(pipeline_environment["DAGSTER_HOME"], "dagster.yaml").read_text())
    assert written["concurrency"]["runs"]["max_concurrent_runs"] == 7
