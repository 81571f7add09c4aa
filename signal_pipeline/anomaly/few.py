"""What a healthy new recording would score, where the recordings are too few to leave any out: a parametric bootstrap.

Leaving one of three out asks a model of two, whose idea of how recordings differ rests on a single difference; the
threshold of such models is no statement about the model of three. So recordings are drawn that differ as these few
do, the whole fit is made on as many of them as there are, and one more is scored. What few recordings do not know is
then in the spread of the scores, no more and no less. Not here: the threshold (`calibration`).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from signal_pipeline.anomaly.arrays import F8, I8
from signal_pipeline.anomaly.covariance import fit_shape, scatter_of_means
from signal_pipeline.anomaly.scaling import fit_scaler
from signal_pipeline.anomaly.stream import advance, blank
from signal_pipeline.anomaly.tuning import Tuning

ROUNDS: Final = 1000
MAX_WINDOWS: Final = 200
"""Of a recording; the rest of a longer one adds time, and no recording."""


def simulate_unseen(features: Sequence[str], values: F8, folds: I8, tuning: Tuning) -> list[tuple[F8, F8]]:
    """Scores (m_i,), (n_i,) of `ROUNDS` pairs of unseen recordings, one after the other, each pair by its own model.

    `values` (n, d), a fold a recording. A drawn recording is the wander of a real one about its mean, at another
    mean: normal, with the scatter of the real means shrunk as `covariance.of_recordings` does. The same windows give
    the same scores.
    """
    rng = np.random.default_rng(0)
    wanders, root = _recordings(features, values, folds)
    k, d = len(wanders), values.shape[1]
    scores = []
    for _ in range(ROUNDS):
        means = rng.normal(size=(k + 2, d)) @ root.T
        drawn = [wanders[i] + mean for i, mean in zip(rng.integers(k, size=k + 2), means, strict=True)]
        scores.append(_score_last_two(features, drawn, tuning))
    return scores


def _recordings(features: Sequence[str], values: F8, folds: I8) -> tuple[list[F8], F8]:
    """Each recording's wander (n_i, d) about its mean in sd, and a root of the scatter of the means."""
    z = np.nan_to_num(fit_scaler(features, values).apply(values))
    parts = [z[folds == fold] for fold in np.unique(folds)]
    means = np.array([part.mean(axis=0) for part in parts])
    k, d = means.shape
    variances, directions = np.linalg.eigh(scatter_of_means(means, d / (d + k - 1)))
    return [(part - part.mean(axis=0))[:MAX_WINDOWS] for part in parts], directions * np.sqrt(np.maximum(variances, 0))


def _score_last_two(features: Sequence[str], drawn: Sequence[F8], tuning: Tuning) -> tuple[F8, F8]:
    """Scores of the last two recordings, one stream, by a model of all before them."""
    from signal_pipeline.anomaly import kernel

    *learnt, before, last = drawn
    known = np.concatenate(learnt)
    folds = np.repeat(np.arange(len(learnt)), [len(part) for part in learnt])
    scaler = fit_scaler(features, known)
    shape = fit_shape(kernel.smooth(scaler.apply(known), tuning.smoothing, tuning.knee), folds, tuning, several=True)
    state = blank("", len(scaler.columns))
    t2, q, *_ = advance(scaler, shape, tuning, state, np.concatenate([before, last]), settled=len(known))
    total = t2 + q
    return total[: len(before)], total[len(before) :]
