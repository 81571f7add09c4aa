"""`status`: what it counts, the models it names, and how it reads in a narrow terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from signal_pipeline.db.engine import create_engine
from signal_pipeline.observability.models_in_use import models_in_use
from signal_pipeline.observability.status import read_failures, read_status
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.signals import change, insert_signals

WIDTH = 60
LONG = "recorder-in-hall-seven/2025-08-25T12-00-00Z-second-attempt-of-the-morning-shift.csv"
MESSAGE = "the record has 500 samples at 1000 Hz, and a window takes 1000 (1000 ms); record longer, or lower WINDOW_MS"


def finish(engine: Engine, ids: list[Any], status: str, *, minutes_ago: int) -> None:
    """As if these had become final so long ago."""
    change(
        engine,
        "UPDATE raw_signals SET processing_status = 'processing', claim_token = gen_random_uuid(), claimed_by = 'w', "
        "lease_expires_at = now() + interval '1 minute' WHERE id = ANY(:ids)",
        ids=ids,
    )
    failure = json.dumps({"failure": {"reason": "insufficient_data", "stage": "validate", "message": MESSAGE}})
    change(
        engine,
        "UPDATE raw_signals SET processing_status = :status, finalized_at = now() - make_interval(mins => :ago), "
        "claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL, "
        "meta = CASE WHEN :status = 'failed' THEN CAST(:failure AS jsonb) ELSE meta END WHERE id = ANY(:ids)",
        ids=ids,
        status=status,
        ago=minutes_ago,
        failure=failure,
    )


def fill(engine: Engine) -> None:
    """Two completed now, one long ago; one failed now; one held by a worker with a long name; one that waits."""
    ids = insert_signals(engine, 6, file_name=LONG)
    finish(engine, ids[:2], "completed", minutes_ago=5)
    finish(engine, ids[2:3], "completed", minutes_ago=120)
    finish(engine, ids[3:4], "failed", minutes_ago=30)
    change(
        engine,
        "UPDATE raw_signals SET processing_status = 'processing', claim_token = gen_random_uuid(), "
        "claimed_by = 'host-with-a-long-name.plant.example/instance-7:123456', "
        "lease_expires_at = now() + interval '1 minute' WHERE id = :id",
        id=ids[4],
    )


def status(engine: Engine, home: Path, *options: str, **variables: str) -> str:
    """What the command prints, as a process of its own."""
    environment = os.environ | {
        "DATABASE_URL": engine.url.render_as_string(hide_password=False),
        "SIGNAL_PIPELINE_HOME": str(home),
        "MODELS_DIR": str(home / "models"),
    }
    command = [str(Path(sys.executable).with_name("signal-pipeline")), "status", *options]
    done = subprocess.run(
        command, env=environment | variables, capture_output=True, text=True, check=False, timeout=300, cwd=home
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_batch_that_ends_while_it_is_looked_at_is_in_all_figures_or_in_none(
    engine: Engine, database_url: str
) -> None:
    ids = insert_signals(engine, 2)
    looking = create_engine(database_url, DatabaseSettings())

    @event.listens_for(looking, "after_cursor_execute", once=True)
    def end_it(*_: object) -> None:
        finish(engine, ids, "completed", minutes_ago=0)

    before, after = read_status(looking), read_status(looking)
    looking.dispose()
    assert (before.signals["completed"], before.last_completed) == (0, None)
    assert after.signals["completed"] == 2
    assert after.last_completed is not None


def test_rates_are_of_what_became_final_within_the_hour(engine: Engine) -> None:
    fill(engine)
    found = read_status(engine)
    assert found.signals == {"pending": 1, "processing": 1, "completed": 3, "failed": 1}
    assert found.last_hour == {"completed": 2, "failed": 1}
    assert found.per_minute("completed") == 0.03


def test_an_empty_queue_has_no_oldest_signal(engine: Engine) -> None:
    finish(engine, insert_signals(engine, 1, file_name=LONG), "completed", minutes_ago=1)
    found = read_status(engine)
    assert (found.oldest_pending, found.oldest_pending_seconds) == (None, None)


def test_a_failure_names_its_file_with_the_folder_and_only_once(engine: Engine) -> None:
    (signal_id,) = insert_signals(engine, 1, file_name="/data/pump-7/a.csv")
    finish(engine, [signal_id], "failed", minutes_ago=1)
    change(engine, "UPDATE raw_signals SET meta = jsonb_set(meta, '{failure,message}', '\"a.csv: too short\"')")
    (shown,) = read_failures(engine, limit=10)
    assert (shown.name, shown.message) == ("pump-7/a.csv", "too short")


@pytest.mark.processes
def test_status_is_readable_in_sixty_columns_and_cuts_nothing_off(engine: Engine, tmp_path: Path) -> None:
    fill(engine)
    shown = status(engine, tmp_path, COLUMNS=str(WIDTH))
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= WIDTH
    assert "…" not in shown
    together = "".join(shown.split())
    assert LONG.rsplit("/", 1)[1] in together
    assert "".join(MESSAGE.split()) in together
    assert "completed in the last hour" in shown
    assert "2, 0.03/min" in shown


@pytest.mark.processes
def test_status_as_json_holds_all_that_the_table_shows(engine: Engine, tmp_path: Path) -> None:
    fill(engine)
    found = json.loads(status(engine, tmp_path, "--json"))
    assert found["last_hour"] == {"completed": 2, "failed": 1}
    assert found["per_minute"] == {"completed": 0.03, "failed": 0.02}
    assert found["failures"] == {"insufficient_data": 1}
    assert found["leases"] == {"live": 1, "expired": 0}
    (worker,) = found["workers"]
    assert (worker["name"], worker["signals"]) == ("host-with-a-long-name.plant.example/instance-7:123456", 1)
    assert worker["lease_expires_at"][10] == "T"
    assert found["oldest_pending_seconds"] >= 0
    assert found["last_completed"] is not None
    assert found["models"] == {"anomaly_detection": None, "embedding": None}


def test_a_model_that_is_broken_is_refused_and_not_hidden(tmp_path: Path) -> None:
    folder = tmp_path / "anomaly_detection" / "20250101T000000Z-00000000"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    (folder.parent / "latest").symlink_to(folder.name)
    found = models_in_use(tmp_path, feature_version="v1")
    assert found["embedding"] is None
    refused = found["anomaly_detection"]
    assert refused is not None
    assert refused.version is None
    assert "is not JSON" in str(refused.refused)
