"""Two real `signal-pipeline process` at once, and one of them killed on the way.

300 signals by default; SIGNAL_PIPELINE_TESTS_SIGNALS=1000 makes it the long version, with a kill every 300.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from signal_pipeline.db import claims
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline_tests.signals import (
    MIDNIGHT,
    achievements,
    change,
    count,
    failures,
    features_hash,
    insert_signals,
    recording,
    statuses,
    value,
)

SIGNALS = int(os.environ.get("SIGNAL_PIPELINE_TESTS_SIGNALS", "300"))
LEASE_SECONDS = 2

# Whoever works alone is slow, so that the other comes in time, however long it takes to start.
NOT_ALONE = """
    CREATE FUNCTION test_not_alone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (SELECT count(DISTINCT claimed_by) FROM raw_signals WHERE processing_status = 'processing') < 2 THEN
            PERFORM pg_sleep(0.2);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER test_not_alone BEFORE UPDATE OF work_started_at ON raw_signals FOR EACH ROW
        WHEN (NEW.work_started_at IS NOT NULL) EXECUTE FUNCTION test_not_alone();
"""

Process = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def process(database_url: str, empty_database_url: str, tmp_path: Path) -> Iterator[Process]:
    """Starts the command on the test's databases; whatever still runs at the end is killed."""
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "DAGSTER_DATABASE_URL": empty_database_url,
        "SIGNAL_PIPELINE_HOME": str(tmp_path),
        "MODELS_DIR": str(tmp_path / "models"),
        "CLAIM_LEASE_SECONDS": str(LEASE_SECONDS),
        "CLAIM_BATCH_SIZE": "20",
        # on a busy machine so short a lease is lost now and then, and no signal is poison
        "CLAIM_MAX_ATTEMPTS": "100",
    }
    command = [str(Path(sys.executable).with_name("signal-pipeline")), "process"]
    with ExitStack() as started:

        def start(*options: str) -> "subprocess.Popen[bytes]":
            process = subprocess.Popen([*command, *options], env=environment, stdin=subprocess.DEVNULL)
            started.callback(process.wait)
            started.callback(process.kill)
            return process

        yield start


def insert(engine: Engine) -> dict[str, list[str]]:
    """Hours of their own, one hour that all share, and a few that must fail; by what becomes of them."""
    n = (SIGNALS - 6) // 2
    good = insert_signals(engine, n, phases=recording(seconds=1.5))
    good += insert_signals(engine, n, equipment="M2", recorded_at=MIDNIGHT)
    bad = insert_signals(engine, 6, equipment="M3", phases=np.full((3, 2000), np.inf, dtype=np.float32))
    return {"completed": sorted(map(str, good)), "failed": sorted(map(str, bad))}


def wait_until(condition: Callable[[], bool], *processes: "subprocess.Popen[bytes]") -> None:
    """Poll, as long as the processes live; pytest's own time limit is the deadline."""
    while not condition():
        ended = [p.args for p in processes if p.poll() is not None]
        assert not ended, f"ended before anything could happen to it: {ended}"
        time.sleep(0.05)


def at_work(engine: Engine, pid: int) -> bool:
    query = "SELECT count(*) > 0 FROM raw_signals WHERE claimed_by LIKE :name AND work_started_at IS NOT NULL"
    return bool(value(engine, query, name=f"%:{pid}"))


@dataclass(frozen=True)
class Results:
    """What a database says in the end; ids by status."""

    signals: dict[str, list[str]]
    reasons: set[str]
    features: str
    n_features: int
    hours: str
    totals: dict[str, int]


def results(engine: Engine) -> Results:
    signals: dict[str, list[str]] = {}
    for signal_id, status in statuses(engine).items():
        signals.setdefault(status, []).append(str(signal_id))
    hours = "SELECT md5(jsonb_agg(to_jsonb(h) - 'updated_at' ORDER BY h)::text) FROM hourly_feature_summary AS h"
    return Results(
        signals={status: sorted(ids) for status, ids in signals.items()},
        reasons=set(failures(engine).values()),
        features=features_hash(engine),
        n_features=count(engine, "features"),
        hours=str(value(engine, hours)),
        totals=achievements(engine),
    )


@pytest.fixture
def undisturbed(engine: Engine, worker: Worker) -> Results:
    """The same rows, worked on by this process alone and without Dagster; then the database is emptied."""
    insert(engine)
    while got := claims.claim_pending(engine, settings=worker.settings.claims, claimed_by=worker.name).claims:
        for claim in got:
            run_batch(worker, Batch(claim.token, claim.signal_ids))
    found = results(engine)
    change(engine, "TRUNCATE raw_signals, hourly_feature_summary, counters CASCADE")
    return found


@pytest.mark.processes
def test_two_processes_one_of_them_killed_lose_nothing_and_do_nothing_twice(
    engine: Engine, undisturbed: Results, process: Process
) -> None:
    expected = insert(engine)
    change(engine, NOT_ALONE)
    survivor, victim = process("--wait"), process("--wait")
    for _ in range(max(1, SIGNALS // 300)):
        wait_until(partial(at_work, engine, victim.pid), victim)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim = process("--wait")
    assert [survivor.wait(), victim.wait()] == [0, 0]
    found = results(engine)
    assert found == undisturbed
    assert found.signals == expected
    assert found.totals["features_total"] == found.n_features
