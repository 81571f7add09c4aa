"""What a new version keeps of the one before: references, streams, events, decisions; and what it says it dropped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.anomaly.models import FLEET, load_latest
from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.proposals import decide, open_proposals
from signal_pipeline.errors import ManifestError
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.models import detect, rescore
from signal_pipeline.processing.proposals import accept, waiting_proposals
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.training import go_back, train
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import FeatureSettings, ModelSettings, Settings
from signal_pipeline_tests.processing.minutes import FAULTY, HEALTHY, NEW, add, work_off
from signal_pipeline_tests.signals import MIDNIGHT, change, value

LEARNT = 13
"""Recordings of 7 windows that teach each motor."""
LATER = list(range(HEALTHY, HEALTHY + 8))


@pytest.fixture
def worker(engine: Engine, tmp_path: Path) -> Worker:
    """With a model of two motors, `M1` and `M2`, and of both together."""
    worker = Worker(engine, Settings(models=ModelSettings(models_dir=tmp_path / "models")), "t")
    for name in ("M1", "M2"):
        add(engine, list(range(LEARNT)), equipment=name)
    work_off(worker)
    train(worker)
    return worker


def streams(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Scores, states and events of M2: all of its stream."""
    columns = {
        "scores": "window_start, model_kind, model_version, float8send(score)::text, meta::text",
        "states": "model_version, state::text, tracker::text, last_window_start",
        "events": "started_at, ended_at, model_version, windows, is_open",
    }
    query = "SELECT {} FROM anomaly_{} WHERE equipment_id = (SELECT id FROM equipment WHERE name = 'M2')"
    with engine.connect() as conn:
        return {
            name: sorted(tuple(row) for row in conn.execute(text(query.format(shown, name))))
            for name, shown in columns.items()
        }


def forget_scores(engine: Engine) -> None:
    for table in ("anomaly_scores", "anomaly_events", "anomaly_states"):
        change(engine, f"DELETE FROM {table}")
    change(engine, "DELETE FROM raw_signals WHERE recorded_at >= :at", at=MIDNIGHT.replace(minute=HEALTHY))


def test_training_one_motor_leaves_the_stream_of_another_as_it_would_have_been(engine: Engine, worker: Worker) -> None:
    def go_on(*, trained_between: bool) -> dict[str, list[tuple[Any, ...]]]:
        add(engine, NEW[:13], equipment="M2", faulty=FAULTY)
        work_off(worker)
        if trained_between:
            assert value(engine, "SELECT count(*) FROM anomaly_events WHERE is_open") == 1
            train(worker, equipment=["M1"], end=MIDNIGHT.replace(minute=LEARNT - 1))
            assert value(engine, "SELECT count(*) FROM anomaly_events WHERE is_open") == 1
        add(engine, NEW[13:], equipment="M2", faulty=FAULTY)
        work_off(worker)
        return streams(engine)

    expected = go_on(trained_between=False)
    assert len(expected["events"]) == 1
    forget_scores(engine)
    assert go_on(trained_between=True) == expected


def test_training_the_same_windows_again_goes_on_with_the_stream(engine: Engine, worker: Worker) -> None:
    add(engine, LATER, equipment="M2")
    work_off(worker)
    before = streams(engine)
    train(worker, end=MIDNIGHT.replace(minute=LEARNT))
    add(engine, [HEALTHY + 9], equipment="M2")
    work_off(worker)
    assert len(streams(engine)["states"]) == 1
    assert before["scores"] == [row for row in streams(engine)["scores"] if row in before["scores"]]


def test_an_open_event_ends_when_its_reference_is_replaced(engine: Engine, worker: Worker) -> None:
    add(engine, NEW[:13], equipment="M2", faulty=FAULTY)
    work_off(worker)
    assert value(engine, "SELECT count(*) FROM anomaly_events WHERE is_open") == 1
    train(worker, equipment=["M2"], end=MIDNIGHT.replace(minute=LEARNT - 1))
    assert value(engine, "SELECT count(*) FROM anomaly_events WHERE is_open") == 0
    change(engine, "UPDATE anomaly_events SET is_open = true")  # by a worker that still had the version before
    add(engine, NEW[13:14], equipment="M2")
    work_off(worker)
    assert value(engine, "SELECT count(*) FROM anomaly_events WHERE is_open") == 0


def test_a_dismissed_drift_stays_dismissed_when_another_motor_is_trained(
    engine: Engine, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal_pipeline.anomaly.drift.MIN_WINDOWS", 20)
    monkeypatch.setattr("signal_pipeline.anomaly.drift.NEAR_THE_BOUND", 0.0)
    add(engine, LATER[:4], equipment="M2")
    work_off(worker)
    with engine.begin() as conn:
        (proposal,) = open_proposals(conn)
        decide(conn, proposal.id, accepted=False)
    train(worker, equipment=["M1"], end=MIDNIGHT.replace(minute=LEARNT - 1))
    add(engine, LATER[4:], equipment="M2")
    work_off(worker)
    with engine.connect() as conn:
        assert open_proposals(conn) == []


def test_a_proposal_waits_while_its_reference_is_in_use(
    engine: Engine, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal_pipeline.anomaly.drift.MIN_WINDOWS", 20)
    monkeypatch.setattr("signal_pipeline.anomaly.drift.NEAR_THE_BOUND", 0.0)
    first = load_latest(worker.settings.models.models_dir)
    assert first is not None
    add(engine, LATER[:4], equipment="M2")
    work_off(worker)
    (proposal,) = waiting_proposals(worker)
    train(worker, equipment=["M1"], end=MIDNIGHT.replace(minute=LEARNT - 1))
    assert waiting_proposals(worker) == [proposal]
    train(worker, equipment=["M2"], end=MIDNIGHT.replace(minute=LEARNT - 1))
    assert waiting_proposals(worker) == []
    with pytest.raises(ValueError, match="its reference is not in use any more"):
        accept(worker, proposal.id)
    go_back(worker, first.version)
    assert waiting_proposals(worker) == [proposal]


def claim_one(worker: Worker) -> Batch:
    """A claim on the oldest pending signal alone."""
    (claim,) = claim_pending(worker.engine, settings=worker.settings.claims, claimed_by="t", limit=1).claims
    return Batch(claim.token, claim.signal_ids)


@pytest.mark.parametrize("trained", ["M1", "M2"])
def test_a_signal_that_waited_while_a_model_was_published_is_scored(
    engine: Engine, worker: Worker, trained: str
) -> None:
    add(engine, LATER[:2], equipment="M2")
    work_off(worker)
    (waits,) = add(engine, [LATER[4]], equipment="M2")
    add(engine, [LATER[3]], equipment="M2")
    told = run_batch(worker, claim_one(worker)).done[waits].details
    assert (told["scored"], told["reason"]) == (0, "waiting_for_an_earlier_recording")
    train(worker, equipment=[trained], end=MIDNIGHT.replace(minute=LEARNT - 1))
    work_off(worker)
    scored = value(engine, "SELECT count(*) FROM anomaly_scores WHERE raw_id = :id", id=waits)
    assert scored == 7


def test_replaying_an_older_version_takes_nothing_from_a_signal_that_waits(engine: Engine, worker: Worker) -> None:
    first = load_latest(worker.settings.models.models_dir)
    assert first is not None
    train(worker, equipment=["M2"], end=MIDNIGHT.replace(minute=LEARNT - 1))
    add(engine, LATER[:2], equipment="M2")
    work_off(worker)
    (waits,) = add(engine, [LATER[4]], equipment="M2")
    add(engine, [LATER[3]], equipment="M2")
    run_batch(worker, claim_one(worker))
    third = train(worker, equipment=["M2"], end=MIDNIGHT.replace(minute=LEARNT - 2)).models
    rescore(worker, equipment=["M2"], version=first.version)
    work_off(worker)
    scored = "SELECT count(*) FROM anomaly_scores WHERE raw_id = :id AND model_version = :version"
    assert value(engine, scored, id=waits, version=third.version) == 7


def other_features(worker: Worker, **changed: Any) -> Worker:
    """The worker after a change of the settings that makes other features, with all signals computed again."""
    settings = worker.settings.model_copy(update={"features": FeatureSettings(**changed)})
    change(worker.engine, "UPDATE raw_signals SET processing_status = 'pending'")
    again = Worker(worker.engine, settings, "t")
    work_off(again)
    return again


def test_after_a_change_of_features_the_fleet_is_fitted_anew_and_what_is_dropped_is_named(worker: Worker) -> None:
    again = other_features(worker, window_ms=500)
    one = train(again, equipment=["M1"])
    assert {name for name, _ in one.models.references} == {"M1"}
    assert any("M2" in note and "(fleet)" in note and "dropped" in note for note in one.notes)
    assert any("two motors or more" in note for note in one.notes)
    told = detect(again)
    assert told["M1"].windows > 0
    assert "train --equipment M2" in str(told["M2"])
    assert "train --equipment M2" in str(rescore(again, equipment=["M2"])["M2"])
    both = train(again, equipment=["M1", "M2"])
    assert {name for name, _ in both.models.references} == {"M1", "M2", FLEET}
    assert not both.notes


def test_one_motor_is_no_fleet_and_another_is_not_judged_by_it(engine: Engine, tmp_path: Path) -> None:
    worker = Worker(engine, Settings(models=ModelSettings(models_dir=tmp_path / "m")), "t")
    add(engine, list(range(LEARNT)), equipment="M1")
    add(engine, [1], equipment="M2")
    work_off(worker)
    trained = train(worker, equipment=["M1"])
    assert (FLEET, "stream") not in trained.models.references
    (new,) = add(engine, [LATER[0]], equipment="M2")
    assert work_off(worker).done[new].details["reason"] == "no_reference"
    assert detect(worker)["M2"].refused


def test_a_score_says_whose_reference_made_it(engine: Engine, worker: Worker) -> None:
    add(engine, [LATER[0]], equipment="M1")
    add(engine, [LATER[0]], equipment="M3")
    work_off(worker)
    with engine.connect() as conn:
        rows = conn.execute(
            text(
                "SELECT DISTINCT e.name, s.meta ->> 'reference' AS whose FROM anomaly_scores AS s "
                "JOIN equipment AS e ON e.id = s.equipment_id ORDER BY 1"
            )
        ).all()
    assert [tuple(row) for row in rows] == [("M1", "own"), ("M3", "fleet")]
    told = detect(worker)
    assert "by the fleet's reference" in str(told["M3"])
    assert "fleet" not in str(told["M1"])


def _break(models_dir: Path, kind: str) -> None:
    (models_dir / kind / "latest" / "manifest.json").write_text("{")


def _of_no_parent(models_dir: Path, kind: str) -> None:
    """As a version of this program that had another form would have left it."""
    path = models_dir / kind / "latest" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))


@pytest.mark.parametrize("harm", [_break, _of_no_parent])
def test_training_on_a_broken_latest_starts_anew_and_says_so(worker: Worker, harm: Callable[[Path, str], None]) -> None:
    models_dir = worker.settings.models.models_dir
    for kind in ("anomaly_detection", "embeddings"):
        harm(models_dir, kind)
    trained = train(worker, equipment=["M1"])
    assert trained.models.parent is None
    assert any("nothing of it is kept" in note for note in trained.notes)
    assert any("embedding" in note for note in trained.notes)
    assert not trained.refused
    found = load_latest(models_dir)
    assert found is not None
    assert found.version == trained.models.version


def test_an_earlier_version_can_be_used_again_and_its_stream_goes_on(engine: Engine, worker: Worker) -> None:
    models_dir = worker.settings.models.models_dir
    first = load_latest(models_dir)
    assert first is not None
    add(engine, LATER[:3], equipment="M2")
    work_off(worker)
    second = train(worker, equipment=["M2"], end=MIDNIGHT.replace(minute=LEARNT - 1)).models
    add(engine, LATER[3:5], equipment="M2")
    work_off(worker)
    assert go_back(worker, first.version).version == first.version
    add(engine, LATER[5:], equipment="M2")
    work_off(worker)
    per_version = {version: count for version, count, *_ in _windows(engine)}
    assert per_version == {first.version: 7 * 8, second.version: 7 * 2}
    with pytest.raises(ManifestError, match=second.version):
        go_back(worker, "20000101T000000Z-00000000")
    with pytest.raises(ManifestError, match="no version"):
        go_back(worker, "../" + first.version)


def _windows(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as conn:
        query = "SELECT model_version, count(*) FROM anomaly_scores WHERE model_kind = 'stream' GROUP BY 1"
        return [tuple(row) for row in conn.execute(text(query))]


def test_a_stream_is_replayed_under_the_version_that_was_chosen(engine: Engine, worker: Worker) -> None:
    first = load_latest(worker.settings.models.models_dir)
    assert first is not None
    second = train(worker, equipment=["M2"], end=MIDNIGHT.replace(minute=LEARNT - 1)).models
    add(engine, NEW[:13], equipment="M2", faulty=FAULTY)
    work_off(worker)
    rescored = rescore(worker, equipment=["M2"], version=first.version)["M2"]
    assert (rescored.version, rescored.windows) == (first.version, 7 * (LEARNT + 13))
    per_version = dict(_windows(engine))
    assert per_version == {first.version: 7 * (LEARNT + 13), second.version: 7 * 13}
    opened = value(engine, "SELECT string_agg(DISTINCT model_version, ',') FROM anomaly_events WHERE is_open")
    assert opened == second.version
    with pytest.raises(ManifestError, match=f"there are: {', '.join(sorted((first.version, second.version)))}"):
        rescore(worker, equipment=["M2"], version="another")


def test_accepting_a_drift_learns_the_windows_in_which_it_leant_and_no_others(
    engine: Engine, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal_pipeline.anomaly.drift.MIN_WINDOWS", 70)
    monkeypatch.setattr("signal_pipeline.anomaly.drift.NEAR_THE_BOUND", 0.0)
    add(engine, NEW, equipment="M2")
    work_off(worker)
    with engine.connect() as conn:
        (proposal,) = open_proposals(conn)
    accepted = accept(worker, proposal.id)
    assert accepted.windows == {"M2": 70}
    assert waiting_proposals(worker) == []
    learnt = accepted.models.references["M2", "stream"].recordings
    with engine.connect() as conn:
        named = conn.execute(text("SELECT id FROM raw_signals WHERE id::text = ANY(:ids)"), {"ids": list(learnt)})
        assert len(named.all()) == 10
        times = conn.execute(
            text("SELECT min(recorded_at), max(recorded_at) FROM raw_signals WHERE id::text = ANY(:ids)"),
            {"ids": list(learnt)},
        ).one()
    assert tuple(times) == tuple(MIDNIGHT.replace(minute=k) for k in (NEW[0], NEW[9]))


def test_more_windows_than_fit_are_left_out_evenly_and_counted(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal_pipeline.processing.training.MAX_WINDOWS", 80)
    trained = train(worker, equipment=["M1"])
    assert trained.windows["M1"] + trained.left_out["M1"] == 7 * LEARNT
    assert trained.windows["M1"] <= 80
    recordings = trained.models.references["M1", "stream"].recordings
    newest = value(
        worker.engine,
        "SELECT r.id::text FROM raw_signals AS r JOIN equipment AS e ON e.id = r.equipment_id WHERE e.name = 'M1' "
        "ORDER BY recorded_at DESC LIMIT 1",
    )
    assert newest in recordings
    assert len(recordings) == 12


def test_a_state_of_another_reference_of_the_version_is_refused_by_name(engine: Engine, worker: Worker) -> None:
    add(engine, LATER[:1], equipment="M2")
    work_off(worker)
    change(engine, "UPDATE anomaly_states SET state = jsonb_set(state, '{reference}', '\"another\"')")
    (new,) = add(engine, LATER[1:2], equipment="M2")
    assert work_off(worker).done[new].details["reason"] == "stream_of_another_reference"
    assert rescore(worker, equipment=["M2"])["M2"].windows == 7 * (LEARNT + 2)
