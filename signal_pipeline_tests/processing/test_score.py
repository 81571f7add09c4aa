"""Scores as they are stored: in time order whatever the workers do, never twice, never learnt twice."""

import random
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from sqlalchemy import Engine, insert, select, text

from signal_pipeline.anomaly.models import load_latest
from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.models import Equipment, RawSignal
from signal_pipeline.db.proposals import open_proposals
from signal_pipeline.ingest import codec
from signal_pipeline.processing.batch import Batch, Outcomes
from signal_pipeline.processing.models import accept, detect, rescore, train
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ModelSettings, Settings
from signal_pipeline_tests.signals import FS, MIDNIGHT, NAMESPACE, count, current, statuses

HEALTHY = 40


def add(engine: Engine, numbers: list[int], *, faulty: frozenset[int] = frozenset()) -> list[UUID]:
    """Pending recordings of M1 a minute apart, number k at minute k, created in the order given."""
    with engine.begin() as conn:
        found = conn.execute(select(Equipment.id).where(Equipment.name == "M1")).scalar_one_or_none()
        equipment = found or conn.execute(insert(Equipment).values(name="M1").returning(Equipment.id)).scalar_one()
        ids = []
        for k in numbers:
            samples = current(k, seconds=4.0, fault=0.2 if k in faulty else 0.0)
            ids.append(uuid5(NAMESPACE, f"score:{k}"))
            row = {
                "id": ids[-1],
                "equipment_id": equipment,
                "sample_rate_hz": FS,
                "recorded_at": MIDNIGHT + timedelta(minutes=k),
                "samples_count": samples.shape[1],
            }
            row |= {f"phase_{p}": codec.encode(phase) for p, phase in zip("abc", samples, strict=True)}
            conn.execute(insert(RawSignal), [row])
    return ids


def work_off(worker: Worker, *, limit: int | None = None) -> Outcomes:
    """All that is pending; what became of every signal."""
    outcomes = Outcomes()
    while got := claim_pending(worker.engine, settings=worker.settings.claims, claimed_by="t", limit=limit).claims:
        for claim in got:
            one = run_batch(worker, Batch(claim.token, claim.signal_ids))
            outcomes.done |= one.done
            outcomes.failed |= one.failed
    return outcomes


@pytest.fixture
def worker(engine: Engine, tmp_path: Path) -> Worker:
    """A worker with a model of 40 healthy recordings."""
    worker = Worker(engine, Settings(models=ModelSettings(models_dir=tmp_path / "models")), "t")
    add(engine, list(range(HEALTHY)))
    work_off(worker)
    train(worker)
    return worker


def dump(engine: Engine) -> tuple[list[Any], list[Any], list[Any]]:
    """Scores, states and events, without what differs from run to run (numbers of rows, times of writing)."""
    queries = (
        "SELECT raw_id, window_start, model_kind, float8send(score)::text, threshold, is_anomaly, meta::text "
        "FROM anomaly_scores ORDER BY window_start, raw_id, model_kind",
        "SELECT state::text, tracker::text, last_window_start, last_raw_id FROM anomaly_states ORDER BY equipment_id",
        "SELECT started_at, ended_at, peak_score, windows, is_open, features::text FROM anomaly_events ORDER BY 1",
    )
    with engine.connect() as conn:
        scores, states, events = ([tuple(row) for row in conn.execute(text(q))] for q in queries)
    return scores, states, events


def forget(engine: Engine) -> None:
    """Back to before the new recordings came."""
    with engine.begin() as conn:
        for table in ("anomaly_scores", "anomaly_events", "anomaly_states"):
            conn.execute(text(f"DELETE FROM {table}"))
        conn.execute(
            text("DELETE FROM raw_signals WHERE recorded_at >= :at"), {"at": MIDNIGHT + timedelta(minutes=HEALTHY)}
        )


NEW = list(range(HEALTHY, HEALTHY + 16))
FAULTY = frozenset(range(HEALTHY + 10, HEALTHY + 16))


def test_a_fault_is_scored_as_anomalous_and_becomes_an_event(engine: Engine, worker: Worker) -> None:
    add(engine, NEW, faulty=FAULTY)
    outcomes = work_off(worker)
    with engine.connect() as conn:
        rows = conn.execute(
            text(
                "SELECT s.raw_id, count(*) AS n, count(*) FILTER (WHERE is_anomaly) AS bad FROM anomaly_scores AS s "
                "JOIN raw_signals AS r ON r.id = s.raw_id WHERE model_kind = 'stream' "
                "GROUP BY 1, r.recorded_at ORDER BY r.recorded_at"
            )
        ).all()
        events = conn.execute(text("SELECT started_at, is_open, features FROM anomaly_events")).all()
    assert [row.n for row in rows] == [7] * len(NEW)
    assert sum(row.bad for row in rows[:10]) == 0
    assert all(row.bad >= 6 for row in rows[11:])
    assert len(events) == 1
    assert (
        MIDNIGHT + timedelta(minutes=HEALTHY + 10) <= events[0].started_at < MIDNIGHT + timedelta(minutes=HEALTHY + 11)
    )
    assert {o.details["scored"] for o in outcomes.done.values()} == {7}


def test_scores_and_state_are_the_same_bytes_whatever_the_order_and_size_of_claims(
    engine: Engine, worker: Worker
) -> None:
    add(engine, NEW, faulty=FAULTY)
    work_off(worker)
    expected = dump(engine)
    assert len(expected[0]) == 7 * len(NEW)
    for seed, limit in ((1, 1), (2, 3), (3, 5)):
        forget(engine)
        shuffled = NEW.copy()
        random.Random(seed).shuffle(shuffled)
        add(engine, shuffled, faulty=FAULTY)
        work_off(worker, limit=limit)
        assert dump(engine) == expected


def test_workers_at_the_same_time_give_the_same_bytes(engine: Engine, worker: Worker) -> None:
    add(engine, NEW, faulty=FAULTY)
    work_off(worker)
    expected = dump(engine)
    forget(engine)
    add(engine, NEW[::-1], faulty=FAULTY)
    threads = [threading.Thread(target=work_off, args=(worker,), kwargs={"limit": 2}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses(engine).values()) == {"completed"}
    assert dump(engine) == expected


def test_a_signal_waits_for_an_earlier_one_and_is_scored_when_that_one_is_finished(
    engine: Engine, worker: Worker
) -> None:
    (later,) = add(engine, [NEW[1]])
    (earlier,) = add(engine, [NEW[0]])
    (claim,) = claim_pending(engine, settings=worker.settings.claims, claimed_by="t", limit=1).claims
    assert claim.signal_ids == (later,)
    waited = run_batch(worker, Batch(claim.token, claim.signal_ids)).done[later].details
    assert waited["scored"] == 0
    assert statuses(engine)[later] == "completed"
    work_off(worker)
    assert [row[0] for row in dump(engine)[0]] == [earlier] * 7 + [later] * 7


def test_a_signal_that_waited_for_one_that_fails_is_scored_then(engine: Engine, worker: Worker) -> None:
    (later,) = add(engine, [NEW[1]])
    (earlier,) = add(engine, [NEW[0]])
    (claim,) = claim_pending(engine, settings=worker.settings.claims, claimed_by="t", limit=1).claims
    run_batch(worker, Batch(claim.token, claim.signal_ids))
    with engine.begin() as conn:
        conn.execute(text("UPDATE raw_signals SET phase_a = 'rubbish' WHERE id = :id"), {"id": earlier})
    work_off(worker)
    assert statuses(engine)[earlier] == "failed"
    assert [row[0] for row in dump(engine)[0]] == [later] * 7


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


def test_recomputing_a_signal_makes_no_second_score(engine: Engine, worker: Worker) -> None:
    add(engine, NEW[:3])
    work_off(worker)
    before = dump(engine)
    with engine.begin() as conn:
        conn.execute(text("UPDATE raw_signals SET processing_status = 'pending'"))
    work_off(worker)
    scores, states, _ = dump(engine)
    assert states == before[1]
    # recordings from before the model are scored now that a person asked for them; the others as they were
    assert [row for row in scores if row in set(before[0])] == before[0]


def test_the_detect_pass_scores_each_window_once_and_outside_the_stream(engine: Engine, worker: Worker) -> None:
    first = detect(worker)
    assert first["M1"].windows == 7 * HEALTHY
    assert detect(worker)["M1"].windows == 0
    with engine.connect() as conn:
        online = conn.execute(text("SELECT DISTINCT meta ->> 'online' FROM anomaly_scores")).scalars().all()
    assert online == ["false"]
    assert count(engine, "anomaly_states") == 0


def test_a_threshold_of_the_settings_overrides_the_calibrated_one(
    engine: Engine, worker: Worker, tmp_path: Path
) -> None:
    settings = Settings(models=ModelSettings(models_dir=worker.settings.models.models_dir, anomaly_threshold=1e-6))
    add(engine, NEW[:4])
    work_off(Worker(engine, settings, "t"))
    with engine.connect() as conn:
        rows = conn.execute(
            text("SELECT threshold, is_anomaly, meta ->> 'warming' AS warming FROM anomaly_scores")
        ).all()
    assert {row.threshold for row in rows} == {1e-6}
    assert all(row.is_anomaly == (row.warming == "false") for row in rows)


def test_a_broken_manifest_is_refused_and_signals_still_complete(engine: Engine, worker: Worker) -> None:
    manifest = worker.settings.models.models_dir / "anomaly_detection" / "latest" / "manifest.json"
    manifest.write_text("{")
    add(engine, NEW[:2])
    outcomes = work_off(worker)
    assert {o.details["reason"] for o in outcomes.done.values()} == {"manifest_refused"}
    assert set(statuses(engine).values()) == {"completed"}


def test_training_says_how_many_windows_each_equipment_gave(engine: Engine, worker: Worker) -> None:
    trained = train(worker, equipment=["M1"])
    assert trained.windows == {"M1": 7 * HEALTHY}
    assert trained.models.parent is not None
    with pytest.raises(ValueError, match="no such equipment: M9"):
        train(worker, equipment=["M9"])


def test_new_signals_get_an_embedding_once_there_is_one(engine: Engine, worker: Worker) -> None:
    add(engine, NEW[:1])
    work_off(worker)
    with engine.connect() as conn:
        rows = conn.execute(
            text("SELECT cardinality(embedding) AS k, count(*) AS n FROM features GROUP BY 1 ORDER BY 1 NULLS FIRST")
        ).all()
    assert [(row.k, row.n) for row in rows] == [(None, 7 * HEALTHY), (8, 7)]


def test_a_drift_is_proposed_once_and_accepting_it_trains_a_new_reference(
    engine: Engine, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal_pipeline.anomaly.drift.MIN_WINDOWS", 70)
    monkeypatch.setattr("signal_pipeline.anomaly.drift.NEAR_THE_BOUND", 0.0)
    add(engine, NEW)
    work_off(worker, limit=5)
    with engine.connect() as conn:
        (proposal,) = open_proposals(conn)
    assert proposal.equipment == "M1"
    before = load_latest(worker.settings.models.models_dir)
    accepted = accept(worker, proposal.id)
    assert before is not None
    assert accepted.models.parent == before.version
    with engine.connect() as conn:
        assert open_proposals(conn) == []
    with pytest.raises(ValueError, match="not open"):
        accept(worker, proposal.id)
