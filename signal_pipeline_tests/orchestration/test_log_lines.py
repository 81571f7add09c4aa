"""A line in the log for each key step of a run, and for each signal that fails: with signal, claim, run, duration."""

from dagster import DagsterInstance
from sqlalchemy import Engine
from structlog.contextvars import get_contextvars, merge_contextvars
from structlog.testing import capture_logs

from signal_pipeline.db import claims
from signal_pipeline.orchestration.sensors import tick
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings
from signal_pipeline_tests.orchestration.conftest import Materialize
from signal_pipeline_tests.signals import insert_signals, recording

STEPS = ["claim_signals", "extract", "summarize", "diagnose", "score", "finalize"]


def test_each_step_of_a_run_leaves_a_line_with_its_claim_its_run_and_how_long_it_took(
    engine: Engine, materialize: Materialize
) -> None:
    good = insert_signals(engine, 2)
    (short,) = insert_signals(engine, 1, equipment="short", phases=recording(seconds=0.5))
    with capture_logs() as lines:
        result = materialize([str(i) for i in (*good, short)])
    steps = [line for line in lines if line["event"] == "step.done"]
    assert [line["step"] for line in steps] == STEPS
    (claim,) = {line["claim"] for line in steps}
    assert {line["run"] for line in steps} == {result.run_id}
    assert [(line["signals"], line["failed"]) for line in steps] == [(3, 0)] + [(2, 1)] * 5
    assert all(line["seconds"] >= 0 for line in steps)

    extracted = [line for line in lines if line["event"] == "signal.extracted"]
    assert {line["signal"] for line in extracted} == {str(i) for i in good}
    for line in extracted:
        assert line["claim"] == claim
        assert {"load", "validate", "extract"} <= line["seconds"].keys()

    (failed,) = (line for line in lines if line["event"] == "signal.failed")
    assert (failed["signal"], failed["claim"], failed["reason"]) == (str(short), claim, "insufficient_data")


def test_each_key_step_says_signal_claim_run_and_how_long_it_took_in_whatever_thread(
    engine: Engine, materialize: Materialize
) -> None:
    """As they are written: what a step has bound is part of each line."""
    ids = insert_signals(engine, 3)
    with capture_logs(processors=[merge_contextvars]) as lines:
        result = materialize([str(i) for i in ids])
    (claim,) = {line["claim"] for line in lines if line["event"] == "step.done"}
    for event in ("signal.extracted", "signal.diagnosed", "signal.completed"):
        told = [line for line in lines if line["event"] == event]
        assert {line["signal"] for line in told} == {str(i) for i in ids}, event
        assert {(line["claim"], line["run"]) for line in told} == {(claim, result.run_id)}, event
        assert all("seconds" in line for line in told), event
    assert not get_contextvars(), "nothing stays bound after the run"


def test_without_dagster_the_lines_say_the_claim(engine: Engine) -> None:
    insert_signals(engine, 2)
    settings = Settings()
    (claim,) = claims.claim_pending(engine, settings=settings.claims, claimed_by="test").claims
    with capture_logs(processors=[merge_contextvars]) as lines:
        run_batch(Worker(engine, settings, "test"), Batch(claim.token, claim.signal_ids))
    assert {line.get("claim") for line in lines} == {str(claim.token)}
    assert not any("run" in line for line in lines)


def test_the_sensor_names_each_claim_that_it_takes(engine: Engine, instance: DagsterInstance, worker: Worker) -> None:
    insert_signals(engine, 3)
    with capture_logs() as lines:
        (request,) = tick(instance, worker)
    (claimed,) = (line for line in lines if line["event"] == "signals.claimed")
    assert (claimed["signals"], claimed["by"]) == (3, worker.name)
    assert claimed["claim"] in str(request.run_key)
