"""Forecasts as they are stored: issued after new hours, kept, and never in the way of anything."""

from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, insert, text

from signal_pipeline.db.models import Equipment, HourlyFeatureSummary
from signal_pipeline.processing.forecasting import forecast_due
from signal_pipeline.processing.worker import Worker
from signal_pipeline.read import load_forecasts
from signal_pipeline.settings import Settings
from signal_pipeline_tests.signals import MIDNIGHT, change


@pytest.fixture
def worker(engine: Engine) -> Worker:
    return Worker(engine, Settings(), "t")


def add_hours(engine: Engine, name: str, hours: range, *, rated: float | None = None, spoilt: bool = False) -> UUID:
    """Hours with a daily rhythm around 8 A in phases a and b; phase c was not recorded."""
    rng = np.random.default_rng(len(name))
    with engine.begin() as conn:
        found = conn.execute(text("SELECT id FROM equipment WHERE name = :n"), {"n": name}).scalar_one_or_none()
        equipment = (
            found
            or conn.execute(
                insert(Equipment).values(name=name, rated_current_a=rated).returning(Equipment.id)
            ).scalar_one()
        )
        rows = []
        for k in hours:
            level = 8 + np.sin(2 * np.pi * k / 24) + 0.1 * rng.normal()
            rms = {"rms_a_mean": float("inf") if spoilt else level, "rms_b_mean": level / 2}
            rows.append({"equipment_id": equipment, "hour_start": MIDNIGHT + timedelta(hours=k), "windows": 1} | rms)
        conn.execute(insert(HourlyFeatureSummary.__table__), rows)
    return equipment


def test_a_day_ahead_is_forecast_with_intervals_and_the_chance_of_passing_the_limit(
    engine: Engine, worker: Worker
) -> None:
    add_hours(engine, "pump", range(24 * 20), rated=8.0)
    found = forecast_due(worker)["pump"]
    assert found.issued == ("rms_a", "rms_b")
    assert set(found.refused) == {"rms_c"}
    frame = load_forecasts(engine=engine)
    a = frame[frame["quantity"] == "rms_a"].reset_index(drop=True)
    assert len(a) == 24
    assert a["hour_start"].min() == MIDNIGHT + timedelta(days=20)
    expected = 8 + np.sin(2 * np.pi * np.arange(24) / 24)
    assert np.abs(a["mean"] - expected).max() < 0.3
    assert ((a["lower_95"] <= a["lower_80"]) & (a["lower_80"] <= a["mean"]) & (a["mean"] <= a["upper_80"])).all()
    assert a["limit_value"].unique().tolist() == [pytest.approx(8.8)]
    assert a["exceedance_probability"].iloc[6] > 0.5 > a["exceedance_probability"].iloc[18]


def test_each_issue_is_kept_and_nothing_is_issued_without_a_new_hour(engine: Engine, worker: Worker) -> None:
    add_hours(engine, "pump", range(24 * 12))
    forecast_due(worker)
    assert forecast_due(worker) == {}
    add_hours(engine, "pump", range(24 * 12, 24 * 12 + 1))
    forecast_due(worker)
    frame = load_forecasts(engine=engine)
    assert frame[frame["quantity"] == "rms_a"].groupby("issued_at").size().tolist() == [24, 24]


def test_an_hour_of_the_future_stops_no_forecast(engine: Engine, worker: Worker) -> None:
    """Databases of before recordings of the future were refused hold such hours, and the forecasts they gave."""
    future = 24 * 365 * 70
    add_hours(engine, "pump", range(24 * 12))
    add_hours(engine, "pump", range(future, future + 1))
    assert forecast_due(worker)["pump"].issued == ("rms_a", "rms_b")
    change(engine, "UPDATE forecasts SET issued_at = '2099-01-01'")
    assert forecast_due(worker)["pump"].issued == ("rms_a", "rms_b")
    assert forecast_due(worker) == {}


def test_an_error_is_counted_and_the_next_equipment_has_its_turn(engine: Engine, worker: Worker) -> None:
    add_hours(engine, "broken", range(24 * 12), spoilt=True)
    add_hours(engine, "pump", range(24 * 12))
    found = forecast_due(worker)
    assert found["broken"].issued == ()
    assert found["pump"].issued == ("rms_a", "rms_b")
    with engine.connect() as conn:
        failed = conn.execute(
            text("SELECT sum(value) FROM counters WHERE name = 'forecasts_failed_total'")
        ).scalar_one()
    assert failed == 1


def test_a_short_history_is_refused_with_a_reason(engine: Engine, worker: Worker) -> None:
    add_hours(engine, "pump", range(30))
    assert forecast_due(worker)["pump"].refused["rms_a"] == "too_short"
    assert load_forecasts(engine=engine).empty
