"""Kernels that measure the strongest peaks of a spectrum, the skirts of stronger ones taken out.

Not here: where a peak may be (`spectrum` names the bins), the line frequency and its harmonics (`tones`), the table's
columns. Imported lazily, see `compiled`. The arithmetic is that of `tones`: under a periodic Hann window, times 2, a
tone H = A·W/2·exp(iφ) at p bins gives bin k the value (-1)^k·H·h(k - p), and its mirror image the same about -p.
"""

# ruff: noqa: PLR0917 - the compiler knows no keyword-only arguments

from typing import Final

import numpy as np

from signal_pipeline.dsp.arrays import F4, F8, I8
from signal_pipeline.dsp.compiled import compiled

NAMES: Final = (
    "peak_1_freq_hz", "peak_1_amplitude", "peak_2_freq_hz", "peak_2_amplitude", "peak_3_freq_hz", "peak_3_amplitude"
)  # fmt: skip
"""What `measure` writes along the last axis of `out`, in this order."""

N_CANDIDATES: Final = 6
"""Local maxima that are looked at for three peaks: some turn out to be a stronger one's skirt."""

_N_PEAKS: Final = 3
_NEAREST: Final = 3.25  # bins from a stronger peak: nearer, and their main lobes are one
_OF_SKIRT: Final = 0.1  # what is left of a bin without the skirts in it, or it was nothing but skirt


@compiled
def _bin(packed: F4, k: int) -> complex:
    """Bin k under the Hann window, times 2, as in `tones`."""
    real = packed[2 * k - 1] - np.float64(packed[2 * k - 3] + packed[2 * k + 1]) / 2
    imaginary = packed[2 * k] - np.float64(packed[2 * k - 2] + packed[2 * k + 2]) / 2
    return complex(real, imaginary)


@compiled
def _line(d: float) -> float:
    """h(d), what a tone gives to a bin at distance d."""
    if abs(d) < 1e-6:
        return 1.0
    if abs(abs(d) - 1) < 1e-6:
        return 0.5
    return float(np.sin(np.pi * d) / (np.pi * d * (1 - d * d)))


@compiled
def _skirts(j: int, places: F8, heights: F8, count: int) -> complex:
    """What the first `count` tones and their mirror images give to the distant bin j.

    heights (…, 2), a tone's real and imaginary part, times sin(πp)/π: as in `tones`, the signs of a skirt do not
    alternate.
    """
    total = 0j
    for i in range(count):
        near, far = j - places[i], j + places[i]
        one, other = 1 / (near * (1 - near * near)), 1 / (far * (1 - far * far))
        total += complex(heights[i, 0] * (other - one), -heights[i, 1] * (other + one))
    return total


@compiled
def _near_one(p: float, places: F8, count: int) -> bool:
    nearest = np.inf
    for i in range(count):
        nearest = min(nearest, abs(p - places[i]))
    return bool(nearest < _NEAREST)


@compiled
def _measure(packed: F4, k: int, places: F8, heights: F8, sizes: F8, count: int) -> bool:
    """Measure the peak near bin k without the skirts of the first `count`, as number `count`; whether it is one."""
    if _near_one(k, places, count):
        return False
    left = _bin(packed, k - 1) - _skirts(k - 1, places, heights, count)
    middle = _bin(packed, k) - _skirts(k, places, heights, count)
    right = _bin(packed, k + 1) - _skirts(k + 1, places, heights, count)
    if abs(left) > abs(middle) and abs(left) >= abs(right):  # the skirts had moved the summit
        k -= 1
        left, middle, right = _bin(packed, k - 1) - _skirts(k - 1, places, heights, count), left, middle
    elif abs(right) > abs(middle):
        k += 1
        left, middle, right = middle, right, _bin(packed, k + 1) - _skirts(k + 1, places, heights, count)
    low, top, high = abs(left), abs(middle), abs(right)
    if max(low, high) > top or top < _OF_SKIRT * abs(_skirts(k, places, heights, count)):
        return False
    delta = 2.0 * (high - low) / (low + 2 * top + high)
    p = k + delta
    if _near_one(p, places, count):
        return False
    height = middle / _line(delta)
    sine = np.sin(np.pi * delta) / np.pi  # (-1)^k·sin(πp)/π
    places[count], sizes[count] = p, abs(height)
    heights[count, 0], heights[count, 1] = height.real * sine, height.imag * sine
    return True


@compiled
def measure(packed: F4, scales: F8, candidates: I8, df: float, out: F8) -> None:
    """Measure the peaks of some phases of some windows.

    In: packed (rows, W) and scales (rows,) as `spectrum.describe` has them; candidates (rows, …), bins by falling
    power, -1 for none; df, Hz between bins. Out: out (rows, 6), NaN where undefined.
    """
    places, heights, sizes = np.empty(_N_PEAKS), np.empty((_N_PEAKS, 2)), np.empty(_N_PEAKS)
    out[:] = np.nan
    for row in range(scales.shape[0]):
        if scales[row] == 0:
            continue
        count = 0
        for k in candidates[row]:
            if k >= 0 and count < _N_PEAKS and _measure(packed[row], k, places, heights, sizes, count):
                count += 1
        for rank in range(count):
            i = int(sizes[:count].argmax())  # the skirts may have hidden which one is stronger
            out[row, 2 * rank] = df * places[i]
            out[row, 2 * rank + 1] = 2 * scales[row] / packed.shape[1] * sizes[i]
            sizes[i] = -1
