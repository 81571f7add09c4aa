"""Kernels in the time domain: gaps, level, distribution, Park's vector, and the windows made ready for the transform.

Not here: the spectrum, the table's columns, the reasons for NULL. Imported lazily, see `compiled`.

Numerics: the mean is summed in float64 and taken from the samples before anything else, and the centred window is
scaled to [-1, 1], so that float32 with an offset of 1000 and a deviation of 0.01 loses nothing, and any amplitude
passes. Sums over short blocks run in float32 (they vectorise), sums of blocks in float64.
"""

# ruff: noqa: PLR0917 - the compiler knows no keyword-only arguments

from typing import Final

import numpy as np

from signal_pipeline.dsp.arrays import F4, F8, I1, I4, I8, Bools, Float4
from signal_pipeline.dsp.compiled import compiled, compiled_in_order

NAMES: Final = (
    "rms", "mean", "std", "min", "max", "peak", "peak_to_peak", "crest", "form", "impulse", "shape", "skew", "kurt",
)  # fmt: skip
"""What `prepare` writes along the last axis of `levels`, in this order."""

Survey = tuple[float, float, float, float]

PARK_NAMES: Final = ("park_mean", "park_ripple_pct")

READY: Final = 0
EMPTY: Final = 1
GAP_TOO_LONG: Final = 2
TOO_MUCH_FILLED: Final = 3

_BLOCK: Final = 2048
_NO_FIELD: Final = 1e-5  # of the largest current: what rounding leaves of three equal phases
_TINY: Final = 1e-30  # A; below it float32 has no reciprocal, and no ammeter a digit


@compiled
def _sum(x: F4) -> float:
    """In float64: an offset of 1000 must not eat a deviation of 0.01."""
    total = 0.0
    for i in range(x.shape[0]):
        total += x[i]
    return total


@compiled
def _magnitudes(x: F4) -> Float4:
    total = np.float32(0)
    for i in range(x.shape[0]):
        total += abs(x[i])
    return total


@compiled
def _range(bits: I4) -> tuple[Float4, Float4]:
    """Smallest and largest of the float32 samples whose bits these are.

    With the bits below the sign turned over in negative numbers, integers order as the samples do, and integers
    vectorise, while a comparison of floats has to think of NaN: ten times faster.
    """
    low = high = np.int32(bits[0] ^ ((bits[0] >> 31) & 0x7FFFFFFF))
    for i in range(bits.shape[0]):
        key = np.int32(bits[i] ^ ((bits[i] >> 31) & 0x7FFFFFFF))
        low = min(low, key)
        high = max(high, key)
    low = np.int32(low ^ ((low >> 31) & 0x7FFFFFFF))
    high = np.int32(high ^ ((high >> 31) & 0x7FFFFFFF))
    return low.view(np.float32), high.view(np.float32)


@compiled
def _survey(x: F4) -> tuple[float, float, float, float]:
    """Mean of x and of |x|, smallest and largest; all of it worthless if the mean is NaN."""
    total = magnitude = 0.0
    low, high = x[0], x[0]
    for start in range(0, x.shape[0], _BLOCK):
        part = x[start : start + _BLOCK]
        total += _sum(part)
        magnitude += float(_magnitudes(part))
        least, most = _range(part.view(np.int32))
        low, high = min(low, least), max(high, most)
    return total / x.shape[0], magnitude / x.shape[0], low, high


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


@compiled_in_order
def _centre(x: F4, z: F4, pivot: Float4, rest: Float4, factor: Float4) -> None:
    """z = (x - pivot - rest) · factor in float32. Near the pivot the first step is exact: so the order counts."""
    for i in range(x.shape[0]):
        z[i] = ((x[i] - pivot) - rest) * factor


@compiled
def _block_moments(z: F4) -> tuple[Float4, Float4, Float4, Float4]:
    one = two = three = four = np.float32(0)
    for i in range(z.shape[0]):
        a = z[i]
        square = a * a
        one += abs(a)
        two += square
        three += square * a
        four += square * square
    return one, two, three, four


@compiled
def _centre_all(x: F4, mean: float, factor: float, z: F4) -> tuple[float, float, float, float]:
    """z = (x - mean)·factor; returns the means of |z|, z², z³ and z⁴. A block at a time stays in the cache."""
    pivot = np.float32(mean)
    rest, by = np.float32(mean - pivot), np.float32(factor)
    one = two = three = four = 0.0
    for start in range(0, x.shape[0], _BLOCK):
        part = z[start : start + _BLOCK]
        _centre(x[start : start + _BLOCK], part, pivot, rest, by)
        a, b, c, d = _block_moments(part)
        one += float(a)
        two += float(b)
        three += float(c)
        four += float(d)
    n = z.shape[0]
    return one / n, two / n, three / n, four / n


@compiled
def _describe(x: F4, survey: Survey, z: F4, levels: F8) -> float:
    """Fill `levels` (13,) and `z` (W,) from the window `x`; returns the scale of z, 0 if x is constant."""
    mean, magnitude, low, high = survey
    scale = max(high - mean, mean - low)
    peak = max(abs(low), abs(high))
    shape = skew = kurt = np.nan
    if high == low or scale < _TINY:
        z[:] = 0
        mean, std, scale = float(low), 0.0, 0.0
    else:
        one, two, three, four = _centre_all(x, mean, 1 / scale, z)
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
def _modulus(a: F4, b: F4, c: F4, ka: Float4, kb: Float4, kc: Float4, out: F4) -> None:
    """Modulus of Park's vector of three phases, each times its factor."""
    two_thirds, one_sixth, half = np.float32(np.sqrt(2 / 3)), np.float32(np.sqrt(1 / 6)), np.float32(np.sqrt(1 / 2))
    for i in range(out.shape[0]):
        ia, ib, ic = a[i] * ka, b[i] * kb, c[i] * kc
        d = two_thirds * ia - one_sixth * (ib + ic)
        q = half * (ib - ic)
        out[i] = np.sqrt(d * d + q * q)


@compiled
def _squares(x: F4, pivot: Float4) -> Float4:
    total = np.float32(0)
    for i in range(x.shape[0]):
        total += (x[i] - pivot) * (x[i] - pivot)
    return total


@compiled
def _park(z: F4, scales: F8, modulus: F4, park: F8) -> float:
    """Fill `park` (mean A, ripple %) and `modulus` (W,), in units of the largest scale; returns its mean or 0."""
    largest = max(scales[0], scales[1], scales[2])
    if largest == 0:
        return 0.0
    ka, kb, kc = np.float32(scales[0] / largest), np.float32(scales[1] / largest), np.float32(scales[2] / largest)
    mean = square = 0.0
    for start in range(0, modulus.shape[0], _BLOCK):
        stop = start + _BLOCK
        _modulus(z[0, start:stop], z[1, start:stop], z[2, start:stop], ka, kb, kc, modulus[start:stop])
        mean += _sum(modulus[start:stop])
    mean /= modulus.shape[0]
    for start in range(0, modulus.shape[0], _BLOCK):
        square += float(_squares(modulus[start : start + _BLOCK], np.float32(mean)))
    park[0] = largest * mean
    if mean < _NO_FIELD:
        return 0.0
    park[1] = 100 * np.sqrt(square / modulus.shape[0]) / mean
    return float(mean)


@compiled
def _prepare_phase(x: F4, z: F4, levels: F8, gaps: I8) -> tuple[int, float]:
    """One phase of one window; `gaps` holds the longest run that is filled and the most samples that may be."""
    survey = _survey(x)
    if not np.isnan(survey[0]):
        return READY, _describe(x, survey, z, levels)
    longest, filled = _fill_gaps(x, z, gaps[0])
    if longest > gaps[0]:
        return GAP_TOO_LONG, 0.0
    if filled > gaps[1]:
        return TOO_MUCH_FILLED, 0.0
    return READY, _describe(z, _survey(z), z, levels)


@compiled
def prepare(
    phases: F4,
    present: Bools,
    starts: I8,
    gaps: I8,
    centred: F4,
    modulus: F4,
    modulus_means: F8,
    levels: F8,
    scales: F8,
    park: F8,
    status: I1,
) -> None:
    """Make a chunk of windows ready for the transform, and describe them in the time domain.

    In: phases (3, n) float32 read-only; present (3,); starts (C,) columns of `phases`, or -1 for an empty place; gaps
    (2,). Out: centred (C, 3, W) float32, without mean and scaled to [-1, 1], 0 where there is nothing; modulus (C, W)
    float32 of Park's vector and its means (C,), 0 where there is none; levels (C, 3, 13 or more), scales (C, 3) A,
    0 where there is no spectrum, and park (C, 2 or more) float64, NaN where undefined; status (C,).
    """
    n = modulus.shape[1]
    park[:] = np.nan
    for slot in range(starts.shape[0]):
        start = starts[slot]
        status[slot] = EMPTY if start < 0 else READY
        scales[slot] = 0
        levels[slot] = np.nan
        modulus_means[slot] = 0
        for phase in range(3):
            state, scale = EMPTY, 0.0
            if present[phase] and start >= 0:
                x = phases[phase, start : start + n]
                state, scale = _prepare_phase(x, centred[slot, phase], levels[slot, phase], gaps)
                status[slot] = max(status[slot], state)
            if state != READY:
                centred[slot, phase] = 0
            scales[slot, phase] = scale
        if status[slot] != READY:
            scales[slot] = 0
        elif present[0] and present[1] and present[2]:
            modulus_means[slot] = _park(centred[slot], scales[slot], modulus[slot], park[slot])
