"""Coverage and probabilities: what they promise, kept on fresh data."""

import numpy as np
import pytest

from signal_pipeline.forecast import accuracy
from signal_pipeline.forecast.arrays import F8
from signal_pipeline.forecast.exceedance import exceedance_probability
from signal_pipeline.forecast.intervals import MOST_RESCALED, bounds, needed_errors, rescaled
from signal_pipeline.forecast.issue import Forecast, issue

from .series import DAY, motor


def _rolled(series: F8, limit: float, *, first_day: int, every: int) -> tuple[list[Forecast], F8]:
    origins = range(first_day * DAY, len(series) - DAY, every)
    answers = [issue(series[:origin], limit=limit) for origin in origins]
    issued = [answer for answer in answers if isinstance(answer, Forecast)]
    assert len(issued) == len(origins)
    return issued, np.stack([series[origin : origin + DAY] for origin in origins])


def test_bounds_of_independent_errors_cover_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    inside = {0.8: [], 0.95: []}  # type: dict[float, list[bool]]
    for _ in range(2000):
        errors = rng.exponential(size=(60, 1)) - 1
        fresh = rng.exponential() - 1
        for level, seen in inside.items():
            lower, upper = bounds(errors, level)
            seen.append(bool(lower[0] <= fresh <= upper[0]))
    for level, seen in inside.items():
        assert level - 0.02 <= np.mean(seen) <= level + 0.05


@pytest.mark.parametrize(("level", "needed"), [(0.8, 9), (0.95, 39)])
def test_a_level_needs_its_number_of_errors(level: float, needed: int) -> None:
    assert needed_errors(level) == needed
    errors = np.arange(1.0, needed + 1)[:, None] - needed / 2
    lower, upper = bounds(errors, level)
    assert (lower[0], upper[0]) == (errors.min(), errors.max())
    with pytest.raises(ValueError, match=f"{needed - 1} past errors"):
        bounds(errors[1:], level)


def test_errors_far_ahead_share_hours_and_so_count_for_fewer() -> None:
    errors = np.repeat(np.random.default_rng(0).normal(size=(500, 1)), 24, axis=1)
    lower, upper = bounds(errors, 0.8)
    assert upper[0] == upper[1] < upper[-1]
    assert lower[0] > lower[-1]


def test_skewed_errors_give_skewed_bounds() -> None:
    lower, upper = bounds(np.random.default_rng(0).exponential(size=(500, 3)) - 0.5, 0.95)
    assert (upper > 2 * -lower).all()


def test_errors_of_quiet_days_count_more_on_wild_ones_but_not_without_end() -> None:
    errors = np.ones((50, 2))
    rest = np.concatenate([np.full(2000, 0.1), np.full(400, 0.2)])
    twice = rescaled(errors, rest)
    assert twice[-1, 0] == 1
    assert rescaled(np.ones((2000, 2)), rest)[0, 0] == pytest.approx(2, rel=0.2)
    assert rescaled(np.ones((2000, 2)), np.where(rest > 0.1, 1e6, rest))[0, 0] == MOST_RESCALED
    np.testing.assert_array_equal(rescaled(errors, np.zeros(2400)), errors)


def test_coverage_holds_while_the_noise_grows_and_the_level_drifts() -> None:
    rng = np.random.default_rng(3)
    hours = np.arange(200 * DAY)
    series = motor(200) + hours / 1000 + rng.normal(0, 0.05 + hours / len(hours) * 0.4)
    issued, actual = _rolled(series, 13.0, first_day=90, every=41)
    for level, margin in ((80, 0.04), (95, 0.025)):
        lower, upper = (np.stack([getattr(f, f"{side}_{level}") for f in issued]) for side in ("lower", "upper"))
        assert accuracy.coverage(actual, lower, upper) == pytest.approx(level / 100, abs=margin)


def test_probabilities_beat_the_climatology() -> None:
    series = motor(160)
    limit = float(np.quantile(series[: 60 * DAY], 0.9))
    issued, actual = _rolled(series, limit, first_day=60, every=95)
    ours = accuracy.brier(actual, np.stack([np.asarray(f.exceedance_probability) for f in issued]), limit=limit)
    usual = accuracy.brier(actual, np.full(actual.shape, np.mean(series[: 60 * DAY] > limit)), limit=limit)
    assert accuracy.skill(ours, usual) > 0.1


def test_an_overconfident_probability_is_taken_back() -> None:
    """Errors that are said to be small, and outcomes that do not care: every past hour is a coin's toss."""
    rng = np.random.default_rng(0)
    forecasts = rng.choice([-1.0, 1.0], size=(1345, 2))
    targets = rng.choice([-1.0, 1.0], size=(1345, 2))
    small = rng.normal(0, 0.3, size=(1345, 2))
    probability = exceedance_probability(forecasts, small, targets, 0.0)
    assert np.abs(probability - 0.5).max() < 0.1
    kept = exceedance_probability(forecasts, small, forecasts, 0.0)
    assert np.abs(kept - (forecasts[-1] > 0)).max() < 0.05


def test_without_any_past_outcome_the_probability_is_the_share_of_errors() -> None:
    errors = np.linspace(-1, 1, 99)[:, None]
    unknown = np.full((99, 1), np.nan)
    assert exceedance_probability(np.zeros((99, 1)), errors, unknown, 0.0)[0] == pytest.approx(0.5, abs=0.01)


def test_accuracy_is_what_its_formulas_say() -> None:
    history = np.concatenate([np.zeros(DAY), np.full(DAY, 2.0), np.full(DAY, np.nan)])
    scale = accuracy.seasonal_scale(history)
    actual = np.array([1.0, 2.0, np.nan])
    assert scale == 2
    assert accuracy.mase(actual, np.array([2.0, 4.0, 0.0]), scale=scale) == 0.75
    assert accuracy.coverage(actual, np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.0, 9.0])) == 0.5
    assert accuracy.brier(actual, np.array([0.5, 1.0, 1.0]), limit=1.5) == 0.125
    assert accuracy.skill(0.1, 0.4) == pytest.approx(0.75)
    assert np.isnan(accuracy.skill(0.0, 0.0))
