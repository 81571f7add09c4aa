"""The form of an anomaly manifest's body: exact types and the ranges in which every number makes sense.

Whoever can change a manifest can also compute its checksum, so nothing is converted and nothing is guessed: 5.0 is no
count, and no number is infinite. Here: the form, and its simple parts as the dataclasses they stand for. Not here:
arrays, and what a reference is (`models`).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from signal_pipeline.anomaly.reference import Calibration, Dropped
from signal_pipeline.anomaly.tuning import Kind, Persistence, Tuning

MANY = 2**53
"""No count is above it; JSON readers keep integers exact up to there."""
CENTURY_HOURS = 100 * 366 * 24
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=MANY)]


class Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class CalibrationForm(Form):
    threshold: float = Field(gt=0)
    method: str
    target_false_events_per_1000: float = Field(gt=0)
    achieved_false_events_per_1000: float = Field(ge=0)
    left_out_windows: Count
    blocks: Count

    def made(self) -> Calibration:
        return Calibration(**dict(self))


class TuningForm(Form):
    smoothing: float
    knee: float
    gate: float
    adaptation: float
    reach: float
    patience: Count = 0
    """Manifests from before there was one go on without."""
    warming: Count
    min_present: float
    leading_share: float
    residual: Literal["shrunk", "pooled"]

    def made(self) -> Tuning:
        return Tuning(**dict(self))


class PersistenceForm(Form):
    k: int
    n: int = Field(le=1000)
    hysteresis: float
    max_gap_hours: float = Field(gt=0, le=CENTURY_HOURS)

    def made(self) -> Persistence:
        return Persistence(**dict(self))


class OriginForm(Form):
    """The version in which a reference was fitted, and when (ISO 8601)."""

    version: str = Field(min_length=1)
    created_at: str


class ReferenceForm(Form):
    """`equipment` None: the fleet's. `origin` None: this version itself."""

    equipment: Annotated[str, Field(min_length=1)] | None
    kind: Kind
    number: Count
    digest: str
    origin: OriginForm | None
    n_leading: Count
    shrinkage: Share
    dropped: dict[str, str]
    calibration: CalibrationForm
    tuning: TuningForm
    persistence: PersistenceForm
    recordings: list[str] = Field(min_length=1)
    n_windows: int = Field(ge=1, le=MANY)

    def reasons(self) -> dict[str, Dropped]:
        return {name: Dropped(why) for name, why in self.dropped.items()}


class BodyForm(Form):
    features: list[str] = Field(min_length=1)
    features_hash: str
    feature_version: str = Field(min_length=1)
    references: list[ReferenceForm]
    training: dict[str, Any] = {}
