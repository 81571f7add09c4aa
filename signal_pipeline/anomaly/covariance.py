"""How healthy deviations vary together, seen from outside: a covariance of what was left out.

Not here: scaling, thresholds. Every fold is centred on the *other* folds' mean, so what differs between recordings
counts as healthy variation, which a covariance about the common mean hides.
"""

import numpy as np

from signal_pipeline.anomaly.arrays import F8, I8
from signal_pipeline.anomaly.reference import Shape
from signal_pipeline.anomaly.tuning import Tuning

FLOOR = 1e-9


def left_out_deviations(smoothed: F8, folds: I8) -> F8:
    """`smoothed` (n, d), each fold minus the mean of all others; with one fold only, minus its own mean."""
    names = np.unique(folds)
    if len(names) == 1:
        return np.asarray(smoothed - smoothed.mean(axis=0))
    out = np.empty_like(smoothed)
    for name in names:
        out[folds == name] = smoothed[folds == name] - smoothed[folds != name].mean(axis=0)
    return out


def ledoit_wolf(x: F8) -> float:
    """The best share of a multiple of the identity in the covariance of `x` (n, d), rows about 0.

    Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices, lemma 3.
    """
    n, d = x.shape
    sample = x.T @ x / n
    distance = np.square(sample - np.trace(sample) / d * np.eye(d)).sum()
    noise = (np.square(np.square(x).sum(axis=1)).mean() - np.square(sample).sum()) / n
    return 1.0 if distance <= 0 else float(min(max(noise / distance, 0.0), 1.0))


def fit_shape(smoothed: F8, folds: I8, tuning: Tuning) -> Shape:
    """Directions and variances of `smoothed` (n, d) over `folds`, the correlations shrunk towards none."""
    deviations = left_out_deviations(smoothed, folds)
    spread = np.sqrt(np.maximum(np.square(deviations).mean(axis=0), FLOOR))
    standard = deviations / spread
    shrinkage = ledoit_wolf(standard)
    correlation = standard.T @ standard / len(standard)
    d = len(spread)
    shrunk = (1 - shrinkage) * correlation + shrinkage * np.eye(d)
    variances, directions = np.linalg.eigh(shrunk)
    variances, directions = np.maximum(variances[::-1], FLOOR), directions[:, ::-1]
    share = np.cumsum(variances) / variances.sum()
    n_leading = min(int(np.searchsorted(share, tuning.leading_share)) + 1, d)
    if tuning.residual == "pooled" and n_leading < d:
        variances = np.concatenate([variances[:n_leading], np.full(d - n_leading, variances[n_leading:].mean())])
    white = directions / np.sqrt(variances) / spread[:, None]
    return Shape(np.ascontiguousarray(white), n_leading, spread, shrinkage)
