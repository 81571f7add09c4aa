"""Drift: a healthy motor that has moved away from its reference. Noticed and proposed, never absorbed by itself.

A stream's centre follows the machine under a gate and within a bound (`tuning.reach`). Where it leans against that
bound for long, the reference no longer describes what is normal, and the windows in which it leant do. Not here:
storing proposals, and accepting them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from signal_pipeline.anomaly.arrays import F8
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.stream import StreamState

NEAR_THE_BOUND: Final = 0.9
"""Share of the bound from which centres lean against it (`stream.MOVED_SHARE` of them)."""
BACK: Final = 0.75
"""Of that, where they no longer do: at the bound a centre trembles."""
MIN_WINDOWS: Final = 500
"""Leaning for fewer is a day's mood, not a drift."""
N_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Leaning:
    """Since which window, by its start, the centres have leant against the bound, and for how many windows."""

    since: datetime | None = None
    windows: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {"since": None if self.since is None else self.since.isoformat(), "windows": self.windows}

    @classmethod
    def from_dict(cls, data: Any) -> "Leaning":
        """What `as_dict` gave. `ValueError` for anything else."""
        try:
            since = data["since"]
            return cls(None if since is None else datetime.fromisoformat(since), int(data["windows"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a leaning: {error!r}; rescore the equipment to make a new one") from error


@dataclass(frozen=True, slots=True)
class Drift:
    """Windows from `since` to `until` (their starts) show where the machine runs now. `features`: (name, shift in
    robust standard deviations of the reference), the largest first."""

    since: datetime
    until: datetime
    windows: int
    drifted: int
    total: int
    features: tuple[tuple[str, float], ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "windows": self.windows,
            "drifted_features": self.drifted,
            "features": self.total,
            "largest": [[name, shift] for name, shift in self.features],
        }


def notice(
    reference: Reference, leaning: Leaning, moved: F8, starts: Sequence[datetime], after: StreamState
) -> tuple[Drift | None, Leaning]:
    """The drift that became certain in these windows, if one did, and how the stream leans after them.

    `moved` (n,) is `Scores.moved` of windows that began at `starts`, `after` the state behind the last of them. However
    the windows are cut into calls, a drift has the same `since` and `until`. Raises `ValueError` for a state of
    another reference.
    """
    if after.reference != reference.digest:
        raise ValueError(f"the state belongs to reference {after.reference[:12]}, not to {reference.digest[:12]}")
    if reference.tuning.frozen:
        return None, leaning
    near = NEAR_THE_BOUND * reference.tuning.reach
    found = None
    for distance, start in zip(moved.tolist(), starts, strict=True):
        before, leaning = leaning, _lean(leaning, distance, start, near)
        if leaning.since is not None and leaning is not before and leaning.windows == MIN_WINDOWS:
            found = _describe(reference, after, leaning.since, start)
    return found, leaning


def _lean(leaning: Leaning, distance: float, start: datetime, near: float) -> Leaning:
    """One window on; NaN, of a window without a score, says nothing."""
    if leaning.since is None:
        return Leaning(start, 1) if distance >= near else leaning
    if distance < BACK * near:
        return Leaning()
    return leaning if np.isnan(distance) else Leaning(leaning.since, leaning.windows + 1)


def _describe(reference: Reference, after: StreamState, since: datetime, until: datetime) -> Drift:
    shifts, names = np.abs(after.centre), reference.scaler.used
    leaning = shifts >= BACK * NEAR_THE_BOUND * reference.tuning.reach
    order = np.argsort(-shifts, kind="stable")[:N_NAMED]
    largest = tuple((names[i], float(after.centre[i])) for i in order if leaning[i])
    return Drift(since, until, MIN_WINDOWS, int(leaning.sum()), len(shifts), largest)
