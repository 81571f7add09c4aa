"""A motor's nameplate, and how rows of a table become nameplates.

Here: validation, with errors that name row, column and value. Not here: reading files, nor storing.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from signal_pipeline.errors import SignalPipelineError

MAX_ERRORS = 20
MAX_SHOWN = 80
"""Errors listed at once; the rest is counted."""


class MotorDataError(SignalPipelineError, ValueError):
    """A nameplate that no motor can have, or a row that is none."""


@dataclass(frozen=True, slots=True)
class MotorData:
    """Nameplate of an induction motor. Everything is optional: what is missing is refused, not guessed.

    Raises `MotorDataError` naming field and value.
    """

    pole_pairs: int | None = None
    """Pole pairs, not poles: 2 at 1500 rpm and 50 Hz."""
    rated_speed_rpm: float | None = None
    line_freq_hz: float | None = None
    rated_current_a: float | None = None
    """rms."""
    rotor_bars: int | None = None
    reference_i2_i1_pct: float | None = None
    """I2/I1 of this machine when healthy, on its supply."""

    def __post_init__(self) -> None:
        for name, (low, high, whole) in LIMITS.items():
            value = getattr(self, name)
            if value is None:
                continue
            if whole and not (isinstance(value, int) and not isinstance(value, bool)):
                raise MotorDataError(f"{name}={value!r}: a whole number is needed")
            if not (math.isfinite(value) and low <= value <= high):
                raise MotorDataError(f"{name}={value!r} must lie in {low:g}..{high:g}")
        if self.rated_speed_rpm is not None and self.sync_speed_rpm is not None:
            if self.rated_speed_rpm >= self.sync_speed_rpm:
                raise MotorDataError(
                    f"rated_speed_rpm={self.rated_speed_rpm!r} must lie below the synchronous speed of "
                    f"{self.sync_speed_rpm:g} rpm ({self.pole_pairs} pole pairs at {self.line_freq_hz:g} Hz)"
                )
            if self.rated_speed_rpm < 0.8 * self.sync_speed_rpm:
                raise MotorDataError(
                    f"rated_speed_rpm={self.rated_speed_rpm!r} is more than 20 % below the synchronous speed of "
                    f"{self.sync_speed_rpm:g} rpm; are pole_pairs={self.pole_pairs} poles instead of pairs?"
                )

    @property
    def sync_speed_rpm(self) -> float | None:
        if self.pole_pairs is None or self.line_freq_hz is None:
            return None
        return 60 * self.line_freq_hz / self.pole_pairs

    @property
    def rated_slip(self) -> float | None:
        """Per unit; None when speed, pole pairs or line frequency is missing."""
        if self.sync_speed_rpm is None or self.rated_speed_rpm is None:
            return None
        return 1 - self.rated_speed_rpm / self.sync_speed_rpm


LIMITS: dict[str, tuple[float, float, bool]] = {
    "pole_pairs": (1, 24, True),
    "rated_speed_rpm": (1, 30_000, False),
    "line_freq_hz": (10, 500, False),
    "rated_current_a": (0.01, 10_000, False),
    "rotor_bars": (5, 500, True),
    "reference_i2_i1_pct": (0, 50, False),
}
"""Field: smallest and largest value, and whether it is a whole number."""


def motor_data_from_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, MotorData]:
    """Nameplates by equipment, from rows with a column `equipment` and any of the fields of `MotorData`.

    Values may be text; an empty cell or None means unknown. Rows are counted from 1. Raises `MotorDataError`
    listing every row, column and value that cannot be: nothing is taken from a table with an error.
    """
    motors: dict[str, MotorData] = {}
    errors: list[str] = []
    for number, row in enumerate(rows, start=1):
        try:
            equipment, motor = _parse_row(row)
            if equipment in motors:
                raise MotorDataError(f"column equipment: {equipment!r} stands in an earlier row too")
            motors[equipment] = motor
        except MotorDataError as error:
            errors += [f"row {number}, {line}" for line in str(error).splitlines()]
    if errors:
        more = [f"and {len(errors) - MAX_ERRORS} more"] if len(errors) > MAX_ERRORS else []
        raise MotorDataError("\n".join(errors[:MAX_ERRORS] + more))
    return motors


def _parse_row(row: Mapping[str, Any]) -> tuple[str, MotorData]:
    """Equipment and nameplate of one row; the error holds a line for each bad column."""
    cells = {str(name).strip(): value for name, value in row.items()}
    errors = [
        f"column {name}: unknown, expected equipment, {', '.join(LIMITS)}"
        for name in cells
        if name != "equipment" and name not in LIMITS
    ]
    equipment = _text(cells.get("equipment"))
    if not equipment:
        what = "is empty" if "equipment" in cells else "is missing"
        errors.append(f"column equipment: {what}; it names the motor")
    values: dict[str, Any] = {}
    for name, (_, _, whole) in LIMITS.items():
        text = _text(cells.get(name))
        if text:
            kind: Callable[[str], Any] = int if whole else float
            try:
                values[name] = kind(text.removesuffix(".0") if whole else text)
                MotorData(**{name: values[name]})
            except MotorDataError as error:
                errors.append(f"column {name}: {error}")
            except ValueError:
                errors.append(f"column {name}: {text[:MAX_SHOWN]!r} is not a {'whole ' if whole else ''}number")
    if errors:
        raise MotorDataError("\n".join(errors))
    try:
        return equipment, MotorData(**values)
    except MotorDataError as error:
        raise MotorDataError(f"column rated_speed_rpm: {error}") from None


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()
