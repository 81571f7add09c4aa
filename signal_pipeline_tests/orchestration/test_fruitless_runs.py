"""Runs that end before they do anything for their signals: tried again a few times, and then said to be broken."""

import re

import pytest
from dagster import DagsterInstance
from sqlalchemy import Engine

from signal_pipeline.db import claims
from signal_pipeline.errors import FruitlessRuns
from signal_pipeline.orchestration.build import build_definitions
from signal_pipeline.orchestration.drain import FRUITLESS_RUNS, drain
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings
from signal_pipeline_tests.signals import insert_signals, row, statuses


def drained(engine: Engine, instance: DagsterInstance, *, broken_runs: int, wait: bool) -> int:
    """Drain with a resource that cannot be made for so many runs."""
    left = broken_runs

    def make(name: str) -> Worker:
        nonlocal left
        if left:
            left -= 1
            raise RuntimeError("no room for an engine\nand more about it")
        return Worker(engine, Settings(), name)

    job = build_definitions(Settings(), make_worker=make).resolve_job_def(PROCESS_SIGNALS)
    return drain(job, instance, Worker(engine, Settings(), "test"), wait=wait)


@pytest.mark.parametrize("wait", [False, True])
def test_runs_that_come_to_nothing_end_the_draining_and_say_why(
    engine: Engine, instance: DagsterInstance, *, wait: bool
) -> None:
    ids = insert_signals(engine, 2)
    said = f"{FRUITLESS_RUNS} runs in a row ended before they finished a signal, the last one with: "
    with pytest.raises(FruitlessRuns, match=re.escape(f"{said}RuntimeError: no room for an engine. No signal")):
        drained(engine, instance, broken_runs=1000, wait=wait)
    assert instance.get_runs_count() == FRUITLESS_RUNS
    assert [row(engine, i).attempts for i in ids] == [0, 0]
    (claim,) = claims.claim_pending(engine, settings=Settings().claims, claimed_by="next").claims
    assert set(claim.signal_ids) == set(ids)


def test_after_a_few_such_runs_the_signals_are_worked_on_and_counted_once(
    engine: Engine, instance: DagsterInstance
) -> None:
    insert_signals(engine, 2)
    assert drained(engine, instance, broken_runs=FRUITLESS_RUNS - 1, wait=False) == 2
    assert set(statuses(engine).values()) == {"completed"}


def test_a_signal_at_whose_work_a_run_ended_is_left_to_its_lease_and_its_attempts(
    engine: Engine, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a signal that breaks its run each time would be tried for ever, or end the draining of all others."""
    (signal_id,) = insert_signals(engine, 1)

    def away(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("signal_pipeline.processing.extract.extract_signal", away)
    monkeypatch.setattr("signal_pipeline.processing.extract._concerns_all", lambda _: True)
    monkeypatch.setattr("signal_pipeline.orchestration.conclusion.is_transient", lambda _: True)
    assert drained(engine, instance, broken_runs=0, wait=False) == 1
    found = row(engine, signal_id)
    assert (found.processing_status, found.attempts, found.is_live) == ("processing", 1, True)
    assert found.work_started_at is not None
