"""Kernels over the power spectrum: its moments, entropy, flatness, rolloff, bands, and where its peaks may be.

Not here: the transform (scipy's), what a peak measures (`peaks`), the line frequency and its harmonics (`tones`), the
table's columns. Imported lazily, see `compiled`. Power is float32, a block of it is summed in float32, blocks are
summed in float64.
"""

# ruff: noqa: PLR0917 - the compiler knows no keyword-only arguments

from typing import Final

import numpy as np

from signal_pipeline.dsp.arrays import F4, F8, I4, I8, Float4
from signal_pipeline.dsp.compiled import compiled

NAMES: Final = (
    "dominant_freq_hz", "spectral_centroid_hz", "spectral_bandwidth_hz", "spectral_rolloff_hz", "spectral_entropy",
    "spectral_flatness", "total_power", "band_power_1", "band_power_2", "band_power_3", "band_power_4", "band_power_5",
)  # fmt: skip
"""What `describe` writes along the last axis of `out`, in this order."""

_N_SHAPE: Final = 7
_N_BANDS: Final = 5
_BLOCK: Final = 512
_ROLLOFF: Final = 0.85
_PEAK_FLOOR: Final = 1e-8  # 80 dB below the strongest: the float32 transform's own noise stays below
_PEAK_MARGIN: Final = 4  # bins from either end of the spectrum: nearer, and its own mirror image bends a peak
_SMALLEST: Final = 0x0DA24260  # 1e-30 as the bits of a float32: the logarithm of an empty bin


@compiled
def _inner_power(packed: F4, factor: Float4, power: F4) -> None:
    """factor·|X[k] - (X[k-1] + X[k+1])/2|²: the Hann window, applied where it is a sum of three.

    `packed` begins one bin before `power` and ends one after. Indices count from 0: the compiler knows that they are
    not negative, and vectorises.
    """
    half = np.float32(0.5)
    for k in range(power.shape[0]):
        real = packed[2 * k + 2] - half * (packed[2 * k] + packed[2 * k + 4])
        imaginary = packed[2 * k + 3] - half * (packed[2 * k + 1] + packed[2 * k + 5])
        power[k] = (real * real + imaginary * imaginary) * factor


@compiled
def _bin(packed: F4, k: int) -> complex:
    """X[k] of any k, negative and beyond the last bin too. The mean is none of it."""
    n = packed.shape[0]
    place = min(k % n, n - k % n)
    if place == 0:
        return 0j
    value = complex(packed[2 * place - 1], packed[2 * place] if 2 * place < n else np.float32(0))
    return value if place == k % n else value.conjugate()


@compiled
def _edge_power(packed: F4, factor: float, k: int) -> float:
    """As `_inner_power`, for a bin with a neighbour at either end."""
    value = _bin(packed, k) - (_bin(packed, k - 1) + _bin(packed, k + 1)) / 2
    twins = 1.0 if 2 * k < packed.shape[0] else 0.5
    return (value.real * value.real + value.imag * value.imag) * factor * twins


@compiled
def _sum(power: F4) -> Float4:
    total = np.float32(0)
    for i in range(power.shape[0]):
        total += power[i]
    return total


@compiled
def _largest(bits: I4) -> np.int32:
    """Powers are not negative, so their bits order as they do, and integers vectorise without a thought for NaN."""
    best = np.int32(0)
    for i in range(bits.shape[0]):
        best = max(best, bits[i])
    return best


@compiled
def _sums(power: F4) -> tuple[Float4, Float4]:
    """sum(P[i]) and sum(i·P[i])."""
    total = first = np.float32(0)
    for i in range(power.shape[0]):
        total += power[i]
        first += np.float32(i) * power[i]
    return total, first


@compiled
def _second_moment(power: F4, first: Float4) -> Float4:
    """sum((first + i)²·power[i]) with `first` float32, the block's first bin seen from the centroid."""
    total = np.float32(0)
    for i in range(power.shape[0]):
        distance = first + np.float32(i)
        total += distance * distance * power[i]
    return total


@compiled
def _logarithms(power: F4, bits: I4) -> tuple[Float4, Float4]:
    """sum(log2 P) and sum(P·log2 P).

    log2 by exponent and a polynomial in the mantissa on [sqrt(1/2), sqrt(2)), fitted at Chebyshev's points; off by
    less than 1e-7. The library's logarithm takes a bin at a time, and would cost as much as the transform.
    """
    logs = products = np.float32(0)
    for i in range(power.shape[0]):
        value = np.int32(max(bits[i], np.int32(_SMALLEST)))
        # 0x3F3504F3 is sqrt(1/2): from there up to sqrt(2) the exponent counts as 0
        exponent = np.int32(np.int32(value - np.int32(0x3F3504F3)) >> np.int32(23))
        t = np.int32(value - (exponent << np.int32(23))).view(np.float32) - np.float32(1)
        q = np.float32(0.126148466)
        q = q * t + np.float32(-0.207421035)
        q = q * t + np.float32(0.215669859)
        q = q * t + np.float32(-0.23892034)
        q = q * t + np.float32(0.287918324)
        q = q * t + np.float32(-0.360704828)
        q = q * t + np.float32(0.48091061)
        q = q * t + np.float32(-0.721347333)
        q = q * t + np.float32(1.442695)
        log = np.float32(exponent) + t * q
        logs += log
        products += log * power[i]
    return logs, products


@compiled
def _band(power: F4, sums: F8, low: int, high: int) -> float:
    """Power of low <= k < high: whole blocks from `sums`, the rest bin by bin."""
    first, last = (low + _BLOCK - 1) // _BLOCK, high // _BLOCK
    if first >= last:
        return float(_sum(power[low:high]))
    inside = 0.0
    for block in range(first, last):
        inside += sums[block]
    return inside + float(_sum(power[low : first * _BLOCK])) + float(_sum(power[last * _BLOCK : high]))


@compiled
def _rolloff(power: F4, sums: F8, total: float) -> int:
    """The first bin up to which 85 % of the power lies."""
    wanted = _ROLLOFF * total
    reached = 0.0
    block = 0
    while block < sums.shape[0] - 1 and reached + sums[block] < wanted:
        reached += sums[block]
        block += 1
    k = block * _BLOCK
    reached += power[k]
    while k < power.shape[0] - 1 and reached < wanted:
        k += 1
        reached += power[k]
    return k


@compiled
def _shape(packed: F4, df: float, power: F4, sums: F8, peaks: I4, out: F8) -> None:
    """Fill power (K,), `sums` and `peaks` (blocks,) of it, and out (7,), from a transform.

    Power is one-sided, under the Hann window; the mean's bin has none.
    """
    bits = power.view(np.int32)
    n = power.shape[0]
    factor = 4 / (3 * float(packed.shape[0]) * packed.shape[0])
    power[0] = 0
    for k in (1, n - 2, n - 1):
        power[k] = _edge_power(packed, factor, k)
    total = first = logs = products = 0.0
    for block in range(sums.shape[0]):
        start = block * _BLOCK
        part = power[start : start + _BLOCK]
        low, high = max(2, start), min(start + _BLOCK, n - 2)
        if low < high:
            _inner_power(packed[2 * low - 3 : 2 * high + 1], np.float32(factor), power[low:high])
        sums[block], inner = _sums(part)
        peaks[block] = _largest(bits[start : start + _BLOCK])
        total += sums[block]
        first += float(inner) + start * sums[block]
        skip = 1 if block == 0 else 0  # the mean's bin has no logarithm to give
        a, b = _logarithms(part[skip:], bits[start + skip : start + _BLOCK])
        logs += float(a)
        products += float(b)
    centroid = first / total
    second = 0.0
    for block in range(sums.shape[0]):
        start = block * _BLOCK
        second += float(_second_moment(power[start : start + _BLOCK], np.float32(start - centroid)))
    block = int(peaks.argmax())
    highest, strongest = peaks[block], block * _BLOCK
    while bits[strongest] != highest:
        strongest += 1
    out[0] = df * strongest
    out[1] = df * centroid
    out[2] = df * np.sqrt(second / total)
    out[3] = df * _rolloff(power, sums, total)
    out[4] = min(1.0, max(0.0, (np.log2(total) - products / total) / np.log2(n - 1)))
    out[5] = min(1.0, 2 ** (logs / (n - 1)) / (total / (n - 1)))
    out[6] = total


@compiled
def _insert(power: F4, k: int, best: I8) -> None:
    """Put bin k into `best`, ordered by power, where it belongs; -1 is an empty place."""
    for place in range(best.shape[0]):
        if best[place] < 0 or power[k] > power[best[place]]:
            for later in range(best.shape[0] - 1, place, -1):
                best[later] = best[later - 1]
            best[place] = k
            return


@compiled
def _find_peaks(power: F4, peaks: I4, best: I8) -> None:
    """The strongest local maxima, into `best`: only blocks that can hold one are looked at, and `peaks` used up."""
    heights = peaks.view(np.float32)
    best[:] = -1
    floor = heights[peaks.argmax()] * np.float32(_PEAK_FLOOR)
    for _ in range(peaks.shape[0]):
        block = int(peaks.argmax())
        height = heights[block]
        peaks[block] = -1  # looked at
        if height < floor or (best[-1] >= 0 and height <= power[best[-1]]):
            return
        bar = floor
        for k in range(max(block * _BLOCK, _PEAK_MARGIN), min((block + 1) * _BLOCK, power.shape[0] - _PEAK_MARGIN)):
            # the bar first: it turns nearly every bin away, and the processor learns that
            if power[k] >= bar and power[k] > power[k - 1] and power[k] >= power[k + 1]:
                _insert(power, k, best)
                bar = max(floor, power[best[-1]]) if best[-1] >= 0 else floor


@compiled
def describe(packed: F4, scales: F8, bands: I8, df: float, out: F8, candidates: I8) -> None:
    """Describe the spectra of some windows.

    In: packed (rows, W) float32, the plain transforms: X[0], then real and imaginary part of each bin; scales (rows,),
    A, 0 where there is no spectrum; bands (5, 2) bins, empty where low = high; df, Hz between bins. Out: out
    (rows, 12), NaN where undefined; candidates (rows, …), the bins of the strongest local maxima by power, or -1.
    """
    power = np.empty(packed.shape[1] // 2 + 1, np.float32)
    n_blocks = (power.shape[0] + _BLOCK - 1) // _BLOCK
    sums, peaks = np.empty(n_blocks), np.empty(n_blocks, np.int32)
    out[:] = np.nan
    candidates[:] = -1
    for index in range(scales.shape[0]):
        scale, row = scales[index], out[index]
        if scale == 0:
            continue
        _shape(packed[index], df, power, sums, peaks, row[:_N_SHAPE])
        row[_N_SHAPE - 1] *= scale * scale
        for band in range(_N_BANDS):
            if bands[band, 0] < bands[band, 1]:
                row[_N_SHAPE + band] = scale * scale * _band(power, sums, bands[band, 0], bands[band, 1])
        _find_peaks(power, peaks, candidates[index])
