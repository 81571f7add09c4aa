"""Storing features: every number comes back bit for bit, twice changes nothing, another version replaces."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, text

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.db.features import SignalFeatures, Stored, store_features, window_time
from signal_pipeline.db.hours import hours_of_signals
from signal_pipeline_tests.db.rows import (
    NOON,
    add_equipment,
    add_signals,
    change,
    features_of,
    stored_values,
    values_of,
)

EXTREMES = [
    0.0,
    -0.0,
    np.nan,
    5e-324,
    -2.2250738585072014e-308,
    1.7976931348623157e308,
    -1e300,
    np.inf,
    -np.inf,
    np.nextafter(1.0, 2.0),
    1 / 3,
]
EXTREMES_NAN = 2


def store(engine: Engine, *signals: SignalFeatures) -> Stored:
    with engine.begin() as conn:
        return store_features(conn, signals)


def windows(engine: Engine, signal_id: UUID) -> list[Any]:
    with engine.connect() as conn:
        return list(
            conn.execute(text("SELECT * FROM features WHERE raw_id = :id ORDER BY window_start"), {"id": signal_id})
        )


def motor_and_signal(engine: Engine) -> tuple[UUID, UUID]:
    equipment = add_equipment(engine)
    return equipment, add_signals(engine, 1, equipment_id=equipment)[0]


def test_every_double_comes_back_bit_for_bit_and_nan_as_null(engine: Engine) -> None:
    equipment, signal_id = motor_and_signal(engine)
    mine = features_of(signal_id, equipment, n=len(EXTREMES))
    places = [i for i, name in enumerate(COLUMNS) if not name.startswith("rms_")]  # the hours add those up
    chosen = [*places[: len(EXTREMES) - 1], places[-1]]
    mine.values[:, chosen] = [np.roll(EXTREMES, shift) for shift in range(len(EXTREMES))]
    store(engine, mine)
    with engine.connect() as conn:
        assert stored_values(conn, signal_id).tobytes() == mine.values.tobytes()
    assert windows(engine, signal_id)[0]._mapping[COLUMNS[chosen[EXTREMES_NAN]]] is None


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(1999, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC),
        datetime(2000, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 22, 0, 0, 123_456, tzinfo=UTC),
        datetime(2024, 3, 31, 2, 30, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    ],
)
def test_a_windows_time_comes_back_to_the_microsecond(engine: Engine, moment: datetime) -> None:
    equipment, signal_id = motor_and_signal(engine)
    store(engine, features_of(signal_id, equipment, n=1, start=moment))
    assert windows(engine, signal_id)[0].window_start == moment


def test_reasons_and_embeddings_come_back(engine: Engine) -> None:
    equipment, signal_id = motor_and_signal(engine)
    plain = features_of(signal_id, equipment, n=3)
    embedding = np.array([[1.5, -0.0, 3e-45], [np.inf, 3.4e38, 0.1], [0, 1, 2]], dtype=np.float32)
    reasons = [None, {}, {"phase_c": 'not recorded: "ü" \x00 \udcff', "sequence": "needs three phases"}]
    store(engine, SignalFeatures(signal_id, equipment, "v1", plain.window_starts, plain.values, reasons, embedding))
    stored = windows(engine, signal_id)
    assert [row.null_reasons for row in stored] == [
        None,
        None,
        {"phase_c": 'not recorded: "ü"  \\udcff', "sequence": "needs three phases"},
    ]
    assert np.array([row.embedding for row in stored], dtype=np.float32).tobytes() == embedding.tobytes()
    assert {(row.raw_id, row.equipment_id, row.feature_version) for row in stored} == {(signal_id, equipment, "v1")}


def test_without_an_embedding_it_is_null(engine: Engine) -> None:
    equipment, signal_id = motor_and_signal(engine)
    store(engine, features_of(signal_id, equipment))
    assert [row.embedding for row in windows(engine, signal_id)] == [None] * 3


def test_a_signal_without_windows_stores_nothing(engine: Engine) -> None:
    equipment, signal_id = motor_and_signal(engine)
    assert store(engine, features_of(signal_id, equipment, n=0)) == Stored({signal_id: 0}, ())
    assert store(engine) == Stored({}, ())


def everything(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as conn:
        rows = conn.execute(text("SELECT * FROM features ORDER BY id")).all()
        hours = conn.execute(text("SELECT * FROM hourly_feature_summary ORDER BY 1, 2")).all()
    return [tuple(row) for row in (*rows, *hours)]


def test_storing_twice_changes_nothing(engine: Engine) -> None:
    equipment, signal_id = motor_and_signal(engine)
    first = store(engine, features_of(signal_id, equipment))
    before = everything(engine)
    again = store(engine, features_of(signal_id, equipment, seed=99))
    assert (first.inserted, again) == ({signal_id: 3}, Stored({signal_id: 0}, ()))
    assert everything(engine) == before


def test_only_what_is_missing_is_added(engine: Engine) -> None:
    equipment, signal_id = motor_and_signal(engine)
    store(engine, features_of(signal_id, equipment, n=5, seed=1))
    change(engine, "DELETE FROM features WHERE id IN (2, 4)")
    assert store(engine, features_of(signal_id, equipment, n=6, seed=1)).inserted == {signal_id: 3}
    with engine.connect() as conn:
        assert stored_values(conn, signal_id).tobytes() == values_of(6, 1).tobytes()
        assert conn.execute(text("SELECT windows FROM hourly_feature_summary")).scalar_one() == 6


def test_the_same_window_cannot_be_stored_twice_whoever_tries(engine: Engine) -> None:
    equipment, signal_id = motor_and_signal(engine)
    store(engine, features_of(signal_id, equipment))
    with pytest.raises(Exception, match="uq_features_raw_id_window_start"):
        change(
            engine,
            """INSERT INTO features (raw_id, equipment_id, window_start, feature_version)
               SELECT raw_id, equipment_id, window_start, 'other' FROM features LIMIT 1""",
        )


def add_scores(engine: Engine) -> int:
    return change(
        engine,
        """INSERT INTO anomaly_scores (feature_id, raw_id, equipment_id, window_start, model_kind, model_version,
                                       score, threshold, is_anomaly)
           SELECT id, raw_id, equipment_id, window_start, 'stream', '1', 0.5, 1, false FROM features""",
    )


def count(engine: Engine, table: str) -> int:
    with engine.connect() as conn:
        found: int = conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    return found


def test_another_version_replaces_features_scores_and_hours(engine: Engine) -> None:
    equipment = add_equipment(engine)
    one, neighbour = add_signals(engine, 2, equipment_id=equipment)
    late = NOON + timedelta(hours=5)
    store(engine, features_of(one, equipment, n=4), features_of(neighbour, equipment, n=2))
    assert add_scores(engine) == 6
    stored = store(engine, features_of(one, equipment, n=3, version="v2", start=late, seed=7))
    assert stored == Stored({one: 3}, ((equipment, NOON), (equipment, late)))
    with engine.connect() as conn:
        assert stored_values(conn, one).tobytes() == values_of(3, 7).tobytes()
        hours = conn.execute(text("SELECT hour_start, windows FROM hourly_feature_summary ORDER BY 1")).all()
        assert hours_of_signals(conn, [one, neighbour]) == ((equipment, NOON), (equipment, late))
    assert [tuple(row) for row in hours] == [(NOON, 2), (late, 3)]
    assert count(engine, "anomaly_scores") == 2


def test_an_hour_whose_last_window_was_replaced_away_is_gone(engine: Engine) -> None:
    equipment, signal_id = motor_and_signal(engine)
    store(engine, features_of(signal_id, equipment))
    store(engine, features_of(signal_id, equipment, n=0, version="v2"))
    assert (count(engine, "features"), count(engine, "hourly_feature_summary")) == (0, 0)


def test_a_replacement_that_breaks_off_leaves_everything_as_it_was(engine: Engine) -> None:
    equipment, signal_id = motor_and_signal(engine)
    store(engine, features_of(signal_id, equipment, n=4))
    add_scores(engine)
    before = everything(engine)
    unknown = features_of(UUID(int=1), equipment)
    with pytest.raises(Exception, match="fk_features_raw_id"):
        store(engine, features_of(signal_id, equipment, n=3, version="v2"), unknown)
    assert everything(engine) == before
    assert count(engine, "anomaly_scores") == 4


@pytest.mark.parametrize(
    ("row", "fs", "microseconds"),
    [(0, 25_600.0, 0), (1, 25_600.0, 39), (12_800, 25_600.0, 500_000), (1, 3.0, 333_333), (2, 3.0, 666_667)],
)
def test_a_windows_time_is_its_first_samples_rounded_to_microseconds(row: int, fs: float, microseconds: int) -> None:
    assert window_time(NOON, row, fs) == NOON + timedelta(microseconds=microseconds)


def test_the_time_of_a_window_does_not_drift_over_a_month() -> None:
    month = 30 * 86_400
    assert window_time(NOON, month * 25_600, 25_600.0) == NOON + timedelta(days=30)
