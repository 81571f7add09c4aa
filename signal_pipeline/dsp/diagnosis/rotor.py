"""What the rotor writes beside the line frequency: broken bars and eccentricity.

Here: the residual spectrum of all phases, and the levels at the fault frequencies, which `statorscope` names. Not
here: the slip (`slip`), or whether the recording may be looked at (`diagnose`).
"""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.dsp.diagnosis.findings import (
    Finding,
    FindingStatus,
    Quantity,
    SeverityBands,
    found,
    refused,
    severity_of,
)
from signal_pipeline.dsp.diagnosis.lookalikes import Folded, clear_of_folded, clear_of_harmonics, folded_harmonics
from signal_pipeline.dsp.diagnosis.motor_data import MotorData
from signal_pipeline.dsp.diagnosis.record import Line, Stretch, straighten

if TYPE_CHECKING:
    from statorscope import Evidence, FaultSignature, Motor

    from signal_pipeline.dsp.diagnosis.spectra import Clock, Levels

LOBE_BINS = 5
"""Half the main lobe of a Blackman-Harris window and the bin by which a search overshoots: closer is the carrier."""

TOLERANCE_HZ = 0.15
"""A line is looked for this far around the place where physics puts it."""

REQUIRED_SLIP = 0.012
"""A recording that cannot resolve the sidebands of this slip is not looked at."""

MAX_ASYMMETRY_DB = 12.0
"""Two sidebands that differ by more are not a pair; the library's own figure."""

POSITIVE_SHARE = 0.8
"""What of a line must be positive sequence for it to turn with the field: a line in one phase alone has 0.58."""

LEAST_LEVEL_DBC = -70.0
"""Weaker lines are not believed to be a fault's, however far they stand out; the library's own figure."""

LINE_PROMINENCE_DB = 12.0
"""How far a line must stand out at a known place; the library's own figure."""


class Rotor(NamedTuple):
    """Everything the three rotor findings are read from."""

    spectrum: "Levels"
    """Residual without the carrier, power mean of the phases, in dB below the carrier."""
    clock: "Clock"
    motor: "Motor"
    """The library's motor, on the measured line frequency."""
    guard_hz: float
    """No line is read closer to a multiple of the line frequency."""
    residual: NDArray[np.float64]
    """(present phases, sample): amperes, without the carrier."""
    turning: NDArray[np.complex128]
    """(present phases,): what takes the positive sequence out of phasors; empty where a phase is missing."""
    folded: Folded

    @property
    def smallest_slip(self) -> float:
        return (self.guard_hz + TOLERANCE_HZ) / (2 * self.motor.line_hz)


class Slip(NamedTuple):
    """Slip per unit and where it was read; `blind` when the sidebands themselves gave it."""

    value: float
    source: str
    blind: bool = False
    error: float = 0.0
    """What half a bin's error of its lines makes of it."""


def needed_seconds(slip: float, line_hz: float) -> float:
    """Shortest recording that resolves the sidebands of `slip`; infinite when they lie within the tolerance."""
    clear = 2 * slip * line_hz - TOLERANCE_HZ
    return LOBE_BINS / clear if clear > 0 else math.inf


def look_at_rotor(recorded: Stretch, line: Line, motor: MotorData) -> Rotor:
    """The residual spectrum and the audit of a steady stretch; `motor.pole_pairs` must be known."""
    from statorscope import Motor

    from signal_pipeline.dsp.diagnosis.spectra import Levels, amplitudes, audit_clock, carrier_of, usable, without_line

    phases, fs = usable(straighten(recorded, line).phases), recorded.fs
    freq, whole = amplitudes(phases, fs)
    carriers = [carrier_of(freq, amplitude, near_hz=line.hz) for amplitude in whole]
    without = without_line(phases, fs, line.hz)
    _, residual = amplitudes(without, fs)

    def levels(amplitude: NDArray[np.float64], hz: float, carrier: float) -> Levels:
        return Levels.of(freq, amplitude, fs=fs, n_samples=phases.shape[1], hz=hz, carrier=carrier)

    strongest = carriers[line.strongest]
    clock = audit_clock(levels(residual[line.strongest], strongest.hz, strongest.bin_amplitude), line.hz)
    mean_carrier = math.sqrt(sum(carrier.amplitude**2 for carrier in carriers) / len(carriers))
    spectrum = levels(np.sqrt(np.mean(residual**2, axis=0)), line.hz, mean_carrier)
    pole_pairs = motor.pole_pairs
    if pole_pairs is None:
        raise ValueError("pole_pairs=None: rotor lines need the number of pole pairs")
    guard_hz = max(LOBE_BINS * spectrum.resolution_hz, clock.carrier_halfwidth_hz)
    return Rotor(
        spectrum=spectrum,
        clock=clock,
        motor=Motor(pole_pairs=pole_pairs, rotor_bars=motor.rotor_bars, line_hz=line.hz),
        guard_hz=guard_hz,
        residual=without,
        turning=line.turning,
        folded=folded_harmonics(recorded, line, spectrum, guard_hz=guard_hz, least_dbc=LEAST_LEVEL_DBC),
    )


def broken_bar(rotor: Rotor, slip: Slip | None, slip_finding: Finding, bands: SeverityBands) -> Finding:
    """Sidebands at line * (1 +- 2*slip), the stronger one in dBc (Thomson and Fenger 2001)."""
    from statorscope import broken_rotor_bar

    quantity = Quantity.BROKEN_BAR
    if slip is None:
        return refused(
            quantity, slip_finding.status, f"without a slip nobody knows where to look: {slip_finding.detail}"
        )
    if slip.value < rotor.smallest_slip:
        needed = needed_seconds(slip.value, rotor.motor.line_hz)
        detail = f"slip {slip.value:.4f} needs {needed:.1f} s, or a steadier line frequency"
        return refused(quantity, FindingStatus.INSUFFICIENT_RESOLUTION, detail)
    signature = broken_rotor_bar(rotor.motor, slip.value, n_sidebands=1)
    finding = _read_level(rotor, signature, quantity, bands.broken_bar_dbc, known_slip=not slip.blind)
    return _judged_if_verified(rotor, slip, finding)


def eccentricity(rotor: Rotor, slip: Slip | None, slip_finding: Finding, bands: SeverityBands) -> Finding:
    """Mixed eccentricity at line +- rotor frequency, the stronger one in dBc (Thomson and Fenger 2001)."""
    from statorscope import FaultSignature
    from statorscope import eccentricity as eccentricity_lines

    quantity = Quantity.ECCENTRICITY
    if slip is None:
        return refused(
            quantity, slip_finding.status, f"without a slip nobody knows where to look: {slip_finding.detail}"
        )
    lines = eccentricity_lines(rotor.motor, slip.value, max_order=1)
    clear = clear_of_harmonics(rotor, lines.frequencies)
    if not clear.any():
        detail = f"at slip {slip.value:.4f} both lines lie within {rotor.guard_hz:.2f} Hz of a line harmonic"
        return refused(quantity, FindingStatus.INSUFFICIENT_RESOLUTION, detail)
    labels = tuple(label for label, is_clear in zip(lines.labels, clear, strict=True) if is_clear)
    signature = FaultSignature(lines.kind, lines.frequencies[clear], labels)
    return _judged_if_verified(rotor, slip, _read_level(rotor, signature, quantity, bands.eccentricity_dbc))


def _judged_if_verified(rotor: Rotor, slip: Slip, finding: Finding) -> Finding:
    """A blind slip gives levels, but nobody may call them a fault, or none."""
    if not slip.blind or finding.severity is None:
        return finding
    beat = 2 * slip.value * rotor.motor.line_hz
    return replace(
        finding,
        severity=None,
        detail=f"not judged: nothing shows the rotor's speed, and a load that pulsates at {beat:.2f} Hz makes the "
        f"sidebands that gave the slip: {finding.detail}",
    )


def _read_level(
    rotor: Rotor,
    signature: "FaultSignature",
    quantity: Quantity,
    bands: tuple[float, float, float],
    *,
    known_slip: bool = True,
) -> Finding:
    """The strongest line that stands out; else the weakest that would have, if that is below every band."""
    from statorscope import evaluate_signature

    result = evaluate_signature(
        rotor.spectrum,
        signature,
        min_prominence_db=LINE_PROMINENCE_DB,
        tol_hz=tolerance_of(rotor),
        min_level_dbc=LEAST_LEVEL_DBC,
    )
    evidence = result.evidence
    told = ", ".join(f"{e.label} {e.frequency_hz:.2f} Hz {e.level_dbc:.1f} dBc" for e in evidence)
    strong = [e.frequency_hz for e in evidence if e.passed and e.level_dbc >= bands[0]]
    if not clear_of_folded(rotor, np.array(strong)).all():
        detail = f"a harmonic that the recorder folded to this place hides what else may stand there: {told}"
        return refused(quantity, FindingStatus.INSUFFICIENT_RESOLUTION, detail)
    one_sided = quantity is Quantity.BROKEN_BAR and not _is_pair(evidence)
    if result.detected and not one_sided:
        return found(quantity, result.strongest_dbc, told, severity=severity_of(result.strongest_dbc, bands))
    if result.detected and result.strongest_dbc >= bands[0]:
        if known_slip and _is_lower_alone(rotor, evidence):
            told = f"the lower sideband alone, as of a rotor with much inertia: {told}"
            return found(quantity, result.strongest_dbc, told, severity=severity_of(result.strongest_dbc, bands))
        return refused(quantity, FindingStatus.ONE_SIDED, f"sidebands of a rotor come in pairs: {told}")
    bound = max(e.level_dbc + max(0.0, LINE_PROMINENCE_DB - e.prominence_db) for e in evidence)
    if bound >= bands[0]:
        detail = f"a line below {bound:.1f} dBc would drown, and {bands[0]:g} dBc matters: {told}"
        return refused(quantity, FindingStatus.NOISE_FLOOR, detail)
    seen = "a line at one sideband's place only, too weak to matter" if result.detected else "no line of a fault"
    detail = f"{seen}: one above {bound:.1f} dBc would have been seen: {told}"
    return found(quantity, bound, detail, severity=severity_of(bound, bands), upper_bound=True)


def _is_pair(evidence: "tuple[Evidence, ...]") -> bool:
    """Both sidebands stand out, and about equally: the library's own rule for a credible pair."""
    levels = [e.level_dbc for e in evidence if e.passed]
    return len(levels) == 2 and abs(levels[0] - levels[1]) <= MAX_ASYMMETRY_DB


def _is_lower_alone(rotor: Rotor, evidence: "tuple[Evidence, ...]") -> bool:
    """Only the lower sideband stands out, and it turns with the field.

    A broken bar makes the lower one; the upper comes from the speed that swings with it, which inertia prevents
    (Filippetti et al. 1998). What turns another way, or not at all, comes from elsewhere.
    """
    lower, upper = sorted(evidence, key=lambda e: e.frequency_hz)
    if not rotor.turning.size or lower.level_dbc < upper.level_dbc or not lower.passed:
        return False
    hz, _ = rotor.spectrum.peak_near(lower.frequency_hz, tolerance_of(rotor))
    n = rotor.residual.shape[1]
    phasors = rotor.residual @ (np.hanning(n) * np.exp(-2j * math.pi * hz / rotor.spectrum.fs * np.arange(n)))
    total = math.sqrt(float(np.mean(np.abs(phasors) ** 2)))
    return abs(complex(rotor.turning @ phasors)) / 3 >= POSITIVE_SHARE * total


def tolerance_of(rotor: Rotor) -> float:
    """How far around its place a line is looked for (Hz): a bin at least."""
    return max(TOLERANCE_HZ, rotor.spectrum.resolution_hz)
