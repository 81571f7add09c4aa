"""Kernels for the tones of a motor current: line frequency, fundamental, harmonics, sequences, Park's vector at 2f.

Not here: the power spectrum's shape and free peaks (`spectrum`), the reasons for NULL, the table's columns.
Imported lazily, see `compiled`.

A tone A·cos(2πp(n - W/2)/W + φ), p its frequency in bins, gives under the periodic Hann window
X[k] = A/2·exp(iφ)·(-1)^k·H(k - p) + its mirror image, with H(d) = W·sin(πd) / (2πd(1 - d²)), exact to the fourth
order of 1/W. Everything here inverts this line: no table of corrections, no raw peak.
"""

# ruff: noqa: PLR0917 - the compiler knows no keyword-only arguments

from typing import Final

import numpy as np

from signal_pipeline.dsp.arrays import C8, F4, F8, I1, Float4
from signal_pipeline.dsp.compiled import compiled

NAMES: Final = (
    "line_freq_hz", "fundamental_amplitude", "fundamental_phase_deg", "thd_pct",
    *(f"harmonic_{order}_pct" for order in range(2, 21)),
)  # fmt: skip
"""What `describe` writes along the last axis of `out`, in this order."""

MACHINE_NAMES: Final = (
    "seq_pos_amplitude", "seq_neg_amplitude", "seq_zero_amplitude", "i2_i1_pct", "i0_i1_pct", "park_2f_pct"
)  # fmt: skip

MEASURED: Final = 0
NO_FUNDAMENTAL: Final = 1
TOO_SHORT: Final = 2
NO_POSITIVE: Final = 3

MIN_CYCLES: Final = 4.0  # of the line in a window: nearer to 0 Hz the tone's mirror image bends it
MIN_CYCLES_HARMONICS: Final = 10.0  # the 200 ms at 50 Hz that IEC 61000-4-7 asks for
_LAST_HARMONIC: Final = 20
_MIN_SHARE: Final = 0.25  # of all power, in the line's main lobe; a THD of 170 % leaves as much
_MIN_POSITIVE: Final = 1e-3  # of the largest phasor
_LANES: Final = 128


@compiled
def _line(d: float) -> float:
    """H(d) / H(0)."""
    d = abs(d)
    if d < 1e-6:
        return 1.0
    if abs(d - 1) < 1e-6:
        return 0.5
    return float(np.sin(np.pi * d) / (np.pi * d * (1 - d * d)))


@compiled
def _phasor(bins: C8, p: float) -> complex:
    """The tone at p bins, fitted to its three strongest bins: exp(iφ)·A/2 in units of H(0)."""
    k = int(np.round(p))
    total, weight = 0j, 0.0
    for j in range(k - 1, k + 2):
        line = _line(j - p)
        total += bins[j] * (line if j % 2 == 0 else -line)
        weight += line * line
    return total / weight


@compiled
def _harmonic(bins: C8, p: float, fundamental: complex, p1: float) -> complex:
    """As `_phasor`, after the fundamental's leakage into these bins is taken out."""
    k = int(np.round(p))
    sine = np.sin(np.pi * p1)
    total, weight = 0j, 0.0
    for j in range(k - 1, k + 2):
        sign = 1.0 if j % 2 == 0 else -1.0
        near, far = j - p1, j + p1
        # sin(π(j - p1)) = -(-1)^j·sin(πp1), and the line carries (-1)^j: the signs of a skirt cancel
        leak = -fundamental * sine / (np.pi * near * (1 - near * near))
        leak += np.conj(fundamental) * sine / (np.pi * far * (1 - far * far))
        line = _line(j - p)
        total += (bins[j] - leak) * sign * line
        weight += line * line
    return total / weight


@compiled
def _find_line(power: F4, total: float, last: int) -> tuple[int, float]:
    """Status, and the line frequency in bins: the strongest bin up to `last`, interpolated."""
    k = 1
    for j in range(2, min(last, power.shape[0] - 3) + 1):
        if power[j] > power[k]:
            k = j
    if k < MIN_CYCLES:
        # too few cycles to tell, unless something outside the range is what fills the window
        return (TOO_SHORT if power[1 : k + 3].sum() >= _MIN_SHARE * total else NO_FUNDAMENTAL), 0.0
    if power[k - 2 : k + 3].sum() < _MIN_SHARE * total or power[k + 1] > power[k]:
        return NO_FUNDAMENTAL, 0.0
    left, middle, right = np.sqrt(power[k - 1]), np.sqrt(power[k]), np.sqrt(power[k + 1])
    p = k + 2.0 * (right - left) / (left + 2 * middle + right)
    return (MEASURED if p >= MIN_CYCLES else TOO_SHORT), p


@compiled
def _harmonics(bins: C8, p: float, fundamental: complex, out: F8) -> None:
    """THD and harmonics in % of the fundamental into out (20,); those that the window cannot show stay NaN."""
    if p < MIN_CYCLES_HARMONICS:
        return
    squares = 0.0
    for order in range(2, _LAST_HARMONIC + 1):
        if np.round(order * p) + 2 > bins.shape[0] - 1:
            return
        share = abs(_harmonic(bins, order * p, fundamental, p)) / abs(fundamental)
        out[order - 1] = 100 * share
        squares += share * share
    out[0] = 100 * np.sqrt(squares)


@compiled
def _phase(bins: C8, p: float, unit: float, df: float, out: F8) -> None:
    fundamental = _phasor(bins, p)
    out[0] = df * p
    out[1] = unit * abs(fundamental)
    out[2] = np.degrees(np.arctan2(fundamental.imag, fundamental.real))
    _harmonics(bins, p, fundamental, out[3:])


@compiled
def _sequence(bins: C8, p: float, units: F8, out: F8) -> int:
    """Sequence components of the three phasors at p, into out (5,)."""
    a, b, c = units[0] * _phasor(bins[0], p), units[1] * _phasor(bins[1], p), units[2] * _phasor(bins[2], p)
    turn = complex(-0.5, np.sqrt(0.75))
    back = np.conj(turn)
    positive = abs(a + turn * b + back * c) / 3
    out[0], out[1], out[2] = positive, abs(a + back * b + turn * c) / 3, abs(a + b + c) / 3
    if positive < _MIN_POSITIVE * max(abs(a), abs(b), abs(c)):
        return NO_POSITIVE
    out[3], out[4] = 100 * out[1] / positive, 100 * out[2] / positive
    return MEASURED


@compiled
def _dot(x: F4, weights: F4, cosines: F4, sines: F4) -> tuple[Float4, Float4]:
    real = imaginary = np.float32(0)
    for i in range(x.shape[0]):
        value = x[i] * weights[i]
        real += value * cosines[i]
        imaginary += value * sines[i]
    return real, imaginary


@compiled
def _tone_at(x: F4, weights: F4, p: float, cosines: F4, sines: F4) -> float:
    """|sum(x·weights·exp(-2πi·p·n/W))|: one line of the transform, a block at a time, each turned into its place."""
    n = x.shape[0]
    step = -2 * np.pi * p / n
    for i in range(_LANES):
        cosines[i], sines[i] = np.cos(step * i), np.sin(step * i)
    total = 0j
    for start in range(0, n, _LANES):
        stop = min(start + _LANES, n)
        real, imaginary = _dot(x[start:stop], weights[start:stop], cosines[: stop - start], sines[: stop - start])
        total += complex(real, imaginary) * complex(np.cos(step * start), np.sin(step * start))
    return abs(total)


@compiled
def describe(
    bins: C8,
    power: F4,
    totals: F8,
    modulus: F4,
    weights: F4,
    status: I1,
    scales: F8,
    present: bool,
    last_line: int,
    df: float,
    gain: float,
    out: F8,
    machine: F8,
    found: I1,
) -> None:
    """Measure the tones of a chunk.

    In: bins (C, 3, K) complex64; power (C, 3, K) float32, totals (C, 3) its sum in
    A²; modulus (C, W) of Park's vector over its mean, less 1;
    weights (W,) the taper; status (C,), 0 where the window counts; scales (C, 3), A; present, whether all phases
    are; last_line, the highest bin of a line frequency; df, Hz between bins; gain, the amplitude that |X| = 1 means.
    Out: out (C, 3, 23) and machine (C, 6), NaN where undefined; found (C, 4): status of each phase, of sequences.
    """
    cosines, sines = np.empty(_LANES, np.float32), np.empty(_LANES, np.float32)
    places, units = np.empty(3), np.empty(3)
    out[:] = np.nan
    machine[:] = np.nan
    found[:] = NO_FUNDAMENTAL
    for slot in range(out.shape[0]):
        if status[slot] != 0:
            continue
        strongest = -1
        for phase in range(3):
            units[phase] = scales[slot, phase] * gain
            if scales[slot, phase] == 0:
                continue
            p = power[slot, phase]
            total = totals[slot, phase] / (scales[slot, phase] * scales[slot, phase])
            found[slot, phase], places[phase] = _find_line(p, total, last_line)
            if found[slot, phase] == MEASURED:
                _phase(bins[slot, phase], places[phase], units[phase], df, out[slot, phase])
                if strongest < 0 or out[slot, phase, 1] > out[slot, strongest, 1]:
                    strongest = phase
        if present and strongest >= 0:
            p = places[strongest]
            found[slot, 3] = _sequence(bins[slot], p, units, machine[slot])
            if np.round(2 * p) + 2 < bins.shape[2]:
                machine[slot, 5] = 100 * gain * _tone_at(modulus[slot], weights, 2 * p, cosines, sines)
