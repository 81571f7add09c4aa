"""Thresholds from scores of windows that took no part in the fit. Counts events, not windows.

Not here: fitting, scoring, simulating (`few`). An event needs k of the last n scores at or above the threshold, so
what matters is the k-th largest of the last n: its peaks over the left-out stretches say how high healthy life climbs,
and the threshold is the level that the next stretch passes with the chance that was asked for.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import ceil, exp, expm1
from typing import Final

import numpy as np

from signal_pipeline.anomaly.arrays import F8, Bools
from signal_pipeline.anomaly.reference import Calibration
from signal_pipeline.anomaly.tuning import Persistence

METHOD: Final = "prediction limit of the log peaks of left-out stretches"
METHOD_OF_FEW: Final = "quantile of the peaks of simulated recordings"
METHOD_OF_FEW_FROZEN: Final = "events of simulated recordings"
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
    pieces = ceil(MIN_BLOCKS / len(left_out))
    blocks = [b for fold in left_out for b in _pieces(persistent(fold, persistence), pieces) if np.isfinite(b).any()]
    if len(blocks) < 2:
        raise ValueError(f"{len(blocks)} left-out stretches have scores: two are needed, choose more recordings")
    chance = _chance(sum(len(block) for block in blocks) / len(blocks), false_events_per_1000)
    threshold = _prediction_limit(np.log([max(block.max(), 1e-12) for block in blocks]), chance)
    cuts = [0] * len(left_out)
    told = _told(METHOD, threshold, left_out, cuts, persistence=persistence, asked=false_events_per_1000)
    return replace(told, blocks=len(blocks))


def calibrate_on_simulated(
    simulated: Sequence[tuple[F8, F8]], persistence: Persistence, *, false_events_per_1000: float, repeats: bool
) -> Calibration:
    """The same from simulated pairs of stretches, scores (m_i,) and then (n_i,), each pair of a model of its own.

    The threshold is the lowest at which events begin in the second stretches as often as was asked for. One that goes
    on from the first has begun there, and counts there. `repeats`: a recording that alarms does so again and again,
    so each of its events counts; otherwise a stretch does, which has the chance of one event or more.
    Raises `ValueError` for a rate that is not above 0.
    """
    cuts = [len(first) for first, _ in simulated]
    windows = sum(len(last) for _, last in simulated)
    chance = _chance(windows / len(simulated), false_events_per_1000)
    whole = [np.concatenate(pair) for pair in simulated]
    levels = [persistent(stretch, persistence) for stretch in whole]
    if repeats:
        allowed = windows * false_events_per_1000 / 1000
        begun = partial(_events, whole, cuts, persistence)
    else:
        allowed = chance * len(whole)
        begun = partial(_eventful, levels, cuts, persistence)
    candidates = np.sort([level[cut:].max() for level, cut in zip(levels, cuts, strict=True)])[len(levels) // 2 :]
    place = bisect_left(candidates, True, hi=len(candidates) - 1, key=lambda level: begun(level) <= allowed)
    threshold = float(candidates[place])
    method = METHOD_OF_FEW_FROZEN if repeats else METHOD_OF_FEW
    return _told(method, threshold, whole, cuts, persistence=persistence, asked=false_events_per_1000)


def _eventful(levels: Sequence[F8], cuts: Sequence[int], persistence: Persistence, threshold: float) -> int:
    """In how many stretches of persistent scores (n_i,) an event begins at or after the cut, judged by their peaks."""
    count = 0
    for level, cut in zip(levels, cuts, strict=True):
        goes_on = level[:cut].max() >= threshold and level[cut - 1] >= persistence.hysteresis * threshold
        count += bool(level[cut:].max() >= threshold and not goes_on)
    return count


def _events(stretches: Sequence[F8], cuts: Sequence[int], persistence: Persistence, threshold: float) -> int:
    """How many events begin in each stretch of scores (n_i,) at or after its cut."""
    count = 0
    for stretch, cut in zip(stretches, cuts, strict=True):
        if (stretch >= threshold).sum() >= persistence.k:
            alarm = in_alarm(stretch, np.full(len(stretch), threshold), persistence)
            count += int((np.diff(alarm.astype(np.int8), prepend=0)[cut:] == 1).sum())
    return count


def _chance(windows: float, false_events_per_1000: float) -> float:
    """That a stretch of so many windows has an event, where it has windows·rate on average."""
    if not false_events_per_1000 > 0:
        raise ValueError(f"{false_events_per_1000=}: a rate must be above 0; none is promised by any threshold")
    return -expm1(-windows * false_events_per_1000 / 1000)


def _told(
    method: str,
    threshold: float,
    stretches: Sequence[F8],
    cuts: Sequence[int],
    *,
    persistence: Persistence,
    asked: float,
) -> Calibration:
    """With the rate of the events that begin in each stretch (n_i,) at or after its cut."""
    n_windows = sum(len(stretch) - cut for stretch, cut in zip(stretches, cuts, strict=True))
    return Calibration(
        threshold=threshold,
        method=method,
        target_false_events_per_1000=asked,
        achieved_false_events_per_1000=1000 * _events(stretches, cuts, persistence, threshold) / n_windows,
        left_out_windows=n_windows,
        blocks=len(stretches),
    )


def _pieces(scores: F8, count: int) -> list[F8]:
    return [piece for piece in np.array_split(scores, count) if len(piece)]


def _prediction_limit(log_peaks: F8, chance: float) -> float:
    """What the next log peak stays below but for `chance`; a zero score would have no log, so none is below 1e-12."""
    from scipy.stats import t as student  # not at import: it takes a second or more, and every run worker would pay it

    m = len(log_peaks)
    reach = float(student.isf(chance, m - 1)) * float(log_peaks.std(ddof=1)) * (1 + 1 / m) ** 0.5
    return exp(float(log_peaks.mean()) + reach)
