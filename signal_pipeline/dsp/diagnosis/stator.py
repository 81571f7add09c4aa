"""What the three phases say about each other: unbalance and the inter-turn signature.

Here: symmetrical components of the fundamental over time (Fortescue 1918), and how they are judged. Not here: the
library's `stator_interturn` lines: at line * (n * (1 - slip) / pole_pairs +- k) they coincide with eccentricity.
"""

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
from signal_pipeline.dsp.diagnosis.record import Line
from signal_pipeline.dsp.diagnosis.running import BLOCK_CYCLES

SEQUENCES = (Quantity.UNBALANCE, Quantity.INTERTURN)

SUSTAINED_BLOCKS = 5
"""A value must hold for five half-overlapping blocks, 0.6 s at 50 Hz, before it counts."""

LARGEST_OWN_REFERENCE_PCT = 4.0
"""A recording's quietest moment is taken for its healthy state up to here, or a lasting fault would hide itself."""


LARGEST_ZERO_SEQUENCE = 0.2
"""I0/I1 above which a sensor must be wrong: three wires carry no sum. A dead one makes 0.5, a reversed one 1;
real recordings of small laboratory sensors showed 0.11."""

OPEN_PHASE = 0.05
"""A phase with less than this share of the mean is open."""


def sequences(line: Line, bands: SeverityBands, *, reference_pct: float | None) -> list[Finding]:
    """Unbalance and inter-turn signature from the steady blocks of three phases, or why there is none."""
    phasors = line.phasors[:, line.steady]
    if phasors.shape[1] < min(SUSTAINED_BLOCKS, line.steady.size):
        detail = f"only {phasors.shape[1]} blocks of {BLOCK_CYCLES} cycles in a row hold current of one frequency"
        return [refused(quantity, FindingStatus.UNSTEADY, detail) for quantity in SEQUENCES]
    zero = _zero(phasors)
    if zero > LARGEST_ZERO_SEQUENCE:
        detail = f"the three currents do not sum to zero (I0/I1 {100 * zero:.0f} %): look at the sensors"
        return [refused(quantity, FindingStatus.SENSORS, detail) for quantity in SEQUENCES]
    return [unbalance(phasors, bands), interturn(phasors, bands, reference_pct=reference_pct)]


def unbalance(phasors: NDArray[np.complex128], bands: SeverityBands) -> Finding:
    """Largest deviation of a phase's fundamental from the mean of the three, in % of the mean (NEMA MG 1).

    Of the currents without their sum: a motor on three wires cannot carry one, so it is the sensors', whose gains
    differ by more than a healthy motor's phases do. (The feature `unbalance_pct` is of the currents as recorded.)
    """
    amplitudes = np.median(np.abs(phasors - phasors.mean(axis=0)), axis=1)
    mean = float(amplitudes.mean())
    value = 100 * float(np.abs(amplitudes - mean).max()) / mean
    recorded = " / ".join(f"{a / np.sqrt(2):.3f}" for a in np.median(np.abs(phasors), axis=1))
    told = f"fundamentals {recorded} A rms, their sum (I0/I1 {100 * _zero(phasors):.1f} %) left out"
    return found(Quantity.UNBALANCE, value, told, severity=severity_of(value, bands.unbalance_pct))


def interturn(phasors: NDArray[np.complex128], bands: SeverityBands, *, reference_pct: float | None) -> Finding:
    """The highest I2/I1 that lasts, in %; judged by how far it lies above its reference.

    A supply that is not balanced makes I2 too. So the reference is the motor's own healthy I2/I1 when that is
    known, else the quietest moment of this recording, up to `LARGEST_OWN_REFERENCE_PCT`.
    """
    amplitudes = np.median(np.abs(phasors), axis=1)
    if amplitudes.min() < OPEN_PHASE * amplitudes.mean():
        detail = "one phase carries no current, the others do: an open phase or a sensor without signal"
        return refused(Quantity.INTERTURN, FindingStatus.SENSORS, detail)
    ratio = sustained(100 * negative_over_positive(phasors))
    value, quietest = float(ratio.max()), float(ratio.min())
    own = min(quietest, LARGEST_OWN_REFERENCE_PCT)
    reference = own if reference_pct is None else reference_pct
    source = f"own quietest moment, at most {LARGEST_OWN_REFERENCE_PCT:g} %" if reference_pct is None else "motor data"
    detail = f"I2/I1 {quietest:.1f} to {value:.1f} %, reference {reference:.1f} % ({source})"
    return found(Quantity.INTERTURN, value, detail, severity=severity_of(value - reference, bands.interturn_pct))


def negative_over_positive(phasors: NDArray[np.complex128]) -> NDArray[np.float64]:
    """|I2| / |I1| by block, from phasors (3, block)."""
    return _components(phasors)[1]


def _zero(phasors: NDArray[np.complex128]) -> float:
    """The usual |I0| / |I1|."""
    return float(np.median(_components(phasors)[0]))


def _components(phasors: NDArray[np.complex128]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """|I0| / |I1| and |I2| / |I1| by block. The rotating sequence that carries more is the positive one."""
    turn = np.exp(2j * np.pi / 3)
    r, s, t = phasors
    one, other = np.abs(r + turn * s + turn**2 * t), np.abs(r + turn**2 * s + turn * t)
    positive, negative = (one, other) if one.mean() >= other.mean() else (other, one)
    positive = np.maximum(positive, np.finfo(float).tiny)
    return np.abs(r + s + t) / positive, np.asarray(negative / positive)


def sustained(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running median over `SUSTAINED_BLOCKS`, or over all when there are fewer; one value a full stretch."""
    width = min(SUSTAINED_BLOCKS, values.size)
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(values, width), axis=1))
