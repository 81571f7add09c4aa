"""From samples to findings: the order in which a recording is looked at, and where it is refused.

Here: `diagnose` and its gates, from the coarse to the fine. Not here: how a line is found (`slip`, `rotor`, `stator`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.dsp.diagnosis import rotor, stator
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
from signal_pipeline.dsp.diagnosis.record import Line, Stretch, follow_line, longest_stretch, straighten
from signal_pipeline.dsp.diagnosis.slip import find_slip

MIN_SECONDS = 0.5
MIN_SAMPLES = 50
"""A shorter stretch says nothing at all."""

OFF_SHARE = 0.05
"""Below this share of the rated current the motor stands still: an idle one draws its magnetising current."""

START_UP_RATIO = 2.0
"""A start draws several times the running current; twice the level of the last quarter is one."""

UNSTEADY_SPREAD = 0.2
"""How far the means of four quarters may lie apart, as a share of their mean."""

ROTOR_QUANTITIES = (Quantity.SLIP, Quantity.BROKEN_BAR, Quantity.ECCENTRICITY)


def diagnose(
    phases: NDArray[np.float32],
    *,
    fs: float,
    motor: MotorData | None = None,
    present: Sequence[bool] = (True, True, True),
    bands: SeverityBands | None = None,
    max_gap: int = 1,
) -> Diagnosis:
    """All findings of one recording; what cannot be said carries the reason instead of a number.

    Parameters: phases float32 (3, n) in amperes, NaN where there is a gap; fs in Hz; the motor's nameplate, as far
    as it is known; which phases were recorded (the others may hold anything); where the severities begin; the
    longest gap, in samples, that is bridged. Of what longer gaps leave, the longest stretch is looked at.
    Raises `ValueError` for another shape, a sample rate that is none, or `present` of another length.
    """
    if phases.ndim != 2 or phases.shape[0] != 3 or len(present) != 3:
        raise ValueError(f"phases of shape {phases.shape} with {present=}: (3, n) and three booleans are needed")
    motor, bands = motor or MotorData(), bands or SeverityBands()
    mask = np.array(present, dtype=bool)
    stretch = longest_stretch(phases, fs=fs, present=mask, max_gap=max_gap)
    findings = _findings(stretch, motor=motor, all_phases=bool(mask.all()), bands=bands)
    in_order = sorted(findings, key=lambda finding: tuple(Quantity).index(finding.quantity))
    return Diagnosis(tuple(in_order), stretch.seconds)


def _findings(stretch: Stretch, *, motor: MotorData, all_phases: bool, bands: SeverityBands) -> list[Finding]:
    refusal = _refuse_recording(stretch, motor)
    if refusal is not None:
        return [refused(quantity, *refusal) for quantity in Quantity]
    line, reason = follow_line(stretch, nominal_hz=motor.line_freq_hz)
    if line is None:
        return [refused(quantity, FindingStatus.NO_LINE, reason) for quantity in Quantity]
    findings = [_line_frequency(line, motor, bands)]
    starting = _starts_up(line)
    if starting is not None:
        rest = (quantity for quantity in Quantity if quantity is not Quantity.LINE_FREQUENCY)
        return findings + [refused(quantity, FindingStatus.START_UP, starting) for quantity in rest]
    findings.append(_load(line, motor, bands))
    if all_phases:
        findings.append(stator.unbalance(line, bands))
        findings.append(stator.interturn(line, bands, reference_pct=motor.reference_i2_i1_pct))
    else:
        detail = "symmetrical components need all three phases"
        lost = (Quantity.UNBALANCE, Quantity.INTERTURN)
        findings += [refused(quantity, FindingStatus.MISSING_PHASE, detail) for quantity in lost]
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


def _line_frequency(line: Line, motor: MotorData, bands: SeverityBands) -> Finding:
    if motor.line_freq_hz is None:
        return found(Quantity.LINE_FREQUENCY, line.hz, "strongest line")
    deviation = line.hz - motor.line_freq_hz
    severity = severity_of(abs(deviation), bands.line_deviation_hz)
    detail = f"{deviation:+.4f} Hz from the nominal {motor.line_freq_hz:g} Hz"
    return found(Quantity.LINE_FREQUENCY, line.hz, detail, severity=severity)


def _load(line: Line, motor: MotorData, bands: SeverityBands) -> Finding:
    """Current, not torque: an idle motor draws a third of its rated current."""
    if motor.rated_current_a is None:
        return refused(Quantity.LOAD, FindingStatus.NO_MOTOR_DATA, "rated_current_a is not known")
    current = float(np.median(line.envelope)) / np.sqrt(2)
    value = 100 * current / motor.rated_current_a
    detail = f"{current:.3f} A rms of {motor.rated_current_a:g} A"
    return found(Quantity.LOAD, value, detail, severity=severity_of(value, bands.load_pct))


def _starts_up(line: Line) -> str | None:
    envelope = line.envelope
    running = float(np.median(envelope[-max(1, envelope.size // 4) :]))
    if envelope.max() <= START_UP_RATIO * running:
        return None
    return f"the current reaches {envelope.max() / max(running, 1e-300):.1f} times that of the last quarter"


def _rotor_findings(stretch: Stretch, line: Line, motor: MotorData, bands: SeverityBands) -> list[Finding]:
    refusal = _refuse_rotor(stretch, line, motor)
    if refusal is not None:
        return [refused(quantity, *refusal) for quantity in ROTOR_QUANTITIES]
    seen = rotor.look_at_rotor(straighten(stretch, line), line, motor)
    if not seen.clock.trustworthy:
        detail = (
            f"{seen.clock.measured_floor_dbc:.1f} dBc of noise beside the carrier, "
            f"which is {2 * seen.clock.carrier_halfwidth_hz:.2f} Hz wide"
        )
        return [refused(quantity, FindingStatus.CLOCK_QUALITY, detail) for quantity in ROTOR_QUANTITIES]
    slip, slip_finding = find_slip(seen, motor)
    return [
        slip_finding,
        rotor.broken_bar(seen, slip, slip_finding, bands),
        rotor.eccentricity(seen, slip, slip_finding, bands),
    ]


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
    quarters = [float(part.mean()) for part in np.array_split(line.envelope, 4)]
    spread = (max(quarters) - min(quarters)) / (sum(quarters) / 4)
    if spread > UNSTEADY_SPREAD:
        return FindingStatus.UNSTEADY, f"the current's level varies by {100 * spread:.0f} % between quarters"
    return None
