"""The one verb of this room: forecast the next hours of a series, or refuse and say why.

Here: what is refused, which model speaks, and the answer's shape. Not here: how models, intervals and probabilities
come about; clocks: hours are counted from the end of the history.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from signal_pipeline.counted import counted
from signal_pipeline.forecast.arrays import F8, I8
from signal_pipeline.forecast.exceedance import exceedance_probability
from signal_pipeline.forecast.intervals import bounds, needed_errors, rescaled
from signal_pipeline.forecast.lags import DAY, WEEK
from signal_pipeline.forecast.models import WINDOW, Model, Replay, replay

MIN_HOURS: Final = 240
"""A week that feeds the profiles, and three days of past forecasts to choose and to calibrate by."""
LEVELS: Final = (0.80, 0.95)
TIE: Final = 1e-9
"""Models whose mean errors differ by less than this share of the series' spread are equally good."""


class RefusalReason(StrEnum):
    """Why there is no forecast."""

    TOO_SHORT = "too_short"
    TOO_SPARSE = "too_sparse"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Refusal:
    """No forecast, and why, in words a person can act on."""

    reason: RefusalReason
    message: str

    def as_dict(self) -> dict[str, Any]:
        return {"reason": self.reason.value, "message": self.message}


@dataclass(frozen=True, slots=True)
class Forecast:
    """The hours that follow a history; every array is (horizon,), float64, in the unit of the series.

    `exceedance_probability` is P(hour > `limit`), None without a limit. `past_mae` is each model's mean absolute error
    over the past origins, and `past_errors` how many errors the smallest of the intervals rests on.
    """

    model: Model
    mean: F8
    lower_80: F8
    upper_80: F8
    lower_95: F8
    upper_95: F8
    limit: float | None
    exceedance_probability: F8 | None
    past_mae: Mapping[Model, float]
    past_errors: int

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: lists, plain floats, names."""
        arrays = ("mean", "lower_80", "upper_80", "lower_95", "upper_95")
        probability = self.exceedance_probability
        return {
            "model": self.model.value,
            **{name: getattr(self, name).tolist() for name in arrays},
            "limit": self.limit,
            "exceedance_probability": None if probability is None else probability.tolist(),
            "past_mae": {model.value: error for model, error in self.past_mae.items()},
            "past_errors": self.past_errors,
        }


def issue(
    history: ArrayLike, *, horizon: int = DAY, limit: float | None = None, floor: float | None = None
) -> Forecast | Refusal:
    """Forecast the `horizon` hours after `history`, or refuse.

    `history` (n,): values of consecutive hours, oldest first, NaN = an hour without a value; the last `WINDOW` count.
    `horizon` in 1..24. `limit`: also give the probability that an hour lies above it. `floor`: a value that the
    quantity cannot go below; forecast and bounds are cut there. `ValueError` for arguments that are none of this.
    """
    values = _checked(history, horizon=horizon, limit=limit, floor=floor)
    known = np.flatnonzero(np.isfinite(values))
    if refusal := _refuse(len(values), known):
        return refusal
    values = values[known[0] :]
    # around zero, so that an offset costs no digits
    centre = float(np.nanmedian(values))
    past = replay(values - centre, horizon=horizon)
    fewest = int((np.isfinite(past.forecasts[Model.SEASONAL_PROFILE]) & np.isfinite(past.targets)).sum(axis=0).min())
    if fewest < needed_errors(0.95):
        return _too_sparse(
            f"{counted(fewest, 'past hour')} could be compared with a forecast, {needed_errors(0.95)} are needed"
        )
    return _issued(values - centre, past, fewest, centre=centre, limit=limit, floor=floor)


def _checked(history: ArrayLike, *, horizon: int, limit: float | None, floor: float | None) -> F8:
    values = np.asarray(history, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"history has shape {values.shape}; one series (n,) is needed")
    if not 1 <= horizon <= DAY:
        raise ValueError(f"{horizon=} must lie in 1..{DAY}")
    for name, value in (("limit", limit), ("floor", floor)):
        if value is not None and not np.isfinite(value):
            raise ValueError(f"{name}={value}: a finite number or None is needed")
    if (infinite := np.flatnonzero(np.isinf(values))).size:
        raise ValueError(f"history[{infinite[0]}] is {values[infinite[0]]}; write unknown hours as NaN")
    return values[-WINDOW:]


def _refuse(n: int, known: I8) -> Refusal | None:
    span = 0 if known.size == 0 else n - int(known[0])
    if span < MIN_HOURS:
        return Refusal(
            RefusalReason.TOO_SHORT, f"{counted(span, 'hour')} since the first value, {MIN_HOURS} are needed"
        )
    if (age := n - 1 - int(known[-1])) >= WEEK:
        return Refusal(
            RefusalReason.STALE, f"the last value is {counted(age, 'hour')} old; at most {WEEK} can be bridged"
        )
    return None


def _too_sparse(message: str) -> Refusal:
    return Refusal(RefusalReason.TOO_SPARSE, message)


def _issued(
    values: F8, past: Replay, past_errors: int, *, centre: float, limit: float | None, floor: float | None
) -> Forecast | Refusal:
    past_mae = {model: float(np.nanmean(np.abs(past.targets - made))) for model, made in past.forecasts.items()}
    model = _choose(past_mae, spread=float(np.nanmean(np.abs(values))))
    made = past.forecasts[model]
    if not np.isfinite(made[-1]).all():
        return _too_sparse("nothing is known of the days before the hours to forecast")
    errors = rescaled(past.targets - made, past.rest)
    bottom = -np.inf if floor is None else floor
    bands = {
        level: [np.maximum(made[-1] + side + centre, bottom) for side in bounds(errors, level)] for level in LEVELS
    }
    probability = None if limit is None else exceedance_probability(made, errors, past.targets, limit - centre)
    return Forecast(
        model=model,
        mean=np.maximum(made[-1] + centre, bottom),
        lower_80=bands[0.80][0],
        upper_80=bands[0.80][1],
        lower_95=bands[0.95][0],
        upper_95=bands[0.95][1],
        limit=limit,
        exceedance_probability=probability,
        past_mae=past_mae,
        past_errors=past_errors,
    )


def _choose(past_mae: Mapping[Model, float], *, spread: float) -> Model:
    """The simplest of the models whose past error is the smallest."""
    best = min(past_mae.values())
    return next(model for model in Model if past_mae[model] <= best + TIE * spread)
