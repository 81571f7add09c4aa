"""The notebook's door: frames of what is stored, filtered by equipment and time."""

from datetime import UTC, datetime

import pandas as pd
import pytest
from sqlalchemy import Engine

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.db.claims import claim_pending
from signal_pipeline.errors import SettingsError
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.read import load_events, load_features, load_forecasts, load_hours, load_scores, load_signals
from signal_pipeline.settings import Settings
from signal_pipeline_tests.signals import change, insert_signals


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Three signals of M1 and two of M2, an hour apart from midnight, processed; one of M3 failed."""
    insert_signals(engine, 3, equipment="M1")
    insert_signals(engine, 2, equipment="M2")
    insert_signals(engine, 1, equipment="M3", sample_rate_hz=-1.0)
    worker = Worker(engine, Settings(), "t")
    (claim,) = claim_pending(engine, settings=worker.settings.claims, claimed_by="t").claims
    run_batch(worker, Batch(claim.token, claim.signal_ids))
    return engine


def test_features_come_in_time_order_with_all_columns(filled: Engine) -> None:
    frame = load_features(engine=filled)
    assert len(frame) == 15
    assert set(COLUMNS) <= set(frame.columns)
    assert frame["window_start"].is_monotonic_increasing
    assert frame["window_start"].dt.tz is not None
    assert frame["rms_a"].between(6.9, 7.3).all()


def test_features_can_be_picked_by_equipment_time_and_column(filled: Engine) -> None:
    frame = load_features(
        equipment="M1",
        start="2025-08-25T01:00",
        end=datetime(2025, 8, 25, 2, tzinfo=UTC),
        columns=["rms_a"],
        engine=filled,
    )
    assert len(frame) == 3
    assert frame["equipment"].unique().tolist() == ["M1"]
    assert frame["window_start"].min() == pd.Timestamp("2025-08-25T01:00Z")
    assert "rms_b" not in frame


def test_a_feature_that_does_not_exist_is_named(filled: Engine) -> None:
    with pytest.raises(ValueError, match="rms_z"):
        load_features(columns=["rms_z"], engine=filled)


def test_hours_have_their_windows_and_rms(filled: Engine) -> None:
    frame = load_hours(equipment=["M1", "M2"], engine=filled)
    assert frame["windows"].tolist() == [3] * 5
    assert frame["rms_a_mean"].between(6.9, 7.3).all()


def test_signals_have_their_state_and_failure(filled: Engine) -> None:
    assert len(load_signals(engine=filled)) == 6
    (failed,) = load_signals(status="failed", engine=filled).to_dict("records")
    assert failed["equipment"] == "M3"
    assert failed["meta"]["failure"]["reason"] == "validation_failed"
    with pytest.raises(ValueError, match="broken"):
        load_signals(status="broken", engine=filled)


def test_without_a_model_there_are_no_scores_and_no_forecasts(filled: Engine) -> None:
    assert load_scores(engine=filled).empty
    assert load_forecasts(engine=filled).empty


EVENT = """
    INSERT INTO anomaly_events (equipment_id, model_kind, model_version, started_at, ended_at, raised_at, peak_score,
                                peak_at, threshold, windows, is_open, features)
    SELECT id, :kind, :version, :at, CAST(:at AS timestamptz) + interval '1 minute', :at, 9, :at, 1, 5, false,
           '[["rms_a", 0.75]]' FROM equipment WHERE name = 'M1'
"""


def test_events_can_be_picked_by_time_and_model(filled: Engine) -> None:
    assert load_events(engine=filled).empty
    for kind, version, at in (
        ("stream", "v1", "2025-08-25"),
        ("stream", "v2", "2025-08-26"),
        ("stats", "v2", "2025-08-24"),
    ):
        change(filled, EVENT, kind=kind, version=version, at=datetime.fromisoformat(at).replace(tzinfo=UTC))
    frame = load_events(engine=filled)
    assert frame["model_kind"].tolist() == ["stats", "stream", "stream"]
    assert frame["features"].iloc[0] == [["rms_a", 0.75]]
    assert str(frame["started_at"].dtype) == "datetime64[us, UTC]"
    (row,) = load_events(equipment="M1", model_kind="stream", model_version="v2", engine=filled).to_dict("records")
    assert (row["equipment"], row["started_at"], row["windows"]) == ("M1", pd.Timestamp("2025-08-26", tz="UTC"), 5)
    assert len(load_events(start="2025-08-25", end="2025-08-26", engine=filled)) == 1


def test_the_embedding_comes_when_it_is_asked_for(filled: Engine) -> None:
    change(filled, "UPDATE features SET embedding = '{0.5,-1}' WHERE id = (SELECT min(id) FROM features)")
    assert "embedding" not in load_features(columns=["rms_a"], engine=filled)
    found = load_features(columns=["rms_a"], embedding=True, engine=filled)["embedding"]
    assert [one for one in found if one is not None] == [[0.5, -1.0]]
    assert len(found) == 15


def test_the_database_of_the_settings_is_read(
    filled: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert len(load_features(columns=[])) == 15


def test_without_any_database_the_reader_says_where_it_looked(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("empty") / "home"
    monkeypatch.setenv("SIGNAL_PIPELINE_HOME", str(home))
    with pytest.raises(SettingsError, match=str(home)):
        load_features()


def test_types_do_not_depend_on_what_was_found(filled: Engine) -> None:
    insert_signals(filled, 1, equipment="two phases", phase_c=None, crc32_c=None)
    worker = Worker(filled, Settings(), "t")
    (claim,) = claim_pending(filled, settings=worker.settings.claims, claimed_by="t").claims
    run_batch(worker, Batch(claim.token, claim.signal_ids))
    columns = ["rms_a", "rms_c"]
    for equipment in ("M1", "two phases", "nobody's"):
        frame = load_features(equipment=equipment, columns=columns, engine=filled)
        assert [str(frame[name].dtype) for name in columns] == ["float64", "float64"]
        assert str(frame["window_start"].dtype) == "datetime64[us, UTC]"
    assert load_features(equipment="two phases", columns=columns, engine=filled)["rms_c"].isna().all()


def test_a_database_without_tables_is_an_error_that_names_the_command(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    with pytest.raises(SettingsError, match="db upgrade"):
        load_features()
