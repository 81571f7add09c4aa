"""The words of a diagnosis: quantities, statuses, severities and the bands between them.

Here: closed lists and small frozen records, which the database and the interface mirror. Not here: any signal.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from signal_pipeline.domain import Severity


class Quantity(StrEnum):
    """What a diagnosis speaks about; every diagnosis holds each of them once, in this order."""

    LINE_FREQUENCY = "line_frequency"
    LOAD = "load"
    SLIP = "slip"
    BROKEN_BAR = "broken_bar"
    ECCENTRICITY = "eccentricity"
    UNBALANCE = "unbalance"
    INTERTURN = "interturn"


UNITS = {
    Quantity.LINE_FREQUENCY: "Hz",
    Quantity.LOAD: "%",
    Quantity.SLIP: "pu",
    Quantity.BROKEN_BAR: "dBc",
    Quantity.ECCENTRICITY: "dBc",
    Quantity.UNBALANCE: "%",
    Quantity.INTERTURN: "%",
}
"""Load in % of the rated current, unbalance in % of the mean phase, inter-turn in % of the positive sequence."""


class FindingStatus(StrEnum):
    """`ok`, or why there is no value."""

    OK = "ok"
    INSUFFICIENT_RESOLUTION = "insufficient_resolution"
    """The recording is too short to keep the lines apart."""
    NO_MOTOR_DATA = "no_motor_data"
    OFF = "off"
    START_UP = "start_up"
    UNSTEADY = "unsteady"
    """The current changes its level in the recording: a load step, a stop, a fault that comes and goes."""
    CLOCK_QUALITY = "clock_quality"
    """The carrier is smeared, or so much noise lies around it that a fault would drown."""
    NOISE_FLOOR = "noise_floor"
    """No line was found, and one that matters could hide in the noise at its place."""
    MISSING_PHASE = "missing_phase"
    GAPS = "gaps"
    ONE_SIDED = "one_sided"
    """A line on one side of the carrier only: no rotor's signature, but no clean bill either."""
    NO_LINE = "no_line"
    """No line frequency carries the current."""
    SLIP_UNKNOWN = "slip_unknown"
    SLIP_AMBIGUOUS = "slip_ambiguous"
    """Two ways to the slip disagree, or one and the load."""
    SENSORS = "sensors"
    """The phases do not go together as those of a motor: a sensor is dead, reversed or set to another range."""
    NO_SAMPLES = "no_samples"
    """A part of the recording cannot be had any more."""
    CLIPPED = "clipped"
    """The current left the recorder's range: its tops are flat."""


@dataclass(frozen=True, slots=True)
class SeverityBands:
    """Where incipient, moderate and severe begin, rising. The defaults are rules of thumb of the field."""

    broken_bar_dbc: tuple[float, float, float] = (-55.0, -45.0, -35.0)
    """Level of the stronger of line * (1 +- 2*slip)."""
    eccentricity_dbc: tuple[float, float, float] = (-50.0, -40.0, -30.0)
    """Level of the stronger of line +- rotor frequency."""
    interturn_pct: tuple[float, float, float] = (3.0, 8.0, 15.0)
    """I2/I1 above its reference, in percentage points."""
    unbalance_pct: tuple[float, float, float] = (10.0, 20.0, 30.0)
    """Largest deviation of a phase from the mean of the three; supply unbalance of 1 % makes 6 to 10 % of it."""
    load_pct: tuple[float, float, float] = (105.0, 115.0, 125.0)
    line_deviation_hz: tuple[float, float, float] = (0.5, 1.0, 2.0)
    """Distance of the line frequency from the nominal one."""

    def __post_init__(self) -> None:
        for field in fields(self):
            bands = tuple(getattr(self, field.name))
            if len(bands) != 3 or not all(math.isfinite(b) for b in bands) or not bands[0] <= bands[1] <= bands[2]:
                raise ValueError(f"{field.name}={bands!r}: three finite numbers are needed that do not fall")


def severity_of(value: float, bands: tuple[float, float, float]) -> Severity:
    """The worst severity whose band begins at or below `value`."""
    return tuple(Severity)[sum(value >= begin for begin in bands)]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis. `value` is None exactly when `status` is not ok."""

    quantity: Quantity
    value: float | None
    unit: str
    status: FindingStatus
    severity: Severity | None
    """None: refused, or a plain measurement that nobody judges."""
    detail: str
    upper_bound: bool = False
    """No line stood out; `value` is the weakest one that would have been seen."""

    def __post_init__(self) -> None:
        if (self.value is None) is (self.status is FindingStatus.OK):
            raise ValueError(f"{self.quantity}: value={self.value!r} does not go with status {self.status}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.quantity}: value={self.value!r} is not finite")


def found(
    quantity: Quantity, value: float, detail: str, *, severity: Severity | None = None, upper_bound: bool = False
) -> Finding:
    """A finding that holds a value."""
    return Finding(quantity, float(value), UNITS[quantity], FindingStatus.OK, severity, detail, upper_bound)


def refused(quantity: Quantity, status: FindingStatus, detail: str) -> Finding:
    """A finding that says why it holds none."""
    return Finding(quantity, None, UNITS[quantity], status, None, detail)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings of one recording, in the order of `Quantity`."""

    findings: tuple[Finding, ...]
    analysed_seconds: float
    """Length of the gapless stretch that was looked at."""

    def __getitem__(self, quantity: Quantity) -> Finding:
        return next(finding for finding in self.findings if finding.quantity is quantity)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def severity(self) -> Severity | None:
        """The worst of all findings; None when none could be judged."""
        order = tuple(Severity)
        judged = [order.index(finding.severity) for finding in self.findings if finding.severity is not None]
        return order[max(judged)] if judged else None

    def as_json(self) -> list[dict[str, Any]]:
        """The findings as plain JSON values: strings, numbers, booleans and null."""
        return [
            {key: str(value) if isinstance(value, StrEnum) else value for key, value in asdict(finding).items()}
            for finding in self.findings
        ]


def refusal_of_all(status: FindingStatus, detail: str) -> Diagnosis:
    """The diagnosis of a recording that could not be looked at."""
    return Diagnosis(tuple(refused(quantity, status, detail) for quantity in Quantity), 0.0)
