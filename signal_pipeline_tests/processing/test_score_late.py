"""Recordings that come after a newer one was learnt: scored and not learnt, and the same whoever does it, and when."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.db.claims import claim_pending
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.extract import extract_batch
from signal_pipeline.processing.models import rescore
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.score import score_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline_tests.processing.minutes import FAULTY, HEALTHY, NEW, add, dump, forget, trained_worker, work_off
from signal_pipeline_tests.signals import MIDNIGHT, change, count, failure, statuses, totals, value


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


def test_windows_are_counted_whether_they_were_learnt_came_late_or_were_replayed(
    engine: Engine, worker: Worker
) -> None:
    def stored() -> tuple[int, int]:
        anomalies = value(engine, "SELECT count(*) FROM anomaly_scores WHERE is_anomaly")
        return count(engine, "anomaly_scores"), anomalies

    def counted() -> tuple[int, int]:
        found = totals(engine)
        return found["windows_scored_total"], found["windows_anomalous_total"]

    add(engine, [NEW[0], NEW[2], *FAULTY], faulty=FAULTY)
    work_off(worker)
    learnt = stored()
    add(engine, [NEW[1]])
    work_off(worker)
    with_late = stored()
    assert counted() == with_late
    assert with_late[0] > learnt[0] > learnt[1] > 0
    rescore(worker, equipment=["M1"])
    replayed = stored()
    assert counted() == (with_late[0] + replayed[0], with_late[1] + replayed[1])


def test_a_recording_of_the_future_is_refused_and_silences_nobody(engine: Engine, worker: Worker) -> None:
    add(engine, NEW[:4])
    work_off(worker)
    expected = dump(engine)
    forget(engine)
    (wrong,) = add(engine, [NEW[10]])
    change(engine, "UPDATE raw_signals SET recorded_at = '2099-01-01' WHERE id = :id", id=wrong)
    work_off(worker)
    said = failure(engine, wrong)
    assert (said["reason"], statuses(engine)[wrong]) == ("validation_failed", "failed")
    assert "2099-01-01T00:00:00+00:00" in said["message"]
    add(engine, NEW[:4])
    work_off(worker)
    assert dump(engine) == expected


def test_a_clock_that_is_minutes_fast_fails_nothing(engine: Engine, worker: Worker) -> None:
    (ahead,) = add(engine, [NEW[0]])
    change(engine, "UPDATE raw_signals SET recorded_at = now() + interval '30 minutes' WHERE id = :id", id=ahead)
    work_off(worker)
    assert statuses(engine)[ahead] == "completed"


def test_a_stream_that_a_recording_of_the_future_had_moved_is_put_right_by_a_replay(
    engine: Engine, worker: Worker
) -> None:
    """Databases of before the check hold such windows: completed, and learnt from."""
    add(engine, NEW[:4])
    work_off(worker)
    rescore(worker, equipment=["M1"])
    expected = dump(engine)
    forget(engine)
    (wrong, *_) = add(engine, [NEW[10], *NEW[:2]])
    work_off(worker)
    future = datetime(2099, 1, 1, tzinfo=UTC)
    change(engine, "UPDATE features SET window_start = :at WHERE raw_id = :id AND id = "
           "(SELECT max(id) FROM features WHERE raw_id = :id)", at=future, id=wrong)  # fmt: skip
    change(engine, "DELETE FROM features WHERE raw_id = :id AND window_start <> :at", at=future, id=wrong)
    change(engine, "UPDATE anomaly_states SET last_window_start = :at, last_raw_id = :id", at=future, id=wrong)
    rescore(worker, equipment=["M1"])
    add(engine, NEW[2:4])
    work_off(worker)
    assert dump(engine) == expected


def begun(worker: Worker, batch: Batch) -> None:
    """The first two steps of a run: what is left is to finish the signals."""
    extract_batch(worker, batch, True)
    score_batch(worker, batch, batch.signal_ids)


def test_a_replay_keeps_the_scores_of_a_signal_whose_run_is_under_way(engine: Engine, worker: Worker) -> None:
    add(engine, NEW[:3])
    work_off(worker)
    rescore(worker, equipment=["M1"])
    expected = dump(engine)
    forget(engine)
    add(engine, NEW[:2])
    work_off(worker)
    add(engine, NEW[2:3])
    under_way = claim_one(worker)
    begun(worker, under_way)
    rescore(worker, equipment=["M1"])
    assert dump(engine) == expected
    run_batch(worker, under_way)
    assert set(statuses(engine).values()) == {"completed"}
    assert dump(engine) == expected


def test_a_replay_keeps_the_scores_of_a_signal_whose_new_run_failed(engine: Engine, worker: Worker) -> None:
    ids = add(engine, NEW[:3])
    work_off(worker)
    rescore(worker, equipment=["M1"])
    expected = dump(engine)
    change(engine, "UPDATE raw_signals SET processing_status = 'pending' WHERE id = :id", id=ids[1])
    change(engine, "UPDATE raw_signals SET phase_a = 'rubbish' WHERE id = :id", id=ids[1])
    work_off(worker)
    assert statuses(engine)[ids[1]] == "failed"
    rescore(worker, equipment=["M1"])
    assert dump(engine) == expected


def test_a_replay_stops_at_a_signal_that_is_still_to_come_and_that_one_is_not_late(
    engine: Engine, worker: Worker
) -> None:
    add(engine, NEW[:4])
    work_off(worker)
    rescore(worker, equipment=["M1"])
    expected = dump(engine)
    forget(engine)
    add(engine, NEW[:2])
    work_off(worker)
    (last,) = add(engine, [NEW[3]])
    add(engine, [NEW[2]])
    run_batch(worker, claim_one(worker))
    rescore(worker, equipment=["M1"])
    assert statuses(engine)[last] == "completed"
    assert last not in {row[0] for row in dump(engine)[0]}
    work_off(worker)
    assert dump(engine) == expected


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
