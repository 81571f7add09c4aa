"""Fitting a reference to healthy windows: scaling, shape, and a threshold from what was left out of both.

Here: the order of the steps. Not here: formulas (`covariance`, `calibration`), files, labels; nothing is ever fitted
to a label.
"""

from collections.abc import Sequence

import numpy as np

from signal_pipeline.anomaly.arrays import F8, I8, Bools
from signal_pipeline.anomaly.calibration import calibrate
from signal_pipeline.anomaly.covariance import fit_shape
from signal_pipeline.anomaly.folds import MAX_FOLDS, split_folds
from signal_pipeline.anomaly.reference import Dropped, Reference, Scaler, Shape
from signal_pipeline.anomaly.stream import StreamState, advance
from signal_pipeline.anomaly.tuning import (
    FALSE_EVENTS_PER_1000,
    FEATURES_PER_FOLD,
    MAX_MISSING,
    TUNINGS,
    Kind,
    Persistence,
    Tuning,
)

IQR_OF_NORMAL = 1.3489795003921634
TAILS_OF_NORMAL = 3.2897072539029444
"""Distances, in sd of a normal distribution, from its 25th to its 75th and from its 5th to its 95th percentile."""


def fit(
    features: Sequence[str],
    values: F8,
    recordings: Sequence[str],
    *,
    kind: Kind = "stream",
    tuning: Tuning | None = None,
    persistence: Persistence | None = None,
    false_events_per_1000: float = FALSE_EVENTS_PER_1000,
) -> Reference:
    """A reference from `values` float64 (n, len(features)), healthy windows in time order, NaN = NULL.

    `recordings` names the recording of each window. A feature that is missing in more than 5 % of the windows or
    never changes takes no part; with fewer than twelve recordings (but more than one, which is cut into twelve
    stretches) only the first `FEATURES_PER_FOLD` features a recording do, so put those that say most in front. Scaling
    and shape behind the calibration's scores come from other folds only.

    Raises `ValueError`, naming what is missing, where the windows are too few or hold nothing that varies.
    """
    chosen = TUNINGS[kind] if tuning is None else tuning
    rule = Persistence() if persistence is None else persistence
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(recordings), len(features)):
        raise ValueError(f"values have the shape {values.shape}, not {(len(recordings), len(features))}")
    folds = split_folds(recordings)
    n_folds = int(folds.max()) + 1
    scaler = fit_scaler(features, values, at_most=FEATURES_PER_FOLD * n_folds if n_folds < MAX_FOLDS else None)
    used = values[:, scaler.columns]
    left_out = [_score_left_out(scaler.used, used, folds, fold, chosen) for fold in np.unique(folds)]
    return Reference(
        kind=kind,
        scaler=scaler,
        shape=_fit_shape(scaler, values, folds, chosen),
        calibration=calibrate(left_out, rule, false_events_per_1000=false_events_per_1000),
        tuning=chosen,
        persistence=rule,
        recordings=tuple(dict.fromkeys(recordings)),
        n_windows=len(values),
    )


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


def _fit_shape(scaler: Scaler, values: F8, folds: I8, tuning: Tuning) -> Shape:
    from signal_pipeline.anomaly import kernel

    smoothed = kernel.smooth(scaler.apply(values), tuning.smoothing, tuning.knee)
    return fit_shape(smoothed, folds, tuning)


def _score_left_out(features: Sequence[str], values: F8, folds: I8, fold: int, tuning: Tuning) -> F8:
    """Scores (n_fold,) of one fold by a model that has seen neither it nor the fold that its stream comes from.

    As in life the stream comes from somewhere: from the fold before (the last one, before the first). Were that one
    part of the fit, the place where the stream stands would be too familiar, and the threshold too low. With fewer
    than four folds too little would be left, and only the fold itself is left out.
    """
    n_folds = int(folds.max()) + 1
    before = folds == (fold - 1) % n_folds
    out = folds == fold
    learnt: Bools = ~(out | before) if n_folds > 3 else ~out
    scaler = fit_scaler(features, values[learnt])
    shape = _fit_shape(scaler, values[learnt], folds[learnt], tuning)
    d = len(scaler.columns)
    stretch = np.concatenate([values[before], values[out]])
    t2, q, _, _ = advance(scaler, shape, tuning, StreamState("", 0, np.zeros(d), np.zeros(d)), stretch)
    return (t2 + q)[int(before.sum()) :]
