"""How healthy deviations vary together: within a recording, and between recordings where there are several.

Not here: scaling, thresholds. What differs between recordings counts as healthy variation, which a covariance about
the common mean hides. It is seen once a recording, so from few of them only its size is believed, and hardly its
directions: a fault may well lie in the one direction in which two recordings happened to differ.
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


def of_stretches(smoothed: F8, folds: I8) -> tuple[F8, float]:
    """Covariance (d, d) of left-out deviations of one recording's stretches, correlations shrunk towards none."""
    return _shrunk(left_out_deviations(smoothed, folds))


def of_recordings(smoothed: F8, folds: I8) -> tuple[F8, float]:
    """Covariance (d, d) of a window of a new recording about the mean of K recordings: within plus between.

    Within recordings it is Ledoit and Wolf's. Between them it is the scatter of the K means, times 1 + 1/K for the
    mean that it is compared with, shrunk to a multiple of the identity by d / (d + K - 1): as if d recordings had
    shown every feature to differ alike. With few recordings the features so share one variance, whose many degrees of
    freedom keep a prediction from it finite; with many, each has its own.
    """
    names, place = np.unique(folds, return_inverse=True)
    k, d = len(names), smoothed.shape[1]
    means = np.array([smoothed[folds == name].mean(axis=0) for name in names])
    within, shrinkage = _shrunk(smoothed - means[place])
    return within + (1 + 1 / k) * scatter_of_means(means, d / (d + k - 1)), shrinkage


def scatter_of_means(means: F8, share: float) -> F8:
    """Covariance (d, d) of `means` (k, d), k > 1, of which `share` is its mean variance times the identity."""
    scatter = np.atleast_2d(np.cov(means, rowvar=False))
    d = len(scatter)
    return np.asarray((1 - share) * scatter + share * np.trace(scatter) / d * np.eye(d))


def _shrunk(deviations: F8) -> tuple[F8, float]:
    spread = np.sqrt(np.maximum(np.square(deviations).mean(axis=0), FLOOR))
    standard = deviations / spread
    share = ledoit_wolf(standard)
    correlation = (1 - share) * (standard.T @ standard / len(standard)) + share * np.eye(len(spread))
    return correlation * np.outer(spread, spread), share


def fit_shape(smoothed: F8, folds: I8, tuning: Tuning, *, several: bool) -> Shape:
    """Directions and variances of `smoothed` (n, d); `several`: the folds are recordings, not stretches of one."""
    covariance, shrinkage = of_recordings(smoothed, folds) if several else of_stretches(smoothed, folds)
    spread = np.sqrt(np.diag(covariance))
    variances, directions = np.linalg.eigh(covariance / np.outer(spread, spread))
    variances, directions = np.maximum(variances[::-1], FLOOR), directions[:, ::-1]
    d = len(spread)
    share = np.cumsum(variances) / variances.sum()
    n_leading = min(int(np.searchsorted(share, tuning.leading_share)) + 1, d)
    if tuning.residual == "pooled" and n_leading < d:
        variances = np.concatenate([variances[:n_leading], np.full(d - n_leading, variances[n_leading:].mean())])
    white = directions / np.sqrt(variances) / spread[:, None]
    return Shape(np.ascontiguousarray(white), n_leading, spread, shrinkage)
