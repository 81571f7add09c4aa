"""Detectors that the anomaly benchmarks run: our shipped models and their peers, all with one signature.

Here: `Detector`s and the rates that compare them. Not here: data, and any knob of ours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from signal_pipeline.anomaly.arrays import F8, Bools
from signal_pipeline.anomaly.calibration import in_alarm
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.stream import score, start
from signal_pipeline.anomaly.tuning import Kind, Persistence

Judged = tuple[F8, Bools, Bools]
"""For every window: its score, whether it is anomalous by itself, and whether an event is on (k of n, hysteresis)."""

Judge = Callable[[F8], Judged]
Detector = Callable[[Sequence[str], F8, Sequence[str]], Judge]
"""Features, healthy windows (n, d) and their recordings give a judge of other windows (m, d), a stream of their own."""


def ours(kind: Kind) -> Detector:
    """The shipped model with the shipped settings."""

    def learn(features: Sequence[str], healthy: F8, recordings: Sequence[str]) -> Judge:
        reference = fit(features, healthy, recordings, kind=kind)
        return lambda values: judge_by(reference, values)

    return learn


def judge_by(reference: Reference, values: F8) -> Judged:
    scores, _ = score(reference, start(reference), values)
    raising = np.where(scores.warming | ~scores.scored, 0.0, scores.score)
    limits = np.full(len(values), reference.threshold)
    return scores.score, scores.is_anomaly, in_alarm(raising, limits, reference.persistence)


def isolation_forest(features: Sequence[str], healthy: F8, recordings: Sequence[str]) -> Judge:
    """scikit-learn's, above the 99 % quantile of its own training windows."""
    from sklearn.ensemble import IsolationForest

    whole = _whole(healthy)
    model = IsolationForest(random_state=0).fit(healthy[:, whole])
    return _above_quantile(lambda values: np.asarray(-model.score_samples(values[:, whole])), healthy)


def frozen_t2(features: Sequence[str], healthy: F8, recordings: Sequence[str]) -> Judge:
    """Hotelling's T² of mean and covariance, above the 99 % quantile of its own training windows."""
    whole = _whole(healthy)
    centre = healthy[:, whole].mean(axis=0)
    precision = np.linalg.pinv(np.cov(healthy[:, whole], rowvar=False))

    def t2(values: F8) -> F8:
        deviations = values[:, whole] - centre
        return np.asarray(np.einsum("ij,jk,ik->i", deviations, precision, deviations))

    return _above_quantile(t2, healthy)


def always(features: Sequence[str], healthy: F8, recordings: Sequence[str]) -> Judge:
    """What F1 gives to whoever always alarms."""
    return lambda values: (np.zeros(len(values)), np.ones(len(values)) > 0, np.ones(len(values)) > 0)


DETECTORS: dict[str, Detector] = {
    "stream": ours("stream"),
    "stats": ours("stats"),
    "isolation_forest": isolation_forest,
    "frozen_t2": frozen_t2,
}


def rates(alarm: Bools, label: Bools) -> dict[str, float]:
    """F1, false alarm rate and missed alarm rate of windows."""
    hits = int((alarm & label).sum())
    return {
        "f1": round(2 * hits / int(alarm.sum() + label.sum()), 4),
        "far": round(float(alarm[~label].mean()), 4),
        "mar": round(float(1 - alarm[label].mean()), 4),
    }


def count_events(alarm: Bools) -> int:
    """How often an alarm begins."""
    return int((np.diff(alarm.astype(np.int8), prepend=0) == 1).sum())


def per_1000(events: int, windows: int) -> dict[str, Any]:
    """Events beside the windows that they were counted in."""
    return {"windows": windows, "events": events, "events_per_1000": round(1000 * events / windows, 2)}


def _whole(healthy: F8) -> Bools:
    """Columns without a hole: the peers know none."""
    return np.asarray(np.isfinite(healthy).all(axis=0))


def _above_quantile(scores_of: Callable[[F8], F8], healthy: F8) -> Judge:
    limit = float(np.quantile(scores_of(healthy), 0.99))

    def judge(values: F8) -> Judged:
        scores = scores_of(values)
        high = scores >= limit
        # no hysteresis: it is a share of the threshold, and these scores may be negative
        return scores, high, in_alarm(high.astype(np.float64), np.ones(len(values)), Persistence(hysteresis=1.0))

    return judge
