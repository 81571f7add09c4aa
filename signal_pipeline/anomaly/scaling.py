"""Which features take part in a reference, and the unit that each is measured in. Not here: how they vary together."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from signal_pipeline.anomaly.arrays import F8
from signal_pipeline.anomaly.reference import Dropped, Scaler
from signal_pipeline.anomaly.tuning import MAX_MISSING

IQR_OF_NORMAL: Final = 1.3489795003921634
TAILS_OF_NORMAL: Final = 3.2897072539029444
"""Distances, in sd of a normal distribution, from its 25th to its 75th and from its 5th to its 95th percentile."""
LEVELS: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


def fit_scaler(features: Sequence[str], values: F8, *, at_most: int | None = None) -> Scaler:
    """Medians and robust standard deviations of the features that vary and are there, of the first `at_most` such."""
    present = np.isfinite(values)
    there = present.sum(axis=0) >= (1 - MAX_MISSING) * len(values)
    centres, scales = np.zeros(len(features)), np.zeros(len(features))
    whole = there & present.all(axis=0)
    centres[whole], scales[whole] = _describe(values[:, whole])
    for column in np.flatnonzero(there & ~whole):
        centres[[column]], scales[[column]] = _describe(values[present[:, column]][:, [column]])
    varies = np.flatnonzero(there & (scales > 0))
    columns = varies if at_most is None else varies[:at_most]
    dropped = {
        features[i]: Dropped.MISSING if not there[i] else Dropped.CONSTANT if scales[i] == 0 else Dropped.SURPLUS
        for i in np.setdiff1d(np.arange(len(features)), columns).tolist()
    }
    if not len(columns):
        raise ValueError(f"none of the {len(features)} features varies over these windows: {dropped}")
    return Scaler(tuple(features), columns.astype(np.int64), centres[columns], scales[columns], dropped)


def _describe(x: F8) -> tuple[F8, F8]:
    """Medians and standard deviations (d,) of `x` (n, d), all finite, n > 0.

    The deviation is that of the quartiles; of wider quantiles, then of the moments, where half or nearly all of the
    values are the same. 0 where all are.
    """
    rows = np.sort(x.T, axis=1)  # each feature contiguous: a few recordings are simulated a thousand times
    lowest, low, centre, high, highest = np.quantile(rows, LEVELS, axis=1)
    quartiles, tails = (high - low) / IQR_OF_NORMAL, (highest - lowest) / TAILS_OF_NORMAL
    scale = np.where(quartiles > 0.1 * tails, quartiles, np.where(tails > 0, tails, rows.std(axis=1)))
    constant = rows[:, -1] - rows[:, 0] <= 1e-9 * np.maximum(np.abs(rows[:, 0]), np.abs(rows[:, -1]))
    return centre, np.where(constant, 0.0, scale)
