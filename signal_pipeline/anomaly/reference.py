"""What healthy looks like, and where the alarm begins: the fitted model of one equipment, as plain arrays.

Here: the dataclasses, their consistency, and the digest that ties a state to them. Not here: fitting, scoring, files.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from signal_pipeline.anomaly.arrays import F8, I8
from signal_pipeline.anomaly.tuning import Kind, Persistence, Tuning


class Dropped(StrEnum):
    """Why a feature of the set takes no part in a reference."""

    MISSING = "missing"
    CONSTANT = "constant"
    SURPLUS = "surplus"


@dataclass(frozen=True, eq=False)
class Scaler:
    """Robust scaling of a feature set. `columns` are the places of the used features in `features`, `centre` and
    `scale` (d,) their median and robust standard deviation, in each feature's own unit."""

    features: tuple[str, ...]
    columns: I8
    centre: F8
    scale: F8
    dropped: dict[str, Dropped]

    @cached_property
    def used(self) -> tuple[str, ...]:
        """Names of the features that take part, in the order of every (…, d) array."""
        return tuple(self.features[column] for column in self.columns)

    def check(self, values: F8) -> F8:
        """`values` (n, len(features)) as contiguous float64. Raises `ValueError` for another width."""
        if values.ndim != 2 or values.shape[1] != len(self.features):
            raise ValueError(f"values have the shape {values.shape}: (n, {len(self.features)}) is needed")
        return np.ascontiguousarray(values, dtype=np.float64)

    def apply(self, values: F8) -> F8:
        """`values` (n, len(features)) as deviations (n, d) in sd, contiguous; what is not finite becomes NaN."""
        z = (self.check(values)[:, self.columns] - self.centre) / self.scale
        return np.ascontiguousarray(np.where(np.isfinite(z), z, np.nan))


@dataclass(frozen=True, eq=False)
class Shape:
    """How healthy deviations vary. `white` (d, d): its columns w_k give Mahalanobis coordinates w_kᵀ·s, the first
    `n_leading` for T², the others for Q; `spread` (d,), sd of each smoothed deviation; `shrinkage` in [0, 1]."""

    white: F8
    n_leading: int
    spread: F8
    shrinkage: float

    @cached_property
    def white_t(self) -> F8:
        """`white` transposed and contiguous, for the kernel."""
        return np.ascontiguousarray(self.white.T)

    @cached_property
    def precision(self) -> F8:
        """Diagonal (d,) of the inverse covariance white·whiteᵀ."""
        return np.asarray(np.square(self.white).sum(axis=1))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Where the threshold comes from: scores of windows that took no part in the fit that scored them.

    `left_out_windows` and `blocks` are how many windows, and stretches of them, the threshold rests on; with few
    recordings these are simulated (`method` says so).
    """

    threshold: float
    method: str
    target_false_events_per_1000: float
    achieved_false_events_per_1000: float
    left_out_windows: int
    blocks: int


@dataclass(frozen=True, eq=False)
class Reference:
    """A fitted model: everything that `stream.score` needs, and the recordings behind it."""

    kind: Kind
    scaler: Scaler
    shape: Shape
    calibration: Calibration
    tuning: Tuning
    persistence: Persistence
    recordings: tuple[str, ...]
    n_windows: int

    @property
    def threshold(self) -> float:
        return self.calibration.threshold

    @property
    def settled(self) -> int:
        """How many windows the reference's centre stands for when a stream begins.

        Several recordings show how far a day lies from the others, and a new one moves the centre as one among them. A
        single one does not, and a new stream settles on where the machine runs now.
        """
        return self.n_windows if len(self.recordings) > 1 else 0

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all that decides a score or an event; a state belongs to one digest."""
        text = json.dumps(
            {
                "kind": self.kind,
                "features": self.scaler.used,
                "n_leading": self.shape.n_leading,
                "threshold": float(self.threshold).hex(),
                "settled": self.settled,
                "tuning": _exact(_told(self.tuning)),
                "persistence": _exact(asdict(self.persistence)),
            },
            sort_keys=True,
        )
        digest = hashlib.sha256(text.encode())
        for array in (self.scaler.centre, self.scaler.scale, self.shape.white, self.shape.spread):
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()


def _told(tuning: Tuning) -> dict[str, Any]:
    """The knobs that a digest speaks of. `patience` came later: without it a reference has the digest of that time."""
    return {name: x for name, x in asdict(tuning).items() if name != "patience" or x > 0}


def _exact(knobs: dict[str, Any]) -> dict[str, Any]:
    """Every number as a hexadecimal float, so that 2 and 2.0 are one and the same."""
    return {name: float(x).hex() if isinstance(x, int | float) else x for name, x in knobs.items()}
