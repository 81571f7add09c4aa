"""What a series' own past says about an hour: the same hour of earlier days and weeks, and the level just before.

Here: profiles, that use nothing later than a day before the hour they speak of, and running levels. So a profile is
known for all of the next `DAY` hours at once, whatever the origin; and since lags count back from the hour itself,
nobody has to say which hour of the week a series begins with. Not here: what is made of them.
"""

from typing import Final

import numpy as np

from signal_pipeline.forecast.arrays import F8

DAY: Final = 24
WEEK: Final = 168
MEMORY_DAYS: Final = 28
"""How far back profiles look."""


def lagged(values: F8, *, period: int, count: int) -> F8:
    """The hours `period`, 2 `period`, … `count` `period` before each hour of `values` and of the day after it.

    `values` (n,), NaN where nothing is known; returns (count, n + DAY). `period` >= DAY, or the day after would need
    itself.
    """
    n = len(values)
    out = np.full((count, n + DAY), np.nan)
    for k in range(1, count + 1):
        known = values[: max(0, n + DAY - k * period)]
        out[k - 1, min(k * period, n + DAY) :] = known
    return out


def mean_of(lags: F8) -> F8:
    """Mean over axis 0 of what is known; NaN where nothing is."""
    known = np.isfinite(lags)
    count = known.sum(axis=0)
    total = np.where(known, lags, 0.0).sum(axis=0)
    mean: F8 = np.divide(total, count, out=np.full(lags.shape[1], np.nan), where=count > 0)
    return mean


def median_of(lags: F8) -> F8:
    """Median over axis 0 of what is known; NaN where nothing is."""
    ordered = np.sort(lags, axis=0)  # NaN sorts last
    count = np.isfinite(lags).sum(axis=0)
    columns = np.arange(lags.shape[1])
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    middle: F8 = 0.5 * (ordered[low, columns] + ordered[np.minimum(high, len(lags) - 1), columns])
    return middle


def usual_level(values: F8) -> F8:
    """Mean of everything known in the `MEMORY_DAYS` that end a day before each hour: what to say of an hour of the
    day that was never seen. (n + DAY,)."""
    width = MEMORY_DAYS * DAY
    known = np.isfinite(values)
    counts = np.concatenate([[0], np.cumsum(known)])
    totals = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    end = np.maximum(np.arange(len(values) + DAY) + 1 - DAY, 0)
    start = np.maximum(end - width, 0)
    count = counts[end] - counts[start]
    mean: F8 = np.divide(totals[end] - totals[start], count, out=np.full(len(end), np.nan), where=count > 0)
    return mean


def last_known(values: F8) -> F8:
    """The last known value before each hour and at the end, (n + 1,); 0 before the first."""
    places = np.where(np.isfinite(values), np.arange(1, len(values) + 1), 0)
    latest = np.concatenate([[0], np.maximum.accumulate(places)]) if len(values) else np.zeros(1, dtype=np.int64)
    known: F8 = np.concatenate([[0.0], values])[latest]
    return known


def running_level(values: F8, *, gain: float) -> F8:
    """Exponentially weighted mean of what is known before each hour and at the end, (n + 1,); 0 before the first.

    Weights fall by `1 - gain` an hour by the clock, and are divided by their sum, so that a gap neither counts as a
    zero nor stops time.
    """
    from scipy.signal import lfilter  # not at import: it takes a second or more, and every run worker would pay it

    known = np.isfinite(values)
    total = lfilter([gain], [1.0, gain - 1.0], np.where(known, values, 0.0))
    weight = lfilter([gain], [1.0, gain - 1.0], known.astype(np.float64))
    level = np.divide(total, weight, out=np.zeros(len(values)), where=weight > 1e-9)
    return np.concatenate([[0.0], level])
