"""From samples to findings: the order in which a recording is looked at, and where it is refused.

Here: `diagnose` and its gates, from the coarse to the fine. Not here: how a line is found (`slip`, `rotor`, `stator`).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.dsp.diagnosis import rotor, stator
from signal_pipeline.dsp.diagnosis.clipping import CLIPPED_SHARE, clipped_share
from signal_pipeline.dsp.diagnosis.findings import (
    Diagnosis,
    Finding,
    FindingStatus,
    Quantity,
    SeverityBands,
    found,
    refused,
    severity_of,
)
from signal_pipeline.dsp.diagnosis.motor_data import MotorData
from signal_pipeline.dsp.diagnosis.record import (
    SUPPLY_RANGE,
    Line,
    Stretch,
    follow_line,
    longest_stretch,
)
from signal_pipeline.dsp.diagnosis.running import starts_up, varies
from signal_pipeline.dsp.diagnosis.slip import find_slip

MIN_SECONDS = 0.5
MIN_SAMPLES = 50
"""A shorter stretch says nothing at all."""

OFF_SHARE = 0.05
"""Below this share of the rated current the motor stands still: an idle one draws its magnetising current."""

ROTOR_QUANTITIES = (Quantity.SLIP, Quantity.BROKEN_BAR, Quantity.ECCENTRICITY)


def diagnose(
    phases: NDArray[np.float32],
    *,
    fs: float,
    motor: MotorData | None = None,
    present: Sequence[bool] = (True, True, True),
    bands: SeverityBands | None = None,
    max_gap: int = 1,
    clipped: float | None = None,
) -> Diagnosis:
    """All findings of one recording; what cannot be said carries the reason instead of a number.

    Parameters: phases float32 (3, n) in amperes, NaN where there is a gap; fs in Hz; the motor's nameplate, as far
    as it is known; which phases were recorded (the others may hold anything); where the severities begin; the
    longest gap, in samples, that is bridged; the `clipped_share` of the samples as they were recorded, if these are
    not. Of what longer gaps leave, the longest stretch is looked at.
    Raises `ValueError` for another shape, a sample rate that is none, or `present` of another length.
    """
    if phases.ndim != 2 or phases.shape[0] != 3 or len(present) != 3:
        raise ValueError(f"phases of shape {phases.shape} with {present=}: (3, n) and three booleans are needed")
    motor, bands = motor or MotorData(), bands or SeverityBands()
    mask = np.array(present, dtype=bool)
    stretch = longest_stretch(phases, fs=fs, present=mask, max_gap=max_gap)
    flat = clipped_share(phases if mask.all() else phases[mask]) if clipped is None else clipped
    findings = _findings(stretch, motor=motor, all_phases=bool(mask.all()), bands=bands, clipped=flat)
    in_order = sorted(findings, key=lambda finding: tuple(Quantity).index(finding.quantity))
    return Diagnosis(tuple(in_order), stretch.seconds)


def _findings(
    stretch: Stretch, *, motor: MotorData, all_phases: bool, bands: SeverityBands, clipped: float
) -> list[Finding]:
    refusal = _refuse_recording(stretch, motor)
    if refusal is not None:
        return [refused(quantity, *refusal) for quantity in Quantity]
    line, reason = follow_line(stretch, nominal_hz=motor.line_freq_hz)
    if line is None:
        return [refused(quantity, FindingStatus.NO_LINE, reason) for quantity in Quantity]
    findings = [_line_frequency(line, motor, bands)]
    refusal = _refuse_levels(line, clipped)
    if refusal is not None:
        rest = (quantity for quantity in Quantity if quantity is not Quantity.LINE_FREQUENCY)
        return findings + [refused(quantity, *refusal) for quantity in rest]
    findings.append(_load(line, motor, bands))
    if all_phases:
        findings += stator.sequences(line, bands, reference_pct=motor.reference_i2_i1_pct)
    else:
        detail = "symmetrical components need all three phases"
        findings += [refused(quantity, FindingStatus.MISSING_PHASE, detail) for quantity in stator.SEQUENCES]
    return findings + _rotor_findings(stretch, line, motor, bands)


def _refuse_recording(stretch: Stretch, motor: MotorData) -> tuple[FindingStatus, str] | None:
    """Why the whole recording says nothing, if so."""
    if stretch.phases.shape[0] == 0:
        return FindingStatus.MISSING_PHASE, "no phase was recorded"
    if stretch.seconds < MIN_SECONDS or stretch.phases.shape[1] < MIN_SAMPLES:
        status = FindingStatus.GAPS if stretch.has_gaps else FindingStatus.INSUFFICIENT_RESOLUTION
        return (
            status,
            f"{stretch.seconds:.3g} s, {stretch.phases.shape[1]} samples without a gap; {MIN_SECONDS} s are needed",
        )
    rms = float(np.sqrt(np.mean(stretch.phases**2)))
    if rms == 0:
        return FindingStatus.OFF, "the current is constant"
    if motor.rated_current_a is not None and rms < OFF_SHARE * motor.rated_current_a:
        return FindingStatus.OFF, f"{rms:.3g} A rms, {100 * rms / motor.rated_current_a:.1f} % of the rated current"
    return None


def _refuse_levels(line: Line, clipped: float) -> tuple[FindingStatus, str] | None:
    """Why nothing but the line frequency can be read, if so."""
    if clipped >= CLIPPED_SHARE:
        detail = f"{100 * clipped:.0f} % of the samples lie in flat tops: the recorder's range is too small"
        return FindingStatus.CLIPPED, detail
    starting = starts_up(line.envelope, line.alive)
    return None if starting is None else (FindingStatus.START_UP, starting)


def _line_frequency(line: Line, motor: MotorData, bands: SeverityBands) -> Finding:
    if motor.line_freq_hz is None:
        return found(Quantity.LINE_FREQUENCY, line.hz, "strongest line")
    deviation = line.hz - motor.line_freq_hz
    if abs(deviation) > SUPPLY_RANGE * motor.line_freq_hz:
        detail = f"{deviation:+.2f} Hz from the plate's {motor.line_freq_hz:g} Hz: a converter, or a wrong plate"
        return found(Quantity.LINE_FREQUENCY, line.hz, detail)
    severity = severity_of(abs(deviation), bands.line_deviation_hz)
    # adding zero takes the sign of a negative zero
    detail = f"{round(deviation, 4) + 0.0:+.4f} Hz from the nominal {motor.line_freq_hz:g} Hz"
    return found(Quantity.LINE_FREQUENCY, line.hz, detail, severity=severity)


def _load(line: Line, motor: MotorData, bands: SeverityBands) -> Finding:
    """Current, not torque: an idle motor draws a third of its rated current."""
    if motor.rated_current_a is None:
        return refused(Quantity.LOAD, FindingStatus.NO_MOTOR_DATA, "rated_current_a is not known")
    current = _running_current(line)
    value = 100 * current / motor.rated_current_a
    when = "" if line.alive.all() else f" while it ran, {100 * float(line.alive.mean()):.0f} % of the time"
    detail = f"{current:.3f} A rms of {motor.rated_current_a:g} A{when}"
    return found(Quantity.LOAD, value, detail, severity=severity_of(value, bands.load_pct))


def _running_current(line: Line) -> float:
    """A rms, while the motor runs."""
    running = line.steady if line.steady.any() else line.alive
    return float(np.median(line.envelope[running])) / math.sqrt(2)


def _rotor_findings(stretch: Stretch, line: Line, motor: MotorData, bands: SeverityBands) -> list[Finding]:
    refusal = _refuse_rotor(stretch, line, motor)
    if refusal is not None:
        return [refused(quantity, *refusal) for quantity in ROTOR_QUANTITIES]
    seen = rotor.look_at_rotor(stretch, line, motor)
    if not seen.clock.trustworthy:
        return [refused(quantity, FindingStatus.CLOCK_QUALITY, _smeared(seen)) for quantity in ROTOR_QUANTITIES]
    rated = motor.rated_current_a
    current = None if rated is None else _running_current(line) / rated
    slip, slip_finding = find_slip(seen, motor, current=current)
    return [
        slip_finding,
        rotor.broken_bar(seen, slip, slip_finding, bands),
        rotor.eccentricity(seen, slip, slip_finding, bands),
    ]


def _smeared(seen: rotor.Rotor) -> str:
    """What the audit of the clock saw; a carrier that fills the sidebands' places leaves no noise to measure."""
    floor, width = seen.clock.measured_floor_dbc, 2 * seen.clock.carrier_halfwidth_hz
    if math.isinf(floor):
        return f"the carrier is {width:.2f} Hz wide and covers the places of all sidebands"
    return f"{floor:.1f} dBc of noise beside the carrier, which is {width:.2f} Hz wide"


def _refuse_rotor(stretch: Stretch, line: Line, motor: MotorData) -> tuple[FindingStatus, str] | None:
    """Why the rotor cannot be read from this recording, if so."""
    if motor.pole_pairs is None:
        return FindingStatus.NO_MOTOR_DATA, "pole_pairs is not known"
    needed = rotor.needed_seconds(rotor.REQUIRED_SLIP, line.hz)
    if stretch.seconds < needed:
        status = FindingStatus.GAPS if stretch.has_gaps else FindingStatus.INSUFFICIENT_RESOLUTION
        return (
            status,
            f"{stretch.seconds:.2f} s; {needed:.1f} s resolve the sidebands of {rotor.REQUIRED_SLIP:.1%} slip",
        )
    unsteady = varies(line.envelope, line.alive)
    return None if unsteady is None else (FindingStatus.UNSTEADY, unsteady)
