"""How good forecasts were, against what came. For benchmarks, and for whoever checks stored forecasts.

Not here: forecasts. Every function ignores hours whose actual value is NaN, and returns NaN where none is left.
"""

import numpy as np

from signal_pipeline.forecast.arrays import F8
from signal_pipeline.forecast.lags import DAY


def seasonal_scale(history: F8, *, period: int = DAY) -> float:
    """Mean absolute difference between hours `period` apart in `history` (n,): the denominator of MASE.

    Source: Hyndman and Koehler, Another look at measures of forecast accuracy, 2006.
    """
    return _mean(np.abs(history[period:] - history[:-period]))


def mase(actual: F8, forecast: F8, *, scale: float) -> float:
    """Mean absolute scaled error; arrays of one shape, `scale` from `seasonal_scale` of the hours before."""
    return _mean(np.abs(actual - forecast)) / scale


def coverage(actual: F8, lower: F8, upper: F8) -> float:
    """Share of the hours that lie in [lower, upper]."""
    inside = (actual >= lower) & (actual <= upper)
    return _mean(np.where(np.isfinite(actual), inside, np.nan))


def brier(actual: F8, probability: F8, *, limit: float) -> float:
    """Mean squared difference between P(hour > limit) and whether it was. Source: Brier, 1950."""
    return _mean(np.where(np.isfinite(actual), probability - (actual > limit), np.nan) ** 2)


def skill(score: float, reference: float) -> float:
    """1 - score / reference: 1 is perfect, 0 no better than the reference; NaN when the reference was perfect."""
    return 1 - score / reference if reference > 0 else float("nan")


def _mean(values: F8) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
