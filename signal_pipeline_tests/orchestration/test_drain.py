"""Draining the queue in this process, through the same job and without the daemon."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dagster import DagsterInstance, Definitions
from sqlalchemy import Engine

from signal_pipeline.db import claims
from signal_pipeline.orchestration import drain as drain_module
from signal_pipeline.orchestration import ops
from signal_pipeline.orchestration.drain import drain
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.processing import finalize
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ClaimSettings, IngestSettings, Settings
from signal_pipeline_tests.ingest.loading import csv_of, load_one
from signal_pipeline_tests.orchestration.conftest import materialized
from signal_pipeline_tests.signals import (
    change,
    count,
    expire,
    failures,
    insert_signals,
    recording,
    row,
    statuses,
    value,
)

RunDrain = Callable[..., int]


def small(batch: int) -> Settings:
    return Settings(claims=ClaimSettings(claim_batch_size=batch))


@pytest.fixture
def settings() -> Settings:
    return small(25)


@pytest.fixture
def run_drain(definitions: Definitions, instance: DagsterInstance, worker: Worker) -> RunDrain:
    """`drain` on the test's own job, instance and worker, or one made from it with `changes`."""
    job = definitions.resolve_job_def(PROCESS_SIGNALS)

    def run(*, settings: Settings = worker.settings, name: str = worker.name, **options: Any) -> int:
        return drain(job, instance, Worker(worker.engine, settings, name), **options)

    return run


def test_a_queue_with_failures_and_dead_workers_claims_is_emptied(
    engine: Engine, instance: DagsterInstance, worker: Worker, run_drain: RunDrain
) -> None:
    good = insert_signals(engine, 50)
    bad = insert_signals(engine, 4, equipment="bad", phases=np.full((3, 2000), np.inf, dtype=np.float32))
    short = insert_signals(engine, 3, equipment="short", phases=recording(seconds=0.5))
    dead = insert_signals(engine, 3, equipment="dead")
    change(engine, "UPDATE raw_signals SET created_at = '2000-01-01' WHERE id = ANY(:ids)", ids=dead)
    claims.claim_pending(engine, settings=worker.settings.claims, claimed_by="dead", limit=3)
    change(engine, "UPDATE raw_signals SET attempts = 1, work_started_at = now() WHERE id = :id", id=dead[0])
    expire(engine)
    batches: list[int] = []
    assert run_drain(on_batch=batches.append) == 60
    assert sorted(batches) == [1, 10, 24, 25]
    reasons = dict.fromkeys(bad, "validation_failed") | dict.fromkeys(short, "insufficient_data")
    assert failures(engine) == reasons
    assert {i for i, status in statuses(engine).items() if status == "completed"} == {*good, *dead}
    assert count(engine, "features") == 53 * 3
    for key in ops.PER_SIGNAL:
        assert materialized(instance, key) == {str(i) for i in (*good, *dead)}
    assert run_drain() == 0


def test_an_empty_queue_needs_no_run(instance: DagsterInstance, run_drain: RunDrain) -> None:
    assert run_drain() == 0
    assert instance.get_runs_count() == 0


def test_samples_that_a_dead_worker_should_have_cleared_go_when_nothing_is_left_to_do(
    engine: Engine, run_drain: RunDrain, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(csv_of(recording()))
    load_one(engine, path)
    kept = "SELECT count(phase_a) FROM raw_signals WHERE processing_status = 'completed'"
    assert run_drain() == 1
    assert value(engine, kept) == 1
    assert run_drain(settings=Settings(ingest=IngestSettings(retain_raw_signals=False))) == 0
    assert value(engine, kept) == 0


def claim_all(engine: Engine, worker: Worker) -> None:
    claims.claim_pending(engine, settings=worker.settings.claims, claimed_by="other-host")


def test_what_a_live_worker_holds_is_left_to_it(engine: Engine, worker: Worker, run_drain: RunDrain) -> None:
    (held,) = insert_signals(engine, 1)
    claim_all(engine, worker)
    before = row(engine, held)
    assert run_drain() == 0
    assert row(engine, held) == before


def test_waiting_takes_over_what_a_dying_worker_held(
    engine: Engine, worker: Worker, run_drain: RunDrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_signals(engine, 2)
    claim_all(engine, worker)
    naps: list[float] = []

    def its_lease_runs_out_meanwhile(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            expire(engine)

    monkeypatch.setattr(drain_module, "sleep", its_lease_runs_out_meanwhile)
    assert run_drain(wait=True) == 2
    assert len(naps) == 2
    assert set(statuses(engine).values()) == {"completed"}


def test_claims_that_wait_for_their_run_are_kept_alive(
    engine: Engine, worker: Worker, run_drain: RunDrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fetch can bring several claims: the signals that dead workers were at come alone."""
    insert_signals(engine, 3)
    claim_all(engine, worker)
    change(engine, "UPDATE raw_signals SET attempts = 1, work_started_at = now()")
    expire(engine)
    leases: list[Any] = []
    query = "SELECT min(lease_expires_at) FROM raw_signals WHERE processing_status = 'processing'"

    def until_the_others_are_renewed(*args: Any) -> Any:
        before = value(engine, query)
        while before is not None and value(engine, query) == before:
            time.sleep(0.05)
        leases.append(before)
        return finalize.complete_batch(*args)

    short = Settings(claims=ClaimSettings(claim_lease_seconds=1))
    monkeypatch.setattr(ops, "complete_batch", until_the_others_are_renewed)
    assert run_drain(settings=short) == 3
    assert len(leases) == 3
    assert set(statuses(engine).values()) == {"completed"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_the_whole_drain_and_gives_everything_back(
    engine: Engine,
    instance: DagsterInstance,
    run_drain: RunDrain,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    ids = insert_signals(engine, 6)

    def stop(*_: Any) -> None:
        os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(ops, "score_batch", stop)
        with pytest.raises(KeyboardInterrupt):
            run_drain(settings=small(4))
    assert instance.get_runs_count() == 1
    assert not any(row(engine, i).is_live for i in ids)
    assert sorted(set(statuses(engine).values())) == ["pending", "processing"]
    assert run_drain() == 6
    assert set(statuses(engine).values()) == {"completed"}
    assert value(engine, "SELECT max(attempts) FROM raw_signals") == 1


def test_keys_that_cannot_be_placed_give_everything_back(
    engine: Engine, run_drain: RunDrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = insert_signals(engine, 2)

    def storage_is_away(*_: Any) -> None:
        raise ConnectionError("Dagster's storage is away")

    monkeypatch.setattr(drain_module, "place_keys", storage_is_away)
    with pytest.raises(ConnectionError):
        run_drain()
    assert not any(row(engine, i).is_live for i in ids)
