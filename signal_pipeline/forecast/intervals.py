"""Intervals from the errors that a model really made: split conformal, a horizon and a side at a time.

Past errors come from forecasts at past origins, by weights fitted before them, so they were never fitted themselves.
They roll with the series and are rescaled by how restless it is now, so that coverage holds while it drifts. Not here:
the forecasts; distributions, none is assumed. Source: Vovk et al., Algorithmic Learning in a Random World, 2005.
"""

import math
from typing import Final

import numpy as np

from signal_pipeline.forecast.arrays import F8
from signal_pipeline.forecast.lags import running_level

RESTLESSNESS_GAIN: Final = 0.005
"""A memory of 200 hours for how far hours lie from their profile."""
MOST_RESCALED: Final = 3.0
"""An error of quiet or wild days counts at most this many times more, or less."""


def needed_errors(level: float) -> int:
    """How many past errors a bound on each side needs, for intervals of `level` (0 < level < 1)."""
    tail = (1 - level) / 2
    return math.ceil(round((1 - tail) / tail, 9))  # the smallest m with (m + 1)(1 - tail) <= m; 39 for .95


def rescaled(errors: F8, rest: F8) -> F8:
    """`errors` (rows, horizon), made at the last `rows` origins, as they would be in the series' present mood.

    `rest` (n,) is how far each hour lies from its profile, NaN = unknown.
    """
    mood = running_level(np.abs(rest), gain=RESTLESSNESS_GAIN)[-len(errors) :]
    known = mood > 0
    ratio = np.divide(mood[-1], mood, out=np.ones(len(mood)), where=known)
    scaled: F8 = errors * np.clip(ratio, 1 / MOST_RESCALED, MOST_RESCALED)[:, None]
    return scaled


def bounds(errors: F8, level: float) -> tuple[F8, F8]:
    """What to add to a forecast for its lower and its upper bound at `level`, (horizon,) each; lower <= 0 <= upper.

    `errors` (rows, horizon) are actual - forecast, NaN = unknown. The upper bound is the ceil(m (1 + 1/k)(1 - tail))-th
    smallest of a horizon's m errors, k of them independent; the lower one the same of their negatives. `ValueError`
    when m is too small.
    """
    if (fewest := int(np.isfinite(errors).sum(axis=0).min())) < needed_errors(level):
        raise ValueError(f"{fewest} past errors; intervals of {level} need {needed_errors(level)} at every horizon")
    tail = (1 - level) / 2
    # the forecast itself always lies inside: a biased past widens one side and never leaves it out
    return np.minimum(-_upper(-errors, tail), 0.0), np.maximum(_upper(errors, tail), 0.0)


def _upper(errors: F8, tail: float) -> F8:
    ordered = np.sort(errors, axis=0)  # NaN sorts last
    count = np.isfinite(errors).sum(axis=0)
    # forecasts h hours ahead from neighbouring origins share hours, so that every h/2-th error says something new
    independent = count / np.maximum(1.0, np.arange(1, errors.shape[1] + 1) / 2)
    wanted = np.ceil(np.round(count * (1 + 1 / independent) * (1 - tail), 9)).astype(np.int64)
    rank = np.minimum(wanted, count) - 1
    chosen: F8 = ordered[rank, np.arange(errors.shape[1])]
    return chosen
