"""What the rotor writes beside the line frequency: slip, broken bars, eccentricity.

Here: the residual spectrum of all phases, the slip, and the levels at the fault frequencies. `statorscope` gives the
spectrum, the frequencies, the blind sideband search and the audit; the slip from eccentricity and slot harmonics is
ours, because a healthy motor has no sidebands to read it from. Not here: whether the recording may be looked at.
"""

import math
from collections.abc import Callable
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
from signal_pipeline.dsp.diagnosis.motor_data import MotorData
from signal_pipeline.dsp.diagnosis.record import HIGHEST_SHARE, Line, Stretch, carrier_amplitude

if TYPE_CHECKING:
    from statorscope import ClockQuality, Evidence, FaultSignature, Motor, Spectrum

LOBE_BINS = 5
"""Half the main lobe of a Blackman-Harris window and the bin by which a search overshoots: closer is the carrier."""

TOLERANCE_HZ = 0.15
"""A line is looked for this far around the place where physics puts it."""

REQUIRED_SLIP = 0.012
"""A recording that cannot resolve the sidebands of this slip is not looked at."""

MAX_SLIP = 0.1
SLIP_AGREEMENT = 0.002
"""Two estimates that differ by more contradict each other."""

SLIP_PROMINENCE_DB = 15.0
"""How far both lines of a pair must stand above their surroundings to name a slip; that of the library's search."""

MAX_ASYMMETRY_DB = 12.0
"""Two sidebands that differ by more are not a pair; the library's own figure."""

LEAST_LEVEL_DBC = -70.0
"""Weaker lines are not believed to be a fault's, however far they stand out; the library's own figure."""

LINE_PROMINENCE_DB = 12.0
"""How far a line must stand out at a known place; the library's own figure."""


class Rotor(NamedTuple):
    """Everything the three rotor findings are read from."""

    spectrum: "Spectrum"
    """Residual without the carrier, power mean of the phases, in dB below the carrier."""
    clock: "ClockQuality"
    motor: "Motor"
    """The library's motor, on the measured line frequency."""
    guard_hz: float
    """No line is read closer to a multiple of the line frequency."""

    @property
    def smallest_slip(self) -> float:
        return (self.guard_hz + TOLERANCE_HZ) / (2 * self.motor.line_hz)


class Slip(NamedTuple):
    """Slip per unit and where it was read; `blind` when the sidebands themselves gave it."""

    value: float
    source: str
    blind: bool = False


def needed_seconds(slip: float, line_hz: float) -> float:
    """Shortest recording that resolves the sidebands of `slip`; infinite when they lie within the tolerance."""
    clear = 2 * slip * line_hz - TOLERANCE_HZ
    return LOBE_BINS / clear if clear > 0 else math.inf


def look_at_rotor(stretch: Stretch, line: Line, motor: MotorData) -> Rotor:
    """The residual spectrum and the audit of a steady stretch; `motor.pole_pairs` must be known."""
    from statorscope import Motor, Recording, assess_clock, compute_spectrum, suppress_fundamental

    power, carrier_power = np.zeros(stretch.phases.shape[1] // 2 + 1), 0.0
    for x in stretch.phases:
        carrier_power += carrier_amplitude(compute_spectrum(x, stretch.fs, reference_hz=line.hz)) ** 2
        residual = suppress_fundamental(x, stretch.fs, line.hz)
        spectrum = compute_spectrum(residual, stretch.fs, reference_hz=line.hz)
        power += spectrum.amplitude**2
    n_phases = len(stretch.phases)
    spectrum = replace(spectrum, amplitude=np.sqrt(power / n_phases))
    spectrum = spectrum.rereferenced(line.hz, math.sqrt(carrier_power / n_phases))
    clock = assess_clock(Recording(stretch.phases[line.strongest], stretch.fs), line_hz=line.hz)
    pole_pairs = motor.pole_pairs
    if pole_pairs is None:
        raise ValueError("pole_pairs=None: rotor lines need the number of pole pairs")
    return Rotor(
        spectrum=spectrum,
        clock=clock,
        motor=Motor(pole_pairs=pole_pairs, rotor_bars=motor.rotor_bars, line_hz=line.hz),
        guard_hz=max(LOBE_BINS * spectrum.resolution_hz, clock.carrier_halfwidth_hz),
    )


def find_slip(rotor: Rotor, motor: MotorData) -> tuple[Slip | None, Finding]:
    """The slip, if rotor speed or sidebands show it, and the finding that says so."""
    highest = MAX_SLIP if motor.rated_slip is None else min(MAX_SLIP, 2.5 * motor.rated_slip)
    by_speed = [slip for slip in (_from_slots(rotor, highest), _from_eccentricity(rotor, highest)) if slip is not None]
    by_sidebands = _from_sidebands(rotor, highest)
    known = [*by_speed, *([by_sidebands] if by_sidebands is not None else [])]
    if not known:
        detail = f"neither rotor speed nor sidebands stand out between slips of 0 and {highest:.3f}"
        return None, refused(Quantity.SLIP, FindingStatus.SLIP_UNKNOWN, detail)
    values = [slip.value for slip in known]
    told = "; ".join(f"{slip.value:.4f} from {slip.source}" for slip in known)
    if max(values) - min(values) > SLIP_AGREEMENT:
        return None, refused(Quantity.SLIP, FindingStatus.SLIP_AMBIGUOUS, told)
    return known[0], found(Quantity.SLIP, known[0].value, told)


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
    return _read_level(rotor, signature, quantity, bands.broken_bar_dbc)


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
    clear = _clear_of_harmonics(rotor, lines.frequencies)
    if not clear.any():
        detail = f"at slip {slip.value:.4f} both lines lie within {rotor.guard_hz:.2f} Hz of a line harmonic"
        return refused(quantity, FindingStatus.INSUFFICIENT_RESOLUTION, detail)
    labels = tuple(label for label, is_clear in zip(lines.labels, clear, strict=True) if is_clear)
    signature = FaultSignature(lines.kind, lines.frequencies[clear], labels)
    return _read_level(rotor, signature, quantity, bands.eccentricity_dbc)


def _read_level(
    rotor: Rotor, signature: "FaultSignature", quantity: Quantity, bands: tuple[float, float, float]
) -> Finding:
    """The strongest line that stands out; else the weakest that would have, if that is below every band."""
    from statorscope import evaluate_signature

    result = evaluate_signature(
        rotor.spectrum,
        signature,
        min_prominence_db=LINE_PROMINENCE_DB,
        tol_hz=_tolerance(rotor),
        min_level_dbc=LEAST_LEVEL_DBC,
    )
    evidence = result.evidence
    told = ", ".join(f"{e.label} {e.frequency_hz:.2f} Hz {e.level_dbc:.1f} dBc" for e in evidence)
    one_sided = quantity is Quantity.BROKEN_BAR and not _is_pair(evidence)
    if result.detected and not one_sided:
        return found(quantity, result.strongest_dbc, told, severity=severity_of(result.strongest_dbc, bands))
    if result.detected and result.strongest_dbc >= bands[0]:
        return refused(quantity, FindingStatus.ONE_SIDED, f"sidebands of a rotor come in pairs: {told}")
    bound = max(e.level_dbc + max(0.0, LINE_PROMINENCE_DB - e.prominence_db) for e in evidence)
    if bound >= bands[0]:
        detail = f"a line below {bound:.1f} dBc would drown, and {bands[0]:g} dBc matters: {told}"
        return refused(quantity, FindingStatus.NOISE_FLOOR, detail)
    detail = f"no line of a fault: one above {bound:.1f} dBc would have been seen: {told}"
    return found(quantity, bound, detail, severity=severity_of(bound, bands), upper_bound=True)


def _is_pair(evidence: "tuple[Evidence, ...]") -> bool:
    """Both sidebands stand out, and about equally: the library's own rule for a credible pair."""
    levels = [e.level_dbc for e in evidence if e.passed]
    return len(levels) == 2 and abs(levels[0] - levels[1]) <= MAX_ASYMMETRY_DB


def _from_eccentricity(rotor: Rotor, highest: float) -> Slip | None:
    """line +- rotor frequency stand 2 * line * (1 - slip) / pole_pairs apart."""
    line, pole_pairs = rotor.motor.line_hz, rotor.motor.pole_pairs

    def pair(slip: NDArray[np.float64]) -> NDArray[np.float64]:
        rotor_freq = line * (1 - slip) / pole_pairs
        return np.stack([line - rotor_freq, line + rotor_freq])

    slip = _strongest_pair(rotor, pair, lambda low, high: 1 - (high - low) * pole_pairs / (2 * line), highest)
    return None if slip is None else Slip(slip, "eccentricity lines")


def _from_slots(rotor: Rotor, highest: float) -> Slip | None:
    """The principal slot harmonics line * (bars * (1 - slip) / pole_pairs +- 1); their mean is the slot frequency."""
    line, pole_pairs, bars = rotor.motor.line_hz, rotor.motor.pole_pairs, rotor.motor.rotor_bars
    if bars is None or line * (bars / pole_pairs + 1) > HIGHEST_SHARE * rotor.spectrum.fs:
        return None

    def pair(slip: NDArray[np.float64]) -> NDArray[np.float64]:
        slots = line * bars * (1 - slip) / pole_pairs
        return np.stack([slots - line, slots + line])

    slip = _strongest_pair(rotor, pair, lambda low, high: 1 - (low + high) * pole_pairs / (2 * line * bars), highest)
    return None if slip is None else Slip(slip, "rotor slot harmonics")


def _from_sidebands(rotor: Rotor, highest: float) -> Slip | None:
    """The library's blind search for a symmetric pair, in the spectrum around the carrier only: it is slow."""
    from statorscope import estimate_slip

    # with many poles the eccentricity lines, a symmetric pair as well, come as close as sidebands: stay below them
    line, tolerance = rotor.motor.line_hz, _tolerance(rotor)
    highest = min(highest, (line * (1 - highest) / rotor.motor.pole_pairs - 2 * tolerance) / (2 * line))
    if rotor.smallest_slip >= highest:
        return None
    near = np.abs(rotor.spectrum.freq - line) < 4 * MAX_SLIP * line + 5
    spectrum = replace(rotor.spectrum, freq=rotor.spectrum.freq[near], amplitude=rotor.spectrum.amplitude[near])
    # candidates half a tolerance apart: the default of 400 looks at every place four times
    n_steps = math.ceil(2 * line * (highest - rotor.smallest_slip) / (tolerance / 2)) + 1
    estimate = estimate_slip(
        spectrum, rotor.motor, slip_range=(rotor.smallest_slip, highest), n_steps=n_steps, tol_hz=tolerance
    )
    level = min(spectrum.level_dbc(rotor.motor.line_hz * (1 + side * 2 * estimate.slip), tolerance) for side in (-1, 1))
    return Slip(estimate.slip, "sidebands", blind=True) if estimate.confident and level > LEAST_LEVEL_DBC else None


def _strongest_pair(
    rotor: Rotor,
    pair: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    slip_of: Callable[[float, float], float],
    highest: float,
) -> float | None:
    """The slip whose two lines, of which the weaker counts, are the strongest; if both stand out and fit together."""
    spectrum, tolerance = rotor.spectrum, _tolerance(rotor)
    # a quarter of a bin between neighbours
    span = float(np.ptp(pair(np.array([0.0, highest]))[1]))
    lines = pair(np.linspace(0, highest, max(200, math.ceil(4 * span / spectrum.resolution_hz))))
    weaker = np.interp(lines, spectrum.freq, spectrum.dbc).min(axis=0)
    weaker[~_clear_of_harmonics(rotor, lines).all(axis=0)] = -np.inf
    best = int(np.argmax(weaker))
    if not np.isfinite(weaker[best]):
        return None
    peaks = np.array([spectrum.peak_near(float(hz), tolerance)[0] for hz in lines[:, best]])
    prominence = min(spectrum.prominence_db(float(hz), tol_hz=tolerance) for hz in lines[:, best])
    slip = slip_of(*peaks)
    # two lines that meet by chance do not lie where one slip puts both; half a bin is what noise moves a peak
    fits = np.abs(pair(np.array([slip]))[:, 0] - peaks).max() <= spectrum.resolution_hz / 2
    if prominence < SLIP_PROMINENCE_DB or not fits or not _clear_of_harmonics(rotor, peaks).all():
        return None
    return slip if 0 < slip <= highest else None


def _clear_of_harmonics(rotor: Rotor, hz: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which frequencies keep their distance from zero and all multiples of the line frequency."""
    line = rotor.motor.line_hz
    distance = np.abs(hz - line * np.round(hz / line))
    return np.asarray((distance > rotor.guard_hz) & (hz < rotor.spectrum.freq[-1]))


def _tolerance(rotor: Rotor) -> float:
    return max(TOLERANCE_HZ, rotor.spectrum.resolution_hz)
