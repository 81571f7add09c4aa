"""The hourly summary: the numbers that numpy gives, and right whatever writers do at the same time."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, TextClause, text

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.db import hours
from signal_pipeline.db.engine import create_engine
from signal_pipeline.db.features import SignalFeatures, store_features
from signal_pipeline.db.hours import hour_of, lock_hours, recompute_hours
from signal_pipeline.domain import PHASES
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.db.contenders import contend
from signal_pipeline_tests.db.rows import NOON, add_equipment, add_signals, change, features_of

NO_LOCK = text("SELECT 1 FROM unnest(CAST(:equipment AS uuid[]), CAST(:hours AS timestamptz[]))")


def summary(engine: Engine) -> dict[tuple[UUID, datetime], Any]:
    with engine.connect() as conn:
        rows = conn.execute(text("SELECT * FROM hourly_feature_summary")).all()
    return {(row.equipment_id, row.hour_start): row for row in rows}


def store(engine: Engine, *signals: SignalFeatures) -> None:
    with engine.begin() as conn:
        store_features(conn, signals)


def test_the_numbers_of_an_hour_are_numpys(engine: Engine) -> None:
    motors = [add_equipment(engine, name) for name in ("one", "two")]
    quarter = timedelta(minutes=15)
    stored: list[tuple[UUID, datetime, np.ndarray[Any, np.dtype[np.float64]]]] = []
    for n, motor in enumerate(motors):
        for k, signal_id in enumerate(add_signals(engine, 3, equipment_id=motor)):
            mine = features_of(
                signal_id, motor, n=9, start=NOON + k * timedelta(minutes=7), step=quarter, seed=n * 3 + k
            )
            mine.values[k, COLUMNS.index("rms_b")] = np.nan
            mine.values[:, COLUMNS.index("rms_c")] = np.nan
            store(engine, mine)
            stored += [(motor, hour_of(t), row) for t, row in zip(mine.window_starts, mine.values, strict=True)]
    found = summary(engine)
    assert set(found) == {(motor, hour) for motor, hour, _ in stored}
    for key, row in found.items():
        values = np.array([v for motor, hour, v in stored if (motor, hour) == key])
        assert row.windows == len(values)
        for phase in PHASES[:2]:
            rms = values[:, COLUMNS.index(f"rms_{phase}")]
            rms = rms[~np.isnan(rms)]
            got = [row._mapping[f"rms_{phase}_{stat}"] for stat in ("mean", "min", "max", "std")]
            np.testing.assert_allclose(got, [rms.mean(), rms.min(), rms.max(), rms.std()], rtol=1e-12)
        assert [row._mapping[f"rms_c_{stat}"] for stat in ("mean", "min", "max", "std")] == [None] * 4


def test_the_order_of_storing_does_not_change_a_bit(engine: Engine) -> None:
    motor = add_equipment(engine)
    ids = add_signals(engine, 4, equipment_id=motor)
    signals = [features_of(i, motor, n=50, start=NOON + k * timedelta(seconds=1), seed=k) for k, i in enumerate(ids)]
    results = []
    for order in (signals, signals[::-1]):
        change(engine, "DELETE FROM features")
        for signal in order:
            store(engine, signal)
        results.append([v for v in summary(engine)[motor, NOON] if not isinstance(v, datetime)])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("moment", "hour"),
    [
        (datetime(2024, 5, 1, 12, 59, 59, 999_999, tzinfo=UTC), datetime(2024, 5, 1, 12, tzinfo=UTC)),
        (datetime(2024, 5, 1, 12, tzinfo=UTC), datetime(2024, 5, 1, 12, tzinfo=UTC)),
        (
            datetime(2024, 5, 1, 0, 10, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            datetime(2024, 4, 30, 18, tzinfo=UTC),
        ),
        (datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, tzinfo=UTC)),
    ],
)
def test_an_hour_is_one_of_utc(engine: Engine, moment: datetime, hour: datetime) -> None:
    assert hour_of(moment) == hour
    with engine.connect() as conn:
        assert (
            conn.execute(text("SELECT date_trunc('hour', CAST(:t AS timestamptz), 'UTC')"), {"t": moment}).scalar_one()
            == hour
        )


def test_a_window_on_the_hour_belongs_to_the_hour_that_begins(engine: Engine) -> None:
    motor = add_equipment(engine)
    (signal_id,) = add_signals(engine, 1, equipment_id=motor)
    eve = NOON - timedelta(microseconds=1)
    store(engine, features_of(signal_id, motor, n=2, start=eve, step=timedelta(microseconds=1)))
    assert {key: row.windows for key, row in summary(engine).items()} == {
        (motor, NOON - timedelta(hours=1)): 1,
        (motor, NOON): 1,
    }


def test_recomputing_what_has_not_changed_gives_the_same_numbers(engine: Engine) -> None:
    motor = add_equipment(engine)
    (signal_id,) = add_signals(engine, 1, equipment_id=motor)
    store(engine, features_of(signal_id, motor, n=30))
    before = summary(engine)[motor, NOON]
    with engine.begin() as conn:
        recompute_hours(conn, lock_hours(conn, [(motor, NOON), (motor, NOON)]))
        recompute_hours(conn, lock_hours(conn, []))
    after = summary(engine)[motor, NOON]
    assert after[:-1] == before[:-1]
    assert after.updated_at > before.updated_at


def is_waiting_for_another(engine: Engine) -> bool:
    question = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with engine.connect() as conn:
        return bool(conn.execute(question).scalar_one())


def two_writers_of_one_hour(engine: Engine, lock: TextClause, monkeypatch: pytest.MonkeyPatch) -> int:
    """The second writer stores its 3 windows while the first, with 5, has not committed yet; the hour's count."""
    monkeypatch.setattr(hours, "LOCK_HOURS", lock)
    motor = add_equipment(engine)
    first, second = add_signals(engine, 2, equipment_id=motor)
    slower = threading.Thread(target=store, args=(engine, features_of(second, motor, n=3)))
    with engine.begin() as conn:
        store_features(conn, [features_of(first, motor, n=5)])
        slower.start()
        until = time.monotonic() + 20
        while not is_waiting_for_another(engine):
            assert time.monotonic() < until, "the second writer never came to wait for the first"
            time.sleep(0.01)
    slower.join()
    found: int = summary(engine)[motor, NOON].windows
    return found


def test_without_the_lock_the_slower_of_two_writers_puts_back_an_older_view(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the lock is for: without it, the windows of the faster writer are lost from the summary."""
    assert two_writers_of_one_hour(engine, NO_LOCK, monkeypatch) == 3


def test_with_the_lock_no_writers_windows_are_lost(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert two_writers_of_one_hour(engine, hours.LOCK_HOURS, monkeypatch) == 8


def write_hours(start: Callable[[], object], url: str, motor: UUID, ids: list[UUID], backwards: bool) -> int:
    """One transaction a signal; each has a window in every one of 24 hours."""
    engine = create_engine(url, DatabaseSettings())
    start()
    for seed, signal_id in enumerate(ids):
        first, step = (NOON, timedelta(hours=1))
        if backwards:
            first, step = first + 23 * step, -step
        store(engine, features_of(signal_id, motor, n=24, start=first, step=step, seed=seed))
    engine.dispose()
    return len(ids)


@pytest.mark.processes
def test_writers_of_many_hours_in_opposite_orders_neither_deadlock_nor_lose(engine: Engine) -> None:
    motor = add_equipment(engine)
    ids = add_signals(engine, 32, equipment_id=motor)
    url = engine.url.render_as_string(hide_password=False)
    parts = [(url, motor, ids[n::4], n % 2 == 1) for n in range(4)]
    assert contend(write_hours, parts) == [8] * 4
    found = summary(engine)
    assert {row.windows for row in found.values()} == {32}
    before = [row[:-1] for row in found.values()]
    with engine.begin() as conn:
        recompute_hours(conn, lock_hours(conn, list(found)))
    assert sorted(row[:-1] for row in summary(engine).values()) == sorted(before)
