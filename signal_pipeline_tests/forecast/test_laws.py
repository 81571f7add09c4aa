"""What must hold for every series: units, no look-ahead, the same answer twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signal_pipeline.forecast.arrays import F8
from signal_pipeline.forecast.issue import Forecast, issue
from signal_pipeline.forecast.lags import DAY, lagged, last_known, mean_of, median_of, running_level, usual_level
from signal_pipeline.forecast.models import WINDOW, Model, replay

from .series import motor, with_gaps

ARRAYS = ("mean", "lower_80", "upper_80", "lower_95", "upper_95")

some_series = st.builds(
    lambda days, cut, seed, share: with_gaps(motor(days, seed=seed), share=share, seed=seed)[cut:],
    days=st.integers(16, 60),
    cut=st.integers(0, DAY),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.1, 0.3]),
)


def _forecast(history: F8, limit: float | None = None) -> Forecast:
    answer = issue(history, limit=limit)
    assert isinstance(answer, Forecast), answer
    return answer


@settings(max_examples=15, deadline=None)
@given(series=some_series, shift=st.floats(-1e4, 1e4), scale=st.floats(1e-3, 1e3))
def test_another_unit_or_zero_point_changes_nothing_but_the_numbers(series: F8, shift: float, scale: float) -> None:
    limit = 11.0
    plain, moved = _forecast(series, limit), _forecast(series * scale + shift, limit * scale + shift)
    assert moved.model is plain.model
    for name in ARRAYS:
        expected = getattr(plain, name) * scale + shift
        np.testing.assert_allclose(getattr(moved, name), expected, atol=1e-6 * scale + 1e-9 * abs(shift))


@settings(max_examples=15, deadline=None)
@given(series=some_series)
def test_intervals_are_nested_around_the_forecast_and_probabilities_are_probabilities(series: F8) -> None:
    forecast = _forecast(series, 10.5)
    assert (forecast.lower_95 <= forecast.lower_80).all()
    assert (forecast.lower_80 <= forecast.mean).all()
    assert (forecast.mean <= forecast.upper_80).all()
    assert (forecast.upper_80 <= forecast.upper_95).all()
    assert forecast.exceedance_probability is not None
    assert ((forecast.exceedance_probability > 0) & (forecast.exceedance_probability < 1)).all()


@settings(max_examples=10, deadline=None)
@given(series=some_series)
def test_a_higher_limit_is_passed_less_often(series: F8) -> None:
    limits = np.nanquantile(series, [0.05, 0.5, 0.95])
    means = [np.mean(_forecast(series, float(limit)).as_dict()["exceedance_probability"]) for limit in limits]
    assert means == sorted(means, reverse=True)


@settings(max_examples=10, deadline=None)
@given(series=some_series, horizon=st.integers(1, DAY))
def test_what_was_said_in_the_past_is_what_would_have_been_issued_then(series: F8, horizon: int) -> None:
    """The errors behind the intervals are those of forecasts that knew nothing later than their origin."""
    full = replay(series, horizon=horizon)
    days_back = 3
    then = replay(series[: -days_back * DAY], horizon=horizon)
    for model in Model:
        np.testing.assert_allclose(
            full.forecasts[model][-1 - days_back * DAY], then.forecasts[model][-1], rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("model", Model)
def test_no_past_forecast_changes_when_the_future_does(model: Model) -> None:
    series = motor(60)
    other = series.copy()
    other[-30:] = 1e6
    before, after = (replay(values, horizon=DAY).forecasts[model] for values in (series, other))
    np.testing.assert_array_equal(before[:-30], after[:-30])


def test_a_forecast_depends_on_the_last_months_only() -> None:
    series = motor(WINDOW // DAY + 40)
    assert _forecast(series, 10.5).as_dict() == _forecast(series[-WINDOW:], 10.5).as_dict()


def test_the_same_history_gives_the_same_bytes() -> None:
    series = with_gaps(motor(90))
    before = series.copy()
    assert _forecast(series, 10.5).as_dict() == _forecast(series.copy(), 10.5).as_dict()
    np.testing.assert_array_equal(series, before)


def test_a_shorter_horizon_keeps_the_models_forecasts() -> None:
    series = motor(60)
    long, short = replay(series, horizon=DAY), replay(series, horizon=5)
    for model in Model:
        np.testing.assert_allclose(short.forecasts[model], long.forecasts[model][:, :5], rtol=1e-9)


def test_profiles_agree_with_numpy_and_use_nothing_of_the_day_before() -> None:
    series = with_gaps(motor(40))
    lags = lagged(series, period=DAY, count=5)
    hour = 30 * DAY + 7
    same_hour = series[[hour - k * DAY for k in range(1, 6)]]
    assert mean_of(lags)[hour] == pytest.approx(np.nanmean(same_hour))
    assert median_of(lags)[hour] == pytest.approx(np.nanmedian(same_hour))
    assert usual_level(series)[hour] == pytest.approx(np.nanmean(series[hour - 29 * DAY + 1 : hour - DAY + 1]))
    assert np.isnan(median_of(lags)[:DAY]).all()


def test_levels_step_over_gaps() -> None:
    series = np.array([np.nan, 2.0, np.nan, np.nan, 4.0])
    np.testing.assert_array_equal(last_known(series), [0, 0, 2, 2, 2, 4])
    weights = 0.5 ** np.array([3, 0])
    expected = np.sum(weights * [2.0, 4.0]) / np.sum(weights)
    np.testing.assert_allclose(running_level(series, gain=0.5), [0, 0, 2, 2, 2, expected])
