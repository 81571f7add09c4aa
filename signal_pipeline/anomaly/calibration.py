"""Thresholds from scores of windows that took no part in the fit. Counts events, not windows.

Not here: fitting, scoring. An event needs k of the last n scores at or above the threshold, so what matters is the
k-th largest of the last n: its peaks over the left-out stretches say how high healthy life climbs, and the threshold
is the level that the next stretch passes with the chance that was asked for.
"""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from math import ceil, exp, expm1
from typing import Final

import numpy as np

from signal_pipeline.anomaly.arrays import F8, Bools
from signal_pipeline.anomaly.reference import Calibration
from signal_pipeline.anomaly.tuning import Persistence

METHOD: Final = "prediction limit of the log peaks of left-out stretches"
MIN_BLOCKS: Final = 8


def persistent(scores: F8, persistence: Persistence) -> F8:
    """The k-th largest of the last n scores, for every window (n_windows,); -inf while there are fewer than k."""
    padded = np.concatenate([np.full(persistence.n - 1, -np.inf), np.where(np.isnan(scores), -np.inf, scores)])
    recent = np.lib.stride_tricks.sliding_window_view(padded, persistence.n)
    place = persistence.n - persistence.k
    return np.asarray(np.partition(recent, place, axis=1)[:, place], dtype=np.float64)


def in_alarm(scores: F8, thresholds: F8, persistence: Persistence) -> Bools:
    """Whether an event is on at each window (n_windows,), by the rule of `events`; NaN scores never count."""
    out = np.zeros(len(scores), dtype=np.bool_)
    recent: deque[float] = deque(maxlen=persistence.n)
    on = False
    for i, level in enumerate((scores / thresholds).tolist()):
        recent.append(level)
        on = sum(x >= (persistence.hysteresis if on else 1.0) for x in recent) >= persistence.k
        if i and out[i - 1] and not on:
            recent.clear()
        out[i] = on
    return out


def calibrate(left_out: Sequence[F8], persistence: Persistence, *, false_events_per_1000: float) -> Calibration:
    """The threshold for `false_events_per_1000` healthy windows, from the scores (n_i,) of each left-out fold.

    The log of the peak of a stretch of L windows is taken as normal; the one-sided prediction limit for the next peak,
    mean + t(m-1)·s·sqrt(1 + 1/m) over m peaks, is exact for few of them (Hahn and Meeker 1991, Statistical
    Intervals). A stretch has L·rate events on average, so it has one with the chance 1 - exp(-L·rate).

    Raises `ValueError` where nothing can be calibrated on: fewer than two stretches with a score.
    """
    if not false_events_per_1000 > 0:
        raise ValueError(f"{false_events_per_1000=}: a rate must be above 0; none is promised by any threshold")
    pieces = ceil(MIN_BLOCKS / len(left_out))
    blocks = [b for fold in left_out for b in _pieces(persistent(fold, persistence), pieces) if np.isfinite(b).any()]
    if len(blocks) < 2:
        raise ValueError(f"{len(blocks)} left-out stretches have scores: two are needed, choose more recordings")
    n_windows = sum(len(block) for block in blocks)
    chance = -expm1(-n_windows / len(blocks) * false_events_per_1000 / 1000)
    threshold = _prediction_limit(np.log([max(block.max(), 1e-12) for block in blocks]), chance)
    alarms = [in_alarm(fold, np.full(len(fold), threshold), persistence) for fold in left_out]
    events = sum(int(alarm[:1].sum()) + sum(b and not a for a, b in pairwise(alarm)) for alarm in alarms)
    return Calibration(
        threshold=threshold,
        method=METHOD,
        target_false_events_per_1000=false_events_per_1000,
        achieved_false_events_per_1000=1000 * events / sum(len(fold) for fold in left_out),
        left_out_windows=sum(len(fold) for fold in left_out),
        blocks=len(blocks),
    )


def _pieces(scores: F8, count: int) -> list[F8]:
    return [piece for piece in np.array_split(scores, count) if len(piece)]


def _prediction_limit(log_peaks: F8, chance: float) -> float:
    """What the next log peak stays below but for `chance`; a zero score would have no log, so none is below 1e-12."""
    from scipy.stats import t as student  # not at import: it takes a second or more, and every run worker would pay it

    m = len(log_peaks)
    reach = float(student.isf(chance, m - 1)) * float(log_peaks.std(ddof=1)) * (1 + 1 / m) ** 0.5
    return exp(float(log_peaks.mean()) + reach)
