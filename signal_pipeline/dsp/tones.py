"""Kernels for the tones of a motor current: line frequency, fundamental, harmonics, sequences, Park's vector at 2f.

Not here: the power spectrum's shape and free peaks (`spectrum`), the reasons for NULL, the table's columns.
Imported lazily, see `compiled`.

A tone A·cos(2πp(n - W/2)/W + φ), p its frequency in bins, gives under the periodic Hann window, times 2,
X[k] = A·W/2·exp(iφ)·(-1)^k·h(k - p) + its mirror image, with h(d) = sin(πd) / (πd(1 - d²)), exact to the fourth
order of 1/W. Everything here inverts this line: no table of corrections, no raw peak. The window is applied to the
plain transform, bin by bin where one is read: X[k] - (X[k-1] + X[k+1])/2.
"""

# ruff: noqa: PLR0917 - the compiler knows no keyword-only arguments

from typing import Final

import numpy as np

from signal_pipeline.dsp.arrays import F4, F8, I1, Float4
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
def _bin(packed: F4, k: int) -> complex:
    """Bin k under the Hann window, times 2; it and its neighbours must be there in full, and none be the mean's."""
    real = packed[2 * k - 1] - np.float64(packed[2 * k - 3] + packed[2 * k + 1]) / 2
    imaginary = packed[2 * k] - np.float64(packed[2 * k - 2] + packed[2 * k + 2]) / 2
    return complex(real, imaginary)


@compiled
def _lines(delta: float) -> tuple[float, float, float]:
    """(-1)^j·h(j - delta) for j = -1, 0, 1, and |delta| at most 1/2: what a tone gives to the bins around it."""
    if abs(delta) < 1e-6:
        return -0.5, 1.0, -0.5
    sine = np.sin(np.pi * delta) / np.pi
    left, right = 1 + delta, 1 - delta
    return (
        sine / (left * (1 - left * left)),
        sine / (delta * (1 - delta * delta)),
        sine / (-right * (1 - right * right)),
    )


@compiled
def _fit(packed: F4, k: int, delta: float, leaks: tuple[complex, complex, complex]) -> complex:
    """Least squares over bins k-1, k, k+1 of the tone at k + delta, `leaks` of other tones taken out first."""
    a, b, c = _lines(delta)
    total = (
        a * (_bin(packed, k - 1) - leaks[0]) + b * (_bin(packed, k) - leaks[1]) + c * (_bin(packed, k + 1) - leaks[2])
    )
    total /= a * a + b * b + c * c
    return total if k % 2 == 0 else -total


@compiled
def _phasor(packed: F4, p: float) -> complex:
    """The tone at p bins: exp(iφ)·A·W/2."""
    k = int(np.round(p))
    return _fit(packed, k, p - k, (0j, 0j, 0j))


@compiled
def _leak(scaled: complex, p: float, j: int) -> complex:
    """What a tone at p, and its mirror image at -p, give to the distant bin j; `scaled` is the tone · sin(πp)/π."""
    near, far = j - p, j + p
    # sin(π(j - p)) = -(-1)^j·sin(πp), and a bin carries (-1)^j as well: the signs of a skirt do not alternate
    return scaled.conjugate() / (far * (1 - far * far)) - scaled / (near * (1 - near * near))


@compiled
def _harmonic(packed: F4, p: float, scaled: complex, p1: float) -> complex:
    """As `_phasor`, after the leakage of the fundamental at p1 (`scaled` as in `_leak`) is taken out."""
    k = int(np.round(p))
    leaks = (_leak(scaled, p1, k - 1), _leak(scaled, p1, k), _leak(scaled, p1, k + 1))
    return _fit(packed, k, p - k, leaks)


@compiled
def _total(squares: F8, low: int, high: int) -> float:
    total = 0.0
    for k in range(low, high):
        total += squares[k]
    return total


@compiled
def _find_line(packed: F4, total: float, squares: F8) -> tuple[int, float]:
    """Status, and the line frequency in bins: the strongest of the bins that `squares` has room for, interpolated.

    `total` is the sum of |X[k]|² over all bins; `squares` (last line + 3,) is scratch for those of the lowest.
    """
    squares[0] = 0
    first = complex(packed[1] - packed[3] / 2, packed[2] - packed[4] / 2)  # beside the mean's bin, which is empty
    squares[1] = first.real * first.real + first.imag * first.imag
    for j in range(2, squares.shape[0]):
        value = _bin(packed, j)
        squares[j] = value.real * value.real + value.imag * value.imag
    k = 1
    for j in range(2, squares.shape[0] - 2):
        if squares[j] > squares[k]:
            k = j
    if k < MIN_CYCLES:
        # too few cycles to tell, unless something above the range is what fills the window
        return (TOO_SHORT if _total(squares, 1, k + 3) >= _MIN_SHARE * total else NO_FUNDAMENTAL), 0.0
    if _total(squares, k - 2, k + 3) < _MIN_SHARE * total or squares[k + 1] > squares[k]:
        return NO_FUNDAMENTAL, 0.0
    left, middle, right = np.sqrt(squares[k - 1]), np.sqrt(squares[k]), np.sqrt(squares[k + 1])
    p = k + 2.0 * (right - left) / (left + 2 * middle + right)
    return (MEASURED if p >= MIN_CYCLES else TOO_SHORT), p


@compiled
def _harmonics(packed: F4, p: float, fundamental: complex, out: F8) -> None:
    """THD and harmonics in % of the fundamental into out (20,); those that the window cannot show stay NaN."""
    if p < MIN_CYCLES_HARMONICS:
        return
    squares = 0.0
    scaled = fundamental * (np.sin(np.pi * p) / np.pi)
    for order in range(2, _LAST_HARMONIC + 1):
        if 2 * (np.round(order * p) + 2) >= packed.shape[0]:
            return
        share = abs(_harmonic(packed, order * p, scaled, p)) / abs(fundamental)
        out[order - 1] = 100 * share
        squares += share * share
    out[0] = 100 * np.sqrt(squares)


@compiled
def _phase(packed: F4, p: float, unit: float, df: float, out: F8) -> None:
    fundamental = _phasor(packed, p)
    out[0] = df * p
    out[1] = unit * abs(fundamental)
    out[2] = np.degrees(np.arctan2(fundamental.imag, fundamental.real))
    _harmonics(packed, p, fundamental, out[3:])


@compiled
def _sequence(packed: F4, p: float, scales: F8, unit: float, out: F8) -> int:
    """Sequence components of the three phasors at p, into out (5,). A bin of 1 is scale·unit A."""
    a = scales[0] * unit * _phasor(packed[0], p)
    b = scales[1] * unit * _phasor(packed[1], p)
    c = scales[2] * unit * _phasor(packed[2], p)
    turn = complex(-0.5, np.sqrt(0.75))
    back = np.conj(turn)
    positive = abs(a + turn * b + back * c) / 3
    out[0], out[1], out[2] = positive, abs(a + back * b + turn * c) / 3, abs(a + b + c) / 3
    if positive < _MIN_POSITIVE * max(abs(a), abs(b), abs(c)):
        return NO_POSITIVE
    out[3], out[4] = 100 * out[1] / positive, 100 * out[2] / positive
    return MEASURED


@compiled
def _dot(x: F4, mean: Float4, weights: F4, cosines: F4, sines: F4) -> tuple[Float4, Float4]:
    real = imaginary = np.float32(0)
    for i in range(x.shape[0]):
        value = (x[i] - mean) * weights[i]
        real += value * cosines[i]
        imaginary += value * sines[i]
    return real, imaginary


@compiled
def _amplitude_at(x: F4, mean: float, weights: F4, p: float, table: F4) -> float:
    """Amplitude of the tone at p bins in x - mean: one line of the transform, block by block, each turned into place.

    `weights` (W,) is the Hann window, `table` (2, lanes) scratch for a block's cosines and sines.
    """
    n, lanes = x.shape[0], table.shape[1]
    step = np.exp(-2j * np.pi * p / n)
    turn = 1 + 0j
    for i in range(lanes):
        table[0, i], table[1, i] = turn.real, turn.imag
        turn *= step
    stride, place, total = turn, 1 + 0j, 0j
    for start in range(0, n, lanes):
        stop = min(start + lanes, n)
        cosines, sines = table[0, : stop - start], table[1, : stop - start]
        real, imaginary = _dot(x[start:stop], np.float32(mean), weights[start:stop], cosines, sines)
        total += complex(real, imaginary) * place
        place *= stride
    return float(4 * abs(total) / n)


@compiled
def describe(packed: F4, totals: F8, scales: F8, df: float, low: F4, places: F8, out: F8, found: I1) -> None:
    """Measure the tones of some phases of some windows.

    In: packed (rows, W) float32, the plain transforms: X[0], then real and imaginary part of each bin; totals (rows,),
    the power under the Hann window in A²; scales (rows,), A, 0 where there is no spectrum; df, Hz between bins. Out:
    low (rows, …), the lowest bins, for `combine`; places (rows,), line frequency in bins; out (rows, 23), NaN where
    undefined; found (rows,), status.
    """
    n = packed.shape[1]
    squares = np.empty((low.shape[1] - 1) // 2)
    out[:] = np.nan
    found[:] = NO_FUNDAMENTAL
    for row in range(scales.shape[0]):
        scale = scales[row]
        for k in range(low.shape[1]):
            low[row, k] = packed[row, k]
        if scale == 0:
            continue
        total = totals[row] / (scale * scale) * (0.75 * n * n)
        found[row], places[row] = _find_line(packed[row], total, squares)
        if found[row] == MEASURED:
            _phase(packed[row], places[row], 2 * scale / n, df, out[row])


@compiled
def combine(
    low: F4, places: F8, amplitudes: F8, scales: F8, modulus: F4, modulus_means: F8, weights: F4, out: F8, found: I1
) -> None:
    """What needs all three phases of a window, at the line frequency of the strongest.

    In: low (C, 3, …) and places (C, 3) of `describe`; amplitudes (C, 3) of the fundamentals, NaN for none;
    scales (C, 3), A; modulus (C, W) of Park's vector and its means (C,), 0 where there is none; weights (W,) the Hann
    window. Out: out (C, 6), NaN where undefined; found (C,), status.
    """
    n = weights.shape[0]
    table = np.empty((2, _LANES), np.float32)
    out[:] = np.nan
    found[:] = NO_FUNDAMENTAL
    for slot in range(out.shape[0]):
        strongest = -1
        for phase in range(3):
            if amplitudes[slot, phase] > (amplitudes[slot, strongest] if strongest >= 0 else 0.0):
                strongest = phase
        if strongest < 0:
            continue
        p, mean = places[slot, strongest], modulus_means[slot]
        found[slot] = _sequence(low[slot], p, scales[slot], 2 / n, out[slot])
        if mean > 0 and np.round(2 * p) + 2 <= n // 2:
            out[slot, 5] = 100 * _amplitude_at(modulus[slot], mean, weights, 2 * p, table) / mean
