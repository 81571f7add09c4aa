"""Drift: a healthy motor that has moved away from its reference. Noticed and proposed, never absorbed by itself.

A stream's centre follows the machine under a gate and within a bound (`tuning.reach`). Where it leans against that
bound, the reference no longer describes what is normal. Not here: storing proposals, and accepting them.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.stream import StreamState

NEAR_THE_BOUND: Final = 0.9
"""Share of the bound from which a centre counts as leaning against it."""
MIN_WINDOWS: Final = 500
"""Fewer are a day's mood, not a drift."""
MIN_SHARE: Final = 0.05
"""Of the features; a single one may have a sensor's reasons."""
N_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Drift:
    """`features`: (name, shift in robust standard deviations of the reference), the largest first."""

    windows: int
    drifted: int
    total: int
    features: tuple[tuple[str, float], ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "windows": self.windows,
            "drifted_features": self.drifted,
            "features": self.total,
            "largest": [[name, shift] for name, shift in self.features],
        }


def notice(reference: Reference, state: StreamState) -> Drift | None:
    """The drift of a stream, or None. Raises `ValueError` for a state of another reference."""
    if state.reference != reference.digest:
        raise ValueError(f"the state belongs to reference {state.reference[:12]}, not to {reference.digest[:12]}")
    bound = reference.tuning.reach
    if bound == 0 or state.windows < MIN_WINDOWS:
        return None
    shifts = np.abs(state.centre)
    leaning = shifts >= NEAR_THE_BOUND * bound
    if leaning.sum() < max(1, MIN_SHARE * len(shifts)):
        return None
    order = np.argsort(-shifts, kind="stable")[:N_NAMED]
    names = reference.scaler.used
    largest = tuple((names[i], float(state.centre[i])) for i in order if leaning[i])
    return Drift(state.windows, int(leaning.sum()), len(shifts), largest)
