"""Kernels in the time domain: gaps, level, distribution, Park's vector, and the windows made ready for the FFT.

Not here: the spectrum, the table's columns, the reasons for NULL. Imported lazily, see `compiled`.

Numerics: the mean is summed in float64 and taken from the samples before anything else, and the centred window is
scaled to [-1, 1], so that float32 with an offset of 1000 and a deviation of 0.01 loses nothing, and any amplitude
passes. Sums over short blocks run in float32 (they vectorise), sums of blocks in float64.
"""

# ruff: noqa: PLR0917 - the compiler knows no keyword-only arguments

from typing import Final

import numpy as np

from signal_pipeline.dsp.arrays import F4, F8, I1, I8, Bools, Float4
from signal_pipeline.dsp.compiled import compiled

NAMES: Final = (
    "rms", "mean", "std", "min", "max", "peak", "peak_to_peak", "crest", "form", "impulse", "shape", "skew", "kurt",
)  # fmt: skip
"""What `prepare` writes along the last axis of `levels`, in this order."""

PARK_NAMES: Final = ("park_mean", "park_ripple_pct")

READY: Final = 0
EMPTY: Final = 1
GAP_TOO_LONG: Final = 2
TOO_MUCH_FILLED: Final = 3

_BLOCK: Final = 512
_TINY: Final = 1e-30  # A; below it float32 has no reciprocal, and no ammeter a digit


@compiled
def _sum(x: F4) -> float:
    total = 0.0
    for value in x:
        total += value
    return total


@compiled
def _sum_of_magnitudes(x: F4) -> float:
    total = 0.0
    for value in x:
        total += abs(value)
    return total


@compiled
def _range(x: F4) -> tuple[float, float]:
    low = high = x[0]
    for value in x:
        low = value if value < low else low
        high = value if value > high else high
    return low, high


@compiled
def _fill_gaps(x: F4, out: F4, max_gap: int) -> tuple[int, int]:
    """Copy `x` to `out`, runs of NaN up to `max_gap` samples interpolated. Returns longest run and samples filled."""
    n = x.shape[0]
    longest = filled = 0
    last = -1  # the last sample that is there
    for i in range(n + 1):
        if i < n and np.isnan(x[i]):
            continue
        run = i - last - 1
        longest = max(longest, run)
        if 0 < run <= max_gap:
            filled += run
            left = x[last] if last >= 0 else (x[i] if i < n else np.float32(0))
            right = x[i] if i < n else left
            for j in range(last + 1, i):
                out[j] = left + (right - left) * np.float32((j - last) / (run + 1))
        if i < n:
            out[i] = x[i]
        last = i
    return longest, filled


@compiled
def _centre(x: F4, z: F4, pivot: Float4, rest: Float4, factor: Float4) -> None:
    """z = (x - pivot - rest) · factor, all float32: the pivot is near every sample, so the first step is exact."""
    for i in range(x.shape[0]):
        z[i] = ((x[i] - pivot) - rest) * factor


@compiled
def _block_moments(z: F4) -> tuple[Float4, Float4, Float4, Float4]:
    one = two = three = four = np.float32(0)
    for a in z:
        square = a * a
        one += abs(a)
        two += square
        three += square * a
        four += square * square
    return one, two, three, four


@compiled
def _moments(z: F4) -> tuple[float, float, float, float]:
    """Means of |z|, z², z³ and z⁴."""
    one = two = three = four = 0.0
    for start in range(0, z.shape[0], _BLOCK):
        a, b, c, d = _block_moments(z[start : start + _BLOCK])
        one += float(a)
        two += float(b)
        three += float(c)
        four += float(d)
    n = z.shape[0]
    return one / n, two / n, three / n, four / n


@compiled
def _taper(z: F4, weights: F4, out: F4) -> None:
    for i in range(z.shape[0]):
        out[i] = z[i] * weights[i]


@compiled
def _describe(x: F4, z: F4, weights: F4, tapered: F4, levels: F8) -> float:
    """Fill `levels` (13,), `z` and `tapered` (W,) from the window `x`; returns the scale of z, 0 if x is constant."""
    n = x.shape[0]
    low, high = _range(x)
    mean = _sum(x) / n
    scale = max(high - mean, mean - low)
    levels[:] = np.nan
    magnitude = _sum_of_magnitudes(x) / n
    peak = max(abs(low), abs(high))
    shape = skew = kurt = np.nan
    if high == low or scale < _TINY:
        z[:] = 0
        tapered[:] = 0
        mean, std, scale = float(low), 0.0, 0.0
    else:
        pivot = np.float32(mean)
        _centre(x, z, pivot, np.float32(mean - pivot), np.float32(1 / scale))
        _taper(z, weights, tapered)
        one, two, three, four = _moments(z)
        root = np.sqrt(two)
        std = scale * root
        shape, skew, kurt = root / one, three / (two * root), four / (two * two) - 3
    rms = np.sqrt(mean * mean + std * std)
    levels[0], levels[1], levels[2], levels[3], levels[4] = rms, mean, std, low, high
    levels[5], levels[6] = peak, float(high) - float(low)
    if peak > 0:
        levels[7], levels[8], levels[9] = peak / rms, rms / magnitude, peak / magnitude
    levels[10], levels[11], levels[12] = shape, skew, kurt
    return float(scale)


@compiled
def _modulus(z: F4, k: F4, out: F4) -> None:
    """Modulus of Park's vector of the phases z (3, W), each times its k."""
    a, b, c = z[0], z[1], z[2]
    two_thirds, one_sixth, half = np.float32(np.sqrt(2 / 3)), np.float32(np.sqrt(1 / 6)), np.float32(np.sqrt(1 / 2))
    ka, kb, kc = k[0], k[1], k[2]
    for i in range(out.shape[0]):
        ia, ib, ic = a[i] * ka, b[i] * kb, c[i] * kc
        d = two_thirds * ia - one_sixth * (ib + ic)
        q = half * (ib - ic)
        out[i] = np.sqrt(d * d + q * q)


@compiled
def _park(z: F4, scales: F8, modulus: F4, park: F8) -> None:
    """Fill `park` (mean A, ripple %) and `modulus` (W,), the latter without its mean and relative to it."""
    largest = scales.max()
    if largest == 0:
        return
    _modulus(z, (scales / largest).astype(np.float32), modulus)
    mean = _sum(modulus) / modulus.shape[0]
    pivot = np.float32(mean)
    _centre(modulus, modulus, pivot, np.float32(mean - pivot), np.float32(1 / mean))
    park[0] = largest * mean
    park[1] = 100 * np.sqrt(_moments(modulus)[1])


@compiled
def _prepare_phase(x: F4, z: F4, weights: F4, tapered: F4, levels: F8, gaps: I8) -> tuple[int, float]:
    """One phase of one window; `gaps` holds the longest run that is filled and the most samples that may be."""
    if not np.isnan(_sum(x)):
        return READY, _describe(x, z, weights, tapered, levels)
    longest, filled = _fill_gaps(x, z, gaps[0])
    if longest > gaps[0]:
        return GAP_TOO_LONG, 0.0
    if filled > gaps[1]:
        return TOO_MUCH_FILLED, 0.0
    return READY, _describe(z, z, weights, tapered, levels)


@compiled
def prepare(
    phases: F4,
    present: Bools,
    starts: I8,
    gaps: I8,
    weights: F4,
    z: F4,
    tapered: F4,
    modulus: F4,
    levels: F8,
    scales: F8,
    park: F8,
    status: I1,
) -> None:
    """Make a chunk of windows ready for the FFT, and describe them in the time domain.

    In: phases (3, n) float32 read-only, present (3,), starts (C,) columns of `phases` or -1 for an empty slot, gaps
    (2,), weights (W,) the taper. Scratch: z (3, W). Out: tapered (C, 3, W) and modulus (C, W) float32; levels
    (C, 3, 13), scales (C, 3) and park (C, 2) float64, NaN where undefined; status (C,).
    """
    n = weights.shape[0]
    park[:] = np.nan
    for slot in range(starts.shape[0]):
        start = starts[slot]
        status[slot] = EMPTY if start < 0 else READY
        scales[slot] = 0
        levels[slot] = np.nan
        for phase in range(3):
            state, scale = EMPTY, 0.0
            if present[phase] and start >= 0:
                x = phases[phase, start : start + n]
                state, scale = _prepare_phase(x, z[phase], weights, tapered[slot, phase], levels[slot, phase], gaps)
                status[slot] = max(status[slot], state)
            if state != READY:
                tapered[slot, phase] = 0
            scales[slot, phase] = scale
        if status[slot] == READY and present.all():
            _park(z, scales[slot], modulus[slot], park[slot])
