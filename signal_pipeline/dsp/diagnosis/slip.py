"""The slip of a motor, from whatever in its current shows the rotor's speed.

`statorscope` gives the blind search for sidebands; the slip from eccentricity and slot harmonics is ours, because a
healthy motor has no sidebands to read it from. Not here: levels of faults (`rotor`).
"""

import math
from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.dsp.diagnosis.findings import Finding, FindingStatus, Quantity, found, refused
from signal_pipeline.dsp.diagnosis.lookalikes import clear_of_harmonics, modulated_harmonics
from signal_pipeline.dsp.diagnosis.motor_data import MotorData
from signal_pipeline.dsp.diagnosis.record import HIGHEST_SHARE
from signal_pipeline.dsp.diagnosis.rotor import LEAST_LEVEL_DBC, Rotor, Slip, tolerance_of

if TYPE_CHECKING:
    from signal_pipeline.dsp.diagnosis.spectra import Levels

MAX_SLIP = 0.1
SLIP_AGREEMENT = 0.002
"""Two estimates that differ by more contradict each other, even where bins are wide."""

SLIP_WANDER = 0.0003
"""What a drifting supply makes two estimates differ by, beside the half bin by which each line is known."""

SLIP_PROMINENCE_DB = 15.0
"""How far both lines of a pair must stand above their surroundings to name a slip; that of the library's search."""

SCREENING_DB = 6.0
"""A pair is searched for where two bins come this close to what makes one."""

SLIP_FACTOR = 2.0
"""How far the slip of a load may lie from the one that the plate gives it."""

MAGNETISING = 0.6
"""The largest magnetising current, as a share of the rated one: small motors with many poles."""

SURROUNDINGS_HZ = 4.0
"""A line stands out of what lies this far on both sides; the library's own figure."""


def find_slip(rotor: Rotor, motor: MotorData, *, current: float | None = None) -> tuple[Slip | None, Finding]:
    """The slip, if rotor speed or sidebands show it, and the finding that says so; `current` per unit of the rated.

    Sidebands alone are a `blind` slip: a load that pulsates makes the same pair.
    """
    rated = _rated_slip(rotor, motor)
    highest = MAX_SLIP if rated is None else min(MAX_SLIP, 2.5 * rated)
    by_speed = [slip for slip in (_from_slots(rotor, highest), _from_eccentricity(rotor, highest)) if slip is not None]
    by_sidebands = _from_sidebands(rotor, highest)
    known = [*by_speed, *([by_sidebands] if by_sidebands is not None else [])]
    if not known:
        detail = f"neither rotor speed nor sidebands stand out between slips of 0 and {highest:.3f}"
        return None, refused(Quantity.SLIP, FindingStatus.SLIP_UNKNOWN, detail)
    told = "; ".join(f"{slip.value:.4f} from {slip.source}" for slip in known)
    if not all(_agree(one, other) for one, other in combinations(known, 2)):
        return None, refused(Quantity.SLIP, FindingStatus.SLIP_AMBIGUOUS, told)
    if not by_speed:
        contradiction = _contradicts_load(known[0].value, rated, current)
        if contradiction is not None:
            return None, refused(Quantity.SLIP, FindingStatus.SLIP_AMBIGUOUS, f"{told}, but {contradiction}")
        told += " only, which a pulsating load makes as well"
    return known[0], found(Quantity.SLIP, known[0].value, told)


def _agree(one: Slip, other: Slip) -> bool:
    return abs(one.value - other.value) <= min(SLIP_AGREEMENT, one.error + other.error + SLIP_WANDER)


def _rated_slip(rotor: Rotor, motor: MotorData) -> float | None:
    """The plate's slip at the measured line frequency: the same torque costs the same turns a second."""
    if motor.rated_slip is None or motor.line_freq_hz is None:
        return None
    return motor.rated_slip * motor.line_freq_hz / rotor.motor.line_hz


def _contradicts_load(slip: float, rated: float | None, current: float | None) -> str | None:
    """Why a motor of that rated slip cannot have `slip` while it draws `current` (per unit), if so.

    Slip follows torque, and the current is the magnetising one and torque's at right angles: torque is at most the
    current, and at least what is left of it beside the largest magnetising current. Either within a factor of two:
    for plates that are rounded and rotors that are hot.
    """
    if rated is None or current is None:
        return None
    most = SLIP_FACTOR * rated * max(1.0, current) * current
    torque = math.sqrt(max(0.0, current**2 - MAGNETISING**2) / (1 - MAGNETISING**2))
    least = rated * torque / SLIP_FACTOR
    if least <= slip <= most:
        return None
    return f"at {100 * current:.0f} % of the rated current a load allows slips of {least:.4f} to {most:.4f}"


def _from_eccentricity(rotor: Rotor, highest: float) -> Slip | None:
    """line +- rotor frequency stand 2 * line * (1 - slip) / pole_pairs apart."""
    line, pole_pairs = rotor.motor.line_hz, rotor.motor.pole_pairs

    def pair(slip: NDArray[np.float64]) -> NDArray[np.float64]:
        rotor_freq = line * (1 - slip) / pole_pairs
        return np.stack([line - rotor_freq, line + rotor_freq])

    slip = _strongest_pair(rotor, pair, lambda low, high: 1 - (high - low) * pole_pairs / (2 * line), highest)
    error = rotor.spectrum.resolution_hz / 2 * pole_pairs / (2 * line)
    return None if slip is None else Slip(slip, "eccentricity lines", error=error)


def _from_slots(rotor: Rotor, highest: float) -> Slip | None:
    """The principal slot harmonics line * (bars * (1 - slip) / pole_pairs +- 1); their mean is the slot frequency."""
    line, pole_pairs, bars = rotor.motor.line_hz, rotor.motor.pole_pairs, rotor.motor.rotor_bars
    if bars is None or line * (bars / pole_pairs + 1) > HIGHEST_SHARE * rotor.spectrum.fs:
        return None

    def pair(slip: NDArray[np.float64]) -> NDArray[np.float64]:
        slots = line * bars * (1 - slip) / pole_pairs
        return np.stack([slots - line, slots + line])

    def slip_of(low: float, high: float) -> float:
        return 1 - (low + high) * pole_pairs / (2 * line * bars)

    slip = _strongest_pair(rotor, pair, slip_of, highest, one_sided=True)
    error = rotor.spectrum.resolution_hz / 2 * pole_pairs / (line * bars)
    return None if slip is None else Slip(slip, "rotor slot harmonics", error=error)


def _from_sidebands(rotor: Rotor, highest: float) -> Slip | None:
    """The library's blind search for a symmetric pair, in the spectrum around the carrier only: it is slow."""
    from statorscope import estimate_slip

    # with many poles the eccentricity lines, a symmetric pair as well, come as close as sidebands: stay below them
    line, tolerance = rotor.motor.line_hz, tolerance_of(rotor)
    highest = min(highest, (line * (1 - highest) / rotor.motor.pole_pairs - 2 * tolerance) / (2 * line))
    if rotor.smallest_slip >= highest:
        return None
    spectrum = rotor.spectrum.near(line, 4 * MAX_SLIP * line + 5)
    if not _may_hold_a_pair(spectrum, line, tolerance, (rotor.smallest_slip, highest)):
        return None
    # candidates half a tolerance apart: the default of 400 looks at every place four times
    n_steps = math.ceil(2 * line * (highest - rotor.smallest_slip) / (tolerance / 2)) + 1
    estimate = estimate_slip(
        spectrum, rotor.motor, slip_range=(rotor.smallest_slip, highest), n_steps=n_steps, tol_hz=tolerance
    )
    pair = line * (1 + 2 * estimate.slip * np.array([-1, 1]))
    level = min(spectrum.level_dbc(float(hz), tolerance) for hz in pair)
    if not estimate.confident or level <= LEAST_LEVEL_DBC or not clear_of_harmonics(rotor, pair).all():
        return None
    return Slip(estimate.slip, "sidebands", blind=True, error=spectrum.resolution_hz / 2 / (2 * line))


def _may_hold_a_pair(spectrum: "Levels", line: float, tolerance: float, slips: tuple[float, float]) -> bool:
    """Whether the search can find anything: bins of some height stand at mirrored places beside the carrier.

    Its own marks, less `SCREENING_DB`, because it measures level and surroundings a little differently.
    """
    level = spectrum.dbc
    reach = math.ceil(SURROUNDINGS_HZ / spectrum.resolution_hz)
    padded = np.pad(level, reach, mode="reflect")
    floor = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)
    high = (level > LEAST_LEVEL_DBC - SCREENING_DB) & (level > floor + SLIP_PROMINENCE_DB - SCREENING_DB)
    offset = spectrum.freq[high] - line
    nearest, farthest = (2 * slip * line for slip in slips)
    inside = (np.abs(offset) > nearest - 2 * tolerance) & (np.abs(offset) < farthest + 2 * tolerance)
    below, above = -offset[inside & (offset < 0)], offset[inside & (offset > 0)]
    return bool((np.abs(below[:, None] - above) <= 2 * (tolerance + spectrum.resolution_hz)).any())


def _strongest_pair(
    rotor: Rotor,
    pair: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    slip_of: Callable[[float, float], float],
    highest: float,
    *,
    one_sided: bool = False,
) -> float | None:
    """The slip whose two lines, of which the weaker counts, are the strongest; if both stand out and fit together.

    `one_sided`: physics puts nothing of the kind on the other side of the harmonics that they are near.
    """
    spectrum, tolerance = rotor.spectrum, tolerance_of(rotor)
    # a quarter of a bin between neighbours
    span = float(np.ptp(pair(np.array([0.0, highest]))[1]))
    lines = pair(np.linspace(0, highest, max(200, math.ceil(4 * span / spectrum.resolution_hz))))
    weaker = np.interp(lines, spectrum.freq, spectrum.dbc).min(axis=0)
    weaker[~clear_of_harmonics(rotor, lines).all(axis=0)] = -np.inf
    if one_sided:
        weaker[modulated_harmonics(rotor, lines, weaker)] = -np.inf
    best = int(np.argmax(weaker))
    if not np.isfinite(weaker[best]):
        return None
    peaks = np.array([spectrum.peak_near(float(hz), tolerance)[0] for hz in lines[:, best]])
    prominence = min(spectrum.prominence_db(float(hz), tol_hz=tolerance) for hz in lines[:, best])
    slip = slip_of(*peaks)
    # two lines that meet by chance do not lie where one slip puts both; half a bin is what noise moves a peak
    fits = np.abs(pair(np.array([slip]))[:, 0] - peaks).max() <= spectrum.resolution_hz / 2
    if prominence < SLIP_PROMINENCE_DB or not fits or not clear_of_harmonics(rotor, peaks).all():
        return None
    return slip if 0 < slip <= highest else None
