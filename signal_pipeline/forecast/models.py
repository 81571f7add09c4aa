"""The models that compete for a series, and what each of them would have said at every hour of its recent past.

Four, from plain to less plain: the seasonal naive, the profile of the last week, that profile with the present level
fading away, and a ridge blend of profiles and levels, one set of weights a horizon. Past and present forecasts come
out of the same rows, so what is measured is what is issued. Not here: the choice, intervals, refusals.

An origin `o` is the number of hours known: its first forecast is of hour `o`. A row's forecasts use
hours before `o` only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from signal_pipeline.forecast.arrays import F8, I8
from signal_pipeline.forecast.lags import (
    DAY,
    MEMORY_DAYS,
    WEEK,
    lagged,
    last_known,
    mean_of,
    median_of,
    running_level,
    usual_level,
)

REPLAY_DAYS: Final = 56
"""Days of past origins, an origin every hour: for the choice, the intervals and the probabilities."""
FIT_DAYS: Final = 90
"""Days of targets from which the blend's weights are fitted."""
WINDOW: Final = DAY * (MEMORY_DAYS + FIT_DAYS + REPLAY_DAYS)
"""Hours of the past that a forecast depends on."""

PHI: Final = 0.9
"""What an hour leaves of a departure from the profile, in the damped model."""
RIDGE: Final = 0.1
"""Penalty on the blend's weights, its columns being scaled to unit power."""
PRIOR_HOURS: Final = 168.0
"""With this many hours to fit from, the penalty is twice what it is with plenty."""


class Model(StrEnum):
    """Who made a forecast; the simplest first, which wins ties."""

    SEASONAL_NAIVE = "seasonal_naive"
    SEASONAL_PROFILE = "seasonal_profile"
    DAMPED_LEVEL = "damped_level"
    BLEND = "blend"


@dataclass(frozen=True, slots=True)
class Replay:
    """Forecasts of every model at the origins `n - rows + 1 … n`, hourly; the last row is the one to issue.

    `forecasts[model]` and `targets` are (rows, horizon); NaN where a model knew nothing, or where the hour has not
    come or was not measured. `rest` (n,) is how far each hour lay from the profile of its week.
    """

    forecasts: Mapping[Model, F8]
    targets: F8
    rest: F8


@dataclass(frozen=True, slots=True)
class _Basis:
    """What the blend is linear in. `profile` (n + DAY,), `departures` (n + DAY, p) from it, `levels` (n + 1, q)."""

    profile: F8
    departures: F8
    levels: F8


def replay(values: F8, *, horizon: int) -> Replay:
    """What each model said at the last origins of `values` (n,), NaN = unknown, and says now. `horizon` <= DAY."""
    n = len(values)
    basis = _basis(values)
    origins = np.arange(n - _replayed_hours(n), n + 1)
    hours = origins[:, None] + np.arange(horizon)
    level = basis.levels[origins, :1]
    profile = basis.profile[hours]
    forecasts = {
        Model.SEASONAL_NAIVE: _or_else(lagged(values, period=DAY, count=1)[0], basis.profile)[hours],
        Model.SEASONAL_PROFILE: profile,
        Model.DAMPED_LEVEL: profile + level * PHI ** np.arange(1, horizon + 1),
        Model.BLEND: profile + _blend(values, basis, origins, horizon),
    }
    ahead = np.concatenate([values, np.full(DAY, np.nan)])
    return Replay(forecasts, ahead[hours], values - basis.profile[:n])


def _replayed_hours(n: int) -> int:
    """Whole days; the first week only feeds the profiles."""
    return DAY * max(0, min(REPLAY_DAYS, (n - WEEK) // DAY))


def _or_else(first: F8, second: F8) -> F8:
    return np.where(np.isfinite(first), first, second)


def _basis(values: F8) -> _Basis:
    daily = lagged(values, period=DAY, count=MEMORY_DAYS)
    weekly = lagged(values, period=WEEK, count=MEMORY_DAYS * DAY // WEEK)
    month = median_of(daily)
    profile = _or_else(_or_else(mean_of(daily[:7]), month), usual_level(values))
    others = (daily[0], mean_of(daily[:3]), month, weekly[0], mean_of(weekly))
    # a profile that knows nothing of an hour has nothing to add to the week's
    departures = np.column_stack([np.nan_to_num(other - profile) for other in others])
    rest = values - profile[: len(values)]
    levels = np.column_stack([last_known(rest), running_level(rest, gain=0.3), running_level(rest, gain=0.1)])
    return _Basis(profile, departures, levels)


def _blend(values: F8, basis: _Basis, origins: I8, horizon: int) -> F8:
    """The blend's departure from the profile at `origins`, (len(origins), horizon).

    Weights are fitted anew every day, counted back from the end: those of an origin know no hour after the last
    refit before it.
    """
    n, n_replayed = len(values), (len(origins) - 1) // DAY
    days = min(n // DAY, FIT_DAYS + n_replayed)
    sums_by_day = _daily_sums(values, basis, horizon, days)
    ends = range(days - n_replayed, days + 1)
    sums = (np.stack([part[max(0, end - FIT_DAYS) : end].sum(axis=0) for end in ends]) for part in sums_by_day)
    weights = _solve(*sums)  # (days, horizon, features)
    day = np.minimum(np.arange(len(origins)) // DAY, n_replayed)
    p = basis.departures.shape[1]
    hours = origins[:, None] + np.arange(horizon)
    from_profiles: F8 = np.einsum("ohp,ohp->oh", basis.departures[hours], weights[day][:, :, :p])
    from_levels: F8 = np.einsum("oq,ohq->oh", basis.levels[origins], weights[day][:, :, p:])
    return from_profiles + from_levels


def _daily_sums(values: F8, basis: _Basis, horizon: int, days: int) -> tuple[F8, F8, F8]:
    """Sums over each of the last `days` days of targets: X'X (days, horizon, k, k), X'y (…, k), and hours (…,)."""
    n = len(values)
    hours = np.arange(n - days * DAY, n)
    rest = values[hours] - basis.profile[hours]
    # row h of the windows that end at an hour's own origin is the level known h hours before it
    before = hours[:, None] - np.arange(horizon)
    levels = basis.levels[np.maximum(before, 0)]
    departures = np.broadcast_to(basis.departures[hours, None], (*before.shape, basis.departures.shape[1]))
    X = np.concatenate([departures, levels], axis=2)
    known = np.isfinite(rest)[:, None] & (before >= 0)
    X = np.where(known[:, :, None], X, 0.0)
    X = X.reshape(days, DAY, horizon, -1).transpose(0, 2, 1, 3)
    y = np.nan_to_num(rest).reshape(days, 1, DAY, 1)
    XT = X.transpose(0, 1, 3, 2)
    return XT @ X, (XT @ y)[..., 0], known.reshape(days, DAY, horizon).sum(axis=1).astype(np.float64)


def _solve(gram: F8, moment: F8, count: F8) -> F8:
    """Ridge weights (…, k); columns of no power, and horizons of no hours, weigh nothing."""
    power = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
    scale = np.where(power > 0, power, 1.0)
    penalty = RIDGE * (1 + PRIOR_HOURS / np.maximum(count, 1.0))
    normal = gram / scale[..., :, None] / scale[..., None, :] + penalty[..., None, None] * np.eye(gram.shape[-1])
    weights: F8 = np.linalg.solve(normal, (moment / scale)[..., None])[..., 0] / scale
    return weights
