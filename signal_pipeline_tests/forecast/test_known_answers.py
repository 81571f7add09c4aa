"""Series whose next day is known, and those of which nothing can be said."""

import json

import numpy as np
import pytest

from signal_pipeline.forecast.arrays import F8
from signal_pipeline.forecast.issue import MIN_HOURS, Forecast, Refusal, RefusalReason, issue
from signal_pipeline.forecast.models import Model

from .series import DAY, motor, sine, with_gaps, working_week


def _forecast(history: F8, **options: float) -> Forecast:
    answer = issue(history, **options)  # type: ignore[arg-type]
    assert isinstance(answer, Forecast), answer
    return answer


def _refusal(history: F8) -> Refusal:
    answer = issue(history)
    assert isinstance(answer, Refusal)
    return answer


@pytest.mark.parametrize("hour", [0, 7, 23])
def test_a_pure_day_is_forecast_exactly_and_by_the_simplest_model(hour: int) -> None:
    series = sine(62)
    origin = 60 * DAY + hour
    forecast = _forecast(series[:origin])
    assert forecast.model is Model.SEASONAL_NAIVE
    np.testing.assert_allclose(forecast.mean, series[origin : origin + DAY], atol=1e-9)
    np.testing.assert_allclose(forecast.upper_95 - forecast.lower_95, 0, atol=1e-9)


def test_a_constant_is_forecast_as_itself_without_width() -> None:
    forecast = _forecast(np.full(400, 7.25), limit=7.25)
    for values in (forecast.mean, forecast.lower_95, forecast.upper_95, forecast.lower_80, forecast.upper_80):
        np.testing.assert_array_equal(values, np.full(DAY, 7.25))
    assert forecast.exceedance_probability is not None
    assert forecast.exceedance_probability.max() < 0.01
    certain = _forecast(np.full(400, 7.25), limit=7.0).exceedance_probability
    assert certain is not None
    assert certain.min() > 0.99


def test_a_weekend_is_seen_coming() -> None:
    series = working_week(120)
    for day in (110, 114):  # a Saturday, after a Friday; a Wednesday
        forecast = _forecast(series[: day * DAY])
        np.testing.assert_allclose(forecast.mean, series[day * DAY : (day + 1) * DAY], atol=0.4)
        assert forecast.model is Model.BLEND


def test_after_a_step_the_forecast_has_followed_within_three_days() -> None:
    """On the first day the step may yet be one of the series' own wanderings, which always came back."""
    series = motor(80)
    series[70 * DAY :] += 5
    off = [np.abs(_forecast(series[: (70 + days) * DAY]).mean - 5 - sine(1)).mean() for days in range(4)]
    assert off[0] > 4.5
    assert off[1] < 3
    assert off[3] < 0.4


def test_a_forecast_beats_the_naive_one_on_a_wandering_level() -> None:
    ours, naive = [], []
    series = motor(160)
    for origin in range(100 * DAY, 159 * DAY, 53):
        actual = series[origin : origin + DAY]
        ours.append(np.abs(_forecast(series[:origin]).mean - actual).mean())
        naive.append(np.abs(series[origin - DAY : origin] - actual).mean())
    assert np.mean(ours) < 0.85 * np.mean(naive)


def test_a_year_with_gaps_is_forecast_as_well_as_a_whole_one() -> None:
    series = motor(100)
    whole, holes = _forecast(series), _forecast(with_gaps(series))
    assert np.abs(whole.mean - holes.mean).max() < 3 * 0.1
    assert holes.past_errors < whole.past_errors


def test_hours_of_the_day_that_were_never_seen_are_forecast_by_the_usual_level() -> None:
    series = np.full(60 * DAY, np.nan)
    series[::5] = motor(60)[::5]
    series[np.arange(len(series)) % DAY == 3] = np.nan
    forecast = _forecast(series)
    assert np.isfinite(forecast.mean).all()
    assert abs(forecast.mean[3] - 10) < 2


@pytest.mark.parametrize("n", [0, 1, DAY, MIN_HOURS - 1])
def test_a_short_history_is_refused(n: int) -> None:
    refusal = _refusal(motor(30)[:n])
    assert refusal.reason is RefusalReason.TOO_SHORT
    assert refusal.message.startswith("1 hour since" if n == 1 else f"{n} hours since")


def test_the_shortest_history_that_is_not_refused_has_intervals() -> None:
    forecast = _forecast(motor(30)[:MIN_HOURS])
    assert (forecast.lower_95 <= forecast.lower_80).all()
    assert (forecast.upper_80 <= forecast.upper_95).all()
    assert forecast.past_errors >= 39


def test_unknown_hours_before_the_first_value_are_no_history() -> None:
    series = np.concatenate([np.full(500, np.nan), motor(30)[:100]])
    assert _refusal(series).reason is RefusalReason.TOO_SHORT
    assert _refusal(np.full(5000, np.nan)).reason is RefusalReason.TOO_SHORT


def test_a_value_a_day_is_too_sparse() -> None:
    series = np.full(30 * DAY, np.nan)
    series[::DAY] = 1.0
    refusal = _refusal(series)
    assert refusal.reason is RefusalReason.TOO_SPARSE
    assert json.loads(json.dumps(refusal.as_dict())) == {"reason": "too_sparse", "message": refusal.message}


def test_a_series_that_ended_a_week_ago_is_stale() -> None:
    series = np.concatenate([motor(60), np.full(7 * DAY, np.nan)])
    assert _refusal(series).reason is RefusalReason.STALE
    assert isinstance(issue(series[:-1]), Forecast)


def test_a_forecast_is_ready_for_json() -> None:
    answer = json.loads(json.dumps(_forecast(motor(40), limit=10.5, horizon=6).as_dict()))
    assert answer["model"] in set(Model)
    assert answer["limit"] == 10.5
    assert {len(answer[name]) for name in ("mean", "lower_80", "upper_95", "exceedance_probability")} == {6}
    assert set(answer["past_mae"]) == set(Model)


def test_a_forecast_is_cut_at_its_floor() -> None:
    series = np.abs(motor(60) - 10)
    free, cut = _forecast(series), _forecast(series, floor=0.0)
    assert free.lower_95.min() < 0
    np.testing.assert_array_equal(cut.lower_95, np.maximum(free.lower_95, 0))
    np.testing.assert_array_equal(cut.upper_95, free.upper_95)


@pytest.mark.parametrize(
    ("history", "options", "part"),
    [
        (np.zeros((2, 300)), {}, "shape"),
        (np.where(np.arange(300) == 7, np.inf, 0.0), {}, r"history\[7\]"),
        (np.zeros(300), {"horizon": 0}, "horizon=0"),
        (np.zeros(300), {"horizon": 25}, "horizon=25"),
        (np.zeros(300), {"limit": float("nan")}, "limit"),
        (np.zeros(300), {"floor": float("inf")}, "floor"),
    ],
)
def test_what_cannot_be_meant_is_an_error(history: F8, options: dict[str, float], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        issue(history, **options)  # type: ignore[arg-type]
