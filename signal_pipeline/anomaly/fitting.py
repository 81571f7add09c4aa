"""Fitting a reference to healthy windows: scaling, shape, and a threshold from what was left out of both.

Here: the order of the steps. Not here: formulas (`scaling`, `covariance`, `calibration`, `few`), files, labels;
nothing is ever fitted to a label.
"""

from collections.abc import Sequence

import numpy as np

from signal_pipeline.anomaly.arrays import F8, I8
from signal_pipeline.anomaly.calibration import calibrate, calibrate_on_simulated
from signal_pipeline.anomaly.covariance import fit_shape
from signal_pipeline.anomaly.few import simulate_unseen
from signal_pipeline.anomaly.folds import MAX_FOLDS, before, kept_from, split_folds
from signal_pipeline.anomaly.reference import Calibration, Reference, Scaler, Shape
from signal_pipeline.anomaly.scaling import fit_scaler
from signal_pipeline.anomaly.stream import advance, blank
from signal_pipeline.anomaly.tuning import (
    FALSE_EVENTS_PER_1000,
    FEATURES_PER_FOLD,
    PERSISTENCES,
    TUNINGS,
    Kind,
    Persistence,
    Tuning,
)


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
    stretches) only the first `FEATURES_PER_FOLD` features a recording do, so put those that say most in front, and
    the threshold comes from recordings simulated after these few (`few`). Otherwise it comes from scores of what was
    left out, and scaling and shape behind those from other folds only.

    Raises `ValueError`, naming what is missing, where the windows are too few or hold nothing that varies.
    """
    chosen = TUNINGS[kind] if tuning is None else tuning
    rule = PERSISTENCES[kind] if persistence is None else persistence
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(recordings), len(features)):
        raise ValueError(f"values have the shape {values.shape}, not {(len(recordings), len(features))}")
    folds = split_folds(recordings)
    names = tuple(dict.fromkeys(recordings))
    few = 1 < len(names) < MAX_FOLDS
    scaler = fit_scaler(features, values, at_most=FEATURES_PER_FOLD * len(names) if few else None)
    several = len(names) > 1
    calibration = _calibrate(
        scaler.used,
        values[:, scaler.columns],
        folds,
        chosen,
        persistence=rule,
        false_events_per_1000=false_events_per_1000,
        few=few,
        several=several,
    )
    return Reference(
        kind=kind,
        scaler=scaler,
        shape=_fit_shape(scaler, values, folds, chosen, several=several),
        calibration=calibration,
        tuning=chosen,
        persistence=rule,
        recordings=names,
        n_windows=len(values),
    )


def _calibrate(
    features: Sequence[str],
    values: F8,
    folds: I8,
    tuning: Tuning,
    *,
    persistence: Persistence,
    false_events_per_1000: float,
    few: bool,
    several: bool,
) -> Calibration:
    if few:
        simulated = simulate_unseen(features, values, folds, tuning)
        return calibrate_on_simulated(
            simulated, persistence, false_events_per_1000=false_events_per_1000, repeats=tuning.frozen
        )
    left_out = [_score_left_out(features, values, folds, fold, tuning, several=several) for fold in np.unique(folds)]
    return calibrate(left_out, persistence, false_events_per_1000=false_events_per_1000)


def _fit_shape(scaler: Scaler, values: F8, folds: I8, tuning: Tuning, *, several: bool) -> Shape:
    from signal_pipeline.anomaly import kernel

    smoothed = kernel.smooth(scaler.apply(values), tuning.smoothing, tuning.knee)
    return fit_shape(smoothed, folds, tuning, several=several)


def _score_left_out(features: Sequence[str], values: F8, folds: I8, fold: int, tuning: Tuning, *, several: bool) -> F8:
    """Scores (n_fold,) of one fold by a model that has seen neither it nor what is too near. As in life its stream
    comes from somewhere: from the fold before."""
    known = ~kept_from(folds, fold, several=several, frozen=tuning.frozen)
    learnt, earlier = values[known], values[before(folds, fold)]
    scaler = fit_scaler(features, learnt)
    shape = _fit_shape(scaler, learnt, folds[known], tuning, several=several)
    stretch = np.concatenate([earlier, values[folds == fold]])
    state = blank("", len(scaler.columns))
    t2, q, *_ = advance(scaler, shape, tuning, state, stretch, settled=len(learnt) if several else 0)
    return (t2 + q)[len(earlier) :]
