"""Scores as they are stored: in time order whatever the workers do, never twice, never learnt twice."""

import random
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from signal_pipeline.anomaly.models import load_latest
from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.proposals import open_proposals
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.models import detect
from signal_pipeline.processing.proposals import accept
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.training import train
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ModelSettings, Settings
from signal_pipeline_tests.processing.minutes import FAULTY, HEALTHY, NEW, add, dump, forget, trained_worker, work_off
from signal_pipeline_tests.signals import MIDNIGHT, change, count, statuses, value


@pytest.fixture
def worker(engine: Engine, tmp_path: Path) -> Worker:
    return trained_worker(engine, tmp_path / "models")


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


def test_a_line_about_scores_names_the_equipment_as_people_do_and_says_claim_and_how_long(
    engine: Engine, worker: Worker
) -> None:
    add(engine, NEW[:2])
    with capture_logs(processors=[merge_contextvars]) as lines:
        work_off(worker)
    told = [line for line in lines if line["event"] == "windows.scored"]
    with engine.connect() as conn:
        names = set(conn.execute(text("SELECT name FROM equipment")).scalars())
    assert told
    for line in told:
        assert line["equipment"] in names
        assert (line["signals"], line["windows"]) == (2, 14)
        assert {"claim", "seconds"} <= set(line)


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


def test_recordings_of_one_and_the_same_time_can_be_learnt_from(engine: Engine, worker: Worker) -> None:
    change(
        engine,
        "UPDATE features AS f SET window_start = :midnight + (f.window_start - r.recorded_at) "
        "FROM raw_signals AS r WHERE r.id = f.raw_id",
        midnight=MIDNIGHT,
    )
    assert value(engine, "SELECT count(DISTINCT window_start) FROM features") == 7
    trained = train(worker, equipment=["M1"])
    assert trained.windows == {"M1": 7 * HEALTHY}
    assert not trained.refused


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
