"""The knobs of the anomaly models and their shipped values. One set for every machine; not here: anything fitted.

The values were chosen once and are the same for every equipment and every benchmark file; docs/models.md says on
what they were tried. A reference carries the knobs that it was fitted with, so a changed default changes no score of
a model that is already on disk.
"""

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["stream", "stats"]


@dataclass(frozen=True, slots=True)
class Tuning:
    """How windows become a score. Deviations are in robust standard deviations of the reference ("sd")."""

    smoothing: float
    """EWMA factor in (0, 1]; 1 looks at each window alone."""
    knee: float
    """sd; deviations are compressed to knee·asinh(deviation / knee): linear below it, logarithmic above, so that one
    wild feature cannot drown the others, and still counts more the wilder it is."""
    gate: float
    """A feature's centre follows only while its smoothed deviation is below `gate` times what the reference showed."""
    adaptation: float
    """Share of the smoothed deviation that an open gate lets into the centre at each window; 0 freezes it."""
    reach: float
    """sd; no centre is ever further than this from the reference, so no fault is absorbed beyond it."""
    patience: int
    """Beyond the gate a centre still moves towards the reference, once its feature has lain between the two, give or
    take the gate, in so many windows more than not: the machine has gone back for good. 0 keeps it where it is."""
    warming: int
    """So many first windows of a state raise nothing."""
    min_present: float
    """Share of the features that a window must have to be scored."""
    leading_share: float
    """T² speaks of the directions that hold this share of the variance, Q of the rest."""
    residual: Literal["shrunk", "pooled"]
    """How Q weighs its directions: each by its own shrunk variance, or all by their mean (probabilistic PCA)."""

    def __post_init__(self) -> None:
        if not 0 < self.smoothing <= 1:
            raise ValueError(f"smoothing={self.smoothing}: an EWMA factor lies in (0, 1]")
        if not 0 <= self.adaptation < 1:
            raise ValueError(f"adaptation={self.adaptation} must lie in [0, 1)")
        if not (self.knee > 0 and min(self.gate, self.reach, self.patience, self.warming) >= 0):
            raise ValueError(f"knee={self.knee} must be above 0; gate, reach, patience, warming not below it: {self}")
        if not (0 < self.min_present <= 1 and 0 < self.leading_share <= 1):
            raise ValueError(f"min_present={self.min_present}, leading_share={self.leading_share}: shares, in (0, 1]")

    @property
    def frozen(self) -> bool:
        """Whether the centre stays where the reference has it, wherever the machine wanders."""
        return self.adaptation == 0 or self.reach == 0


@dataclass(frozen=True, slots=True)
class Persistence:
    """When scores become an event: `k` of the last `n` at or above the threshold; over when fewer than `k` of the
    last `n` reach `hysteresis` times the threshold, or after `max_gap_hours` without a window."""

    k: int = 3
    n: int = 5
    hysteresis: float = 0.8
    max_gap_hours: float = 24.0

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n:
            raise ValueError(f"k={self.k} of n={self.n}: needs 1 <= k <= n")
        if not 0 < self.hysteresis <= 1:
            raise ValueError(f"hysteresis={self.hysteresis} must lie in (0, 1]")


STREAM: Final = Tuning(
    smoothing=0.1,
    knee=0.5,
    gate=2.0,
    adaptation=0.01,
    reach=2.0,
    patience=500,
    warming=10,
    min_present=0.5,
    leading_share=0.95,
    residual="shrunk",
)
"""The online model: robust scaling, EWMA, shrunk T² + Q, a centre that follows under a gate and within a bound."""

STATS: Final = Tuning(
    smoothing=1.0,
    knee=0.5,
    gate=0.0,
    adaptation=0.0,
    reach=0.0,
    patience=0,
    warming=0,
    min_present=0.5,
    leading_share=0.95,
    residual="pooled",
)
"""The model of the detect pass: a frozen PCA with T² + Q, each window for itself."""

TUNINGS: Final[dict[Kind, Tuning]] = {"stream": STREAM, "stats": STATS}

PERSISTENCES: Final[dict[Kind, Persistence]] = {"stream": Persistence(), "stats": Persistence(k=4, n=7)}
"""A majority of the last windows. Without an EWMA neighbours differ more, so it is one of more windows."""

FALSE_EVENTS_PER_1000: Final = 1.0
"""How many false events in 1000 healthy windows a calibration asks for."""

MAX_MISSING: Final = 0.05
"""A feature that is missing in a larger share of the training windows takes no part."""

FEATURES_PER_FOLD: Final = 2
"""So many features are learnt for each of a few recordings. How features differ between recordings is seen once a
recording; a model of many features then calibrates itself to a threshold that no fault reaches."""
