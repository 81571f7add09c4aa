"""Kernels for the tones of a phase: line frequency, fundamental, harmonics, distortion.

Not here: the power spectrum's shape (`spectrum`) and free peaks (`peaks`), how steady a tone is (`steadiness`), what
needs all three phases (`machine`), the reasons for NULL, the table's columns. Imported lazily, see `compiled`.

A tone A·cos(2πp(n - W/2)/W + φ), p its frequency in bins, gives under the periodic Hann window, times 2,
X[k] = A·W/2·exp(iφ)·(-1)^k·h(k - p) + its mirror image, with h(d) = sin(πd) / (πd(1 - d²)), exact to the fourth
order of 1/W. Everything here inverts this line: no table of corrections, no raw peak. The window is applied to the
plain transform, bin by bin where one is read: X[k] - (X[k-1] + X[k+1])/2.
"""

# ruff: noqa: PLR0917 - the compiler knows no keyword-only arguments

from typing import Final

import numpy as np

from signal_pipeline.dsp.arrays import F4, F8, I1
from signal_pipeline.dsp.compiled import compiled

NAMES: Final = (
    "line_freq_hz", "fundamental_amplitude", "fundamental_phase_deg", "thd_pct",
    *(f"harmonic_{order}_pct" for order in range(2, 21)),
)  # fmt: skip
"""What `describe` writes along the last axis of `out`, in this order."""

MEASURED: Final = 0
NO_FUNDAMENTAL: Final = 1
TOO_SHORT: Final = 2

MIN_CYCLES: Final = 4.0  # of the line in a window: nearer to 0 Hz the tone's mirror image bends it
MIN_CYCLES_HARMONICS: Final = 10.0  # the 200 ms at 50 Hz that IEC 61000-4-7 asks for
_LAST_HARMONIC: Final = 20
_MIN_SHARE: Final = 0.25  # of all power, in the line's main lobe; a THD of 170 % leaves as much


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
def _strongest(squares: F8, first: int) -> int:
    """The strongest bin from `first` on, two short of the end; 0 if there is none."""
    k = 0
    for j in range(first, squares.shape[0] - 2):
        if k == 0 or squares[j] > squares[k]:
            k = j
    return k


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
    k, slow = _strongest(squares, 1), False
    if k < MIN_CYCLES:
        # a line with too few cycles, or a drift, beside which a line with many cycles is measured as if it were alone;
        # neither, and something above the range is what fills the window
        slow = _total(squares, 1, k + 3) >= _MIN_SHARE * total
        k = _strongest(squares, int(MIN_CYCLES_HARMONICS))
    summit = k > 0 and squares[k] >= max(squares[k - 1], squares[k + 1])
    if not summit or _total(squares, k - 2, k + 3) < _MIN_SHARE * total:
        return (TOO_SHORT if slow else NO_FUNDAMENTAL), 0.0
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
