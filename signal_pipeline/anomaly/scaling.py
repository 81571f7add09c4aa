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


def fit_scaler(features: Sequence[str], values: F8, *, at_most: int | None = None) -> Scaler:
    """Medians and robust standard deviations of the features that vary and are there, of the first `at_most` such."""
    finite = np.where(np.isfinite(values), values, np.nan)
    dropped: dict[str, Dropped] = {}
    columns: list[int] = []
    centres: list[float] = []
    scales: list[float] = []
    for column, name in enumerate(features):
        x = finite[:, column]
        x = x[~np.isnan(x)]
        if len(x) < (1 - MAX_MISSING) * len(values):
            dropped[name] = Dropped.MISSING
            continue
        scale = _robust_scale(x)
        if scale == 0:
            dropped[name] = Dropped.CONSTANT
            continue
        if at_most is not None and len(columns) >= at_most:
            dropped[name] = Dropped.SURPLUS
            continue
        columns.append(column)
        centres.append(float(np.median(x)))
        scales.append(scale)
    if not columns:
        raise ValueError(f"none of the {len(features)} features varies over these windows: {dropped}")
    return Scaler(tuple(features), np.array(columns, dtype=np.int64), np.array(centres), np.array(scales), dropped)


def _robust_scale(x: F8) -> float:
    """Standard deviation from the quartiles; from wider quantiles, then from the moments, where half or nearly all of
    the values are the same. 0 where all are."""
    if np.ptp(x) <= 1e-9 * np.abs(x).max():
        return 0.0
    lowest, low, high, highest = (float(level) for level in np.quantile(x, [0.05, 0.25, 0.75, 0.95]))
    quartiles, tails = (high - low) / IQR_OF_NORMAL, (highest - lowest) / TAILS_OF_NORMAL
    if quartiles > 0.1 * tails:
        return quartiles
    return tails if tails > 0 else float(x.std())
