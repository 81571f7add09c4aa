"""How a run of claimed signals ends: well, robbed of its claim, broken, cancelled, or without a database."""

import os
import signal
from typing import Any

import pytest
from dagster import DagsterInstance, Definitions
from sqlalchemy import Engine, text

from signal_pipeline.db import claims
from signal_pipeline.domain import FailureReason
from signal_pipeline.orchestration import ops
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.partitions import PARTITIONS_NAME
from signal_pipeline.orchestration.sensors import tick
from signal_pipeline.processing import extract
from signal_pipeline.processing.batch import Batch, Outcomes
from signal_pipeline.processing.score import score_batch
from signal_pipeline.processing.worker import Worker, retrying
from signal_pipeline_tests.orchestration.conftest import Materialize, SensorRuns, complaint, materialized
from signal_pipeline_tests.signals import (
    change,
    count,
    expire,
    failure,
    failures,
    features_hash,
    insert_signals,
    recording,
    row,
    statuses,
    steal,
    totals,
    value,
)


def test_claimed_signals_are_completed_and_materialized(
    engine: Engine, instance: DagsterInstance, sensor_runs: SensorRuns
) -> None:
    ids = insert_signals(engine, 3)
    (result,) = sensor_runs()
    assert result.success
    assert set(statuses(engine).values()) == {"completed"}
    for key in ops.PER_SIGNAL:
        assert materialized(instance, key) == {str(i) for i in ids}


def test_a_claim_that_was_lost_before_the_run_began_writes_nothing(
    engine: Engine, instance: DagsterInstance, sensor_runs: SensorRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = insert_signals(engine, 2)
    real = ops.take

    def too_late(*args: Any) -> Any:
        steal(engine, ids)
        return real(*args)

    monkeypatch.setattr(ops, "take", too_late)
    (result,) = sensor_runs()
    assert not result.success
    assert "no signal carries the claim" in complaint(result)
    assert {row(engine, i).claimed_by for i in ids} == {"thief"}
    assert count(engine, "features") == 0
    assert materialized(instance, "raw_signals") == set()


@pytest.mark.parametrize("step", ["extract_batch", "score_batch", "complete_batch"])
def test_a_claim_that_is_lost_between_two_steps_writes_nothing_more(
    engine: Engine, sensor_runs: SensorRuns, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ids = insert_signals(engine, 3)
    real = getattr(ops, step)
    before: list[Any] = []

    def after_the_theft(*args: Any) -> Any:
        steal(engine, ids[:1])
        before.extend((row(engine, ids[0]), features_hash(engine)))
        return real(*args)

    monkeypatch.setattr(ops, step, after_the_theft)
    (result,) = sensor_runs()
    assert not result.success
    assert "The claim was lost, and nothing more was written" in complaint(result)
    assert row(engine, ids[0]) == before[0]
    assert set(statuses(engine).values()) == {"processing"}
    if step == "complete_batch":
        assert features_hash(engine) == before[1]
    else:
        n = value(engine, "SELECT count(*) FROM features WHERE raw_id = :id", id=ids[0])
        assert n == (0 if step == "extract_batch" else 3)


def test_what_a_lost_claim_left_is_finished_by_the_next_worker(
    engine: Engine, sensor_runs: SensorRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = insert_signals(engine, 3)

    def robbed(worker: Worker, batch: Batch, *_: Any) -> None:
        steal(engine, ids)
        claims.held(worker.engine, batch.token)

    with monkeypatch.context() as patch:
        patch.setattr(ops, "complete_batch", robbed)
        sensor_runs()
    expire(engine)
    assert all(result.success for result in sensor_runs())
    assert set(statuses(engine).values()) == {"completed"}
    assert count(engine, "features") == 9


def break_down(*_: Any) -> Outcomes:
    raise ZeroDivisionError("nobody foresaw this")


def test_an_unforeseen_error_outside_any_signal_fails_the_unfinished_ones(
    engine: Engine, sensor_runs: SensorRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = insert_signals(engine, 2)
    (short,) = insert_signals(engine, 1, equipment="short", phases=recording(seconds=0.5))
    monkeypatch.setattr(ops, "score_batch", break_down)
    (result,) = sensor_runs()
    assert not result.success
    assert failures(engine) == dict.fromkeys(good, "internal_error") | {short: "insufficient_data"}
    assert failure(engine, good[0])["message"] == "ZeroDivisionError: nobody foresaw this"
    assert totals(engine)["signals_failed_total:finalize:internal_error"] == 2


def test_a_run_that_breaks_leaves_the_other_runs_of_its_claim_alone(
    engine: Engine, instance: DagsterInstance, sensor_runs: SensorRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that may not be moved split one claim into two runs."""
    ids = insert_signals(engine, 2)
    instance.add_dynamic_partitions(PARTITIONS_NAME, [str(ids[0]), "foreign", str(ids[1])])
    monkeypatch.setattr("signal_pipeline.orchestration.partitions.unfinished_backfills", lambda *_, **__: ["one"])
    calls: list[Any] = []

    def break_the_first(*args: Any) -> Outcomes:
        calls.append(args)
        return break_down() if len(calls) == 1 else score_batch(*args)

    monkeypatch.setattr(ops, "score_batch", break_the_first)
    assert [result.success for result in sensor_runs()] == [False, True]
    assert statuses(engine) == {ids[0]: "failed", ids[1]: "completed"}
    assert materialized(instance, "anomaly_scores") == {str(ids[1])}


def test_a_database_that_stays_away_fails_the_run_and_no_signal(
    engine: Engine, sensor_runs: SensorRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_signals(engine, 2)

    def broken(conn: Any, _: Any) -> None:
        conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with monkeypatch.context() as patch:
        patch.setattr(extract, "work_done", broken)
        patch.setattr(extract, "retrying", lambda function: retrying(function, seconds=0.3))
        (result,) = sensor_runs()
    assert not result.success
    assert set(statuses(engine).values()) == {"processing"}
    expire(engine)
    assert all(result.success for result in sensor_runs())
    assert set(statuses(engine).values()) == {"completed"}


@pytest.mark.parametrize("step", ["extract_batch", "score_batch"])
def test_a_run_that_a_person_cancels_fails_its_signals(
    engine: Engine, instance: DagsterInstance, sensor_runs: SensorRuns, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ids = insert_signals(engine, 2)

    def cancelled(*_: Any) -> None:
        (run,) = instance.get_runs()
        instance.report_run_canceling(run)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ops, step, cancelled)
    (result,) = sensor_runs()
    assert not result.success
    assert failures(engine) == dict.fromkeys(ids, FailureReason.CANCELLED.value)
    assert "cancelled by a person" in failure(engine, ids[0])["message"]


def test_a_run_whose_host_stops_gives_its_signals_back_at_once(
    engine: Engine, sensor_runs: SensorRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = insert_signals(engine, 2)

    def stopped(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(ops, "score_batch", stopped)
        sensor_runs()
    assert {(row(engine, i).processing_status, row(engine, i).is_live) for i in ids} == {("processing", False)}
    assert all(result.success for result in sensor_runs())
    assert set(statuses(engine).values()) == {"completed"}


def test_a_loan_ends_however_its_run_ends(
    engine: Engine, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = insert_signals(engine, 2)
    materialize([str(i) for i in ids])
    monkeypatch.setattr(ops, "score_batch", break_down)
    assert not materialize([str(i) for i in ids], assets=["anomaly_scores"]).success
    assert {(r.processing_status, r.claim_token) for r in (row(engine, i) for i in ids)} == {("completed", None)}


def test_a_sensor_run_that_is_executed_again_is_a_persons_request(
    engine: Engine, instance: DagsterInstance, definitions: Definitions, worker: Worker
) -> None:
    """It carries the parent's claim tag, but the parent has spent that claim."""
    ids = insert_signals(engine, 2)
    job = definitions.resolve_job_def(PROCESS_SIGNALS)
    (request,) = tick(instance, worker)
    parent = job.execute_in_process(instance=instance, tags=request.tags, raise_on_error=False)
    change(engine, "UPDATE raw_signals SET attempts = 7")
    tags = dict(request.tags) | {"dagster/parent_run_id": parent.run_id, "dagster/root_run_id": parent.run_id}
    run = instance.create_run_for_job(job, tags=tags, parent_run_id=parent.run_id, root_run_id=parent.run_id)
    result = execute(job, run, instance)
    assert result
    assert set(statuses(engine).values()) == {"completed"}
    assert [row(engine, i).attempts for i in ids] == [1, 1]
    own = instance.get_run_by_id(run.run_id)
    assert own is not None
    assert own.tags["signal_pipeline/claim"] != request.tags["signal_pipeline/claim"]


def execute(job: Any, run: Any, instance: DagsterInstance) -> bool:
    """Execute a run that exists already; whether it succeeded."""
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.execution.api import execute_run

    return execute_run(InMemoryJob(job), run, instance).success
