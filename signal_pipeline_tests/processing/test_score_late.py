"""Recordings that come after a newer one was learnt: scored and not learnt, and the same whoever does it, and when."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.db.claims import claim_pending
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.extract import extract_batch
from signal_pipeline.processing.models import rescore
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline_tests.processing.minutes import FAULTY, HEALTHY, NEW, add, dump, forget, trained_worker, work_off
from signal_pipeline_tests.signals import MIDNIGHT, statuses


@pytest.fixture
def worker(engine: Engine, tmp_path: Path) -> Worker:
    return trained_worker(engine, tmp_path / "models")


def test_a_late_recording_is_scored_but_not_learnt_and_a_replay_puts_it_in_its_place(
    engine: Engine, worker: Worker
) -> None:
    add(engine, NEW[:4])
    work_off(worker)
    in_order = dump(engine)
    forget(engine)
    add(engine, [NEW[0], NEW[1], NEW[3]])
    work_off(worker)
    (_, states, _) = dump(engine)
    (late,) = add(engine, [NEW[2]])
    work_off(worker)
    scores, after, _ = dump(engine)
    assert after == states
    flags = {row[0]: '"late": true' in row[6] for row in scores}
    assert flags == {i: i == late for i in flags}
    with engine.begin() as conn:
        conn.execute(
            text("DELETE FROM raw_signals WHERE recorded_at < :at"), {"at": MIDNIGHT + timedelta(minutes=HEALTHY)}
        )
    assert rescore(worker, equipment=["M1"])["M1"].windows == 28
    assert dump(engine) == in_order


def test_late_recordings_of_more_windows_than_a_transaction_takes_are_scored_to_the_last(
    engine: Engine, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal_pipeline.processing.score.WINDOWS_A_TRANSACTION", 5)
    add(engine, [NEW[2]])
    work_off(worker)
    add(engine, NEW[:2])
    work_off(worker)
    assert ['"late": true' in row[6] for row in dump(engine)[0]] == [True] * 14 + [False] * 7


def claim_one(worker: Worker) -> Batch:
    """A claim on the oldest pending signal alone."""
    (claim,) = claim_pending(worker.engine, settings=worker.settings.claims, claimed_by="t", limit=1).claims
    return Batch(claim.token, claim.signal_ids)


def test_a_late_recording_that_another_worker_overtakes_is_scored_as_if_nobody_had(
    engine: Engine, worker: Worker
) -> None:
    def late_and_newer(*, overtaken: bool) -> None:
        add(engine, [NEW[2]])
        work_off(worker)
        add(engine, [NEW[0], *NEW[10:]], faulty=FAULTY)
        late = claim_one(worker)
        extract_batch(worker, late, True)
        if overtaken:
            work_off(worker)
        run_batch(worker, late)
        work_off(worker)
        assert set(statuses(engine).values()) == {"completed"}

    late_and_newer(overtaken=False)
    expected = dump(engine)
    forget(engine)
    late_and_newer(overtaken=True)
    assert dump(engine) == expected


def test_late_recordings_are_the_same_bytes_however_many_windows_go_into_a_transaction(
    engine: Engine, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scored() -> object:
        add(engine, [NEW[2]])
        work_off(worker)
        add(engine, [*NEW[:2], *NEW[10:]], faulty=FAULTY)
        work_off(worker)
        return dump(engine)

    expected = scored()
    forget(engine)
    monkeypatch.setattr("signal_pipeline.processing.score.WINDOWS_A_TRANSACTION", 3)
    assert scored() == expected
