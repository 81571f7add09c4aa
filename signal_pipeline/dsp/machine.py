"""Kernels that need all three phases of a window: sequences, unbalance, Park's vector at twice line frequency.

Not here: the tones of one phase (`tones`), Park's vector itself (`waveform`), the reasons for NULL. A kernel calls
nothing across files (`compiled`), so the fit of `tones` stands here once more.
"""

# ruff: noqa: PLR0917 - the compiler knows no keyword-only arguments

from typing import Final

import numpy as np

from signal_pipeline.dsp.arrays import F4, F8, I1, Float4
from signal_pipeline.dsp.compiled import compiled

NAMES: Final = (
    "seq_pos_amplitude", "seq_neg_amplitude", "seq_zero_amplitude", "i2_i1_pct", "i0_i1_pct", "unbalance_pct",
    "park_2f_pct",
)  # fmt: skip
"""What `combine` writes along the last axis of `out`, in this order."""

MEASURED: Final = 0
NO_FUNDAMENTAL: Final = 1
NO_SEQUENCE: Final = 3
NOT_STATIONARY: Final = 4

_MIN_POSITIVE: Final = 1e-3  # of the largest phasor
_MAX_RESIDUAL: Final = 0.1  # a ratio of phasors stands more than a phasor: what all phases do alike is none of it
_LANES: Final = 128


@compiled
def _bin(packed: F4, k: int) -> complex:
    """Bin k under the Hann window, times 2, as in `tones`."""
    real = packed[2 * k - 1] - np.float64(packed[2 * k - 3] + packed[2 * k + 1]) / 2
    imaginary = packed[2 * k] - np.float64(packed[2 * k - 2] + packed[2 * k + 2]) / 2
    return complex(real, imaginary)


@compiled
def _phasor(packed: F4, p: float) -> complex:
    """The tone at p bins, exp(iφ)·A·W/2, fitted as in `tones`."""
    k = int(np.round(p))
    delta = p - k
    a, b, c = -0.5, 1.0, -0.5
    if abs(delta) > 1e-6:
        sine = np.sin(np.pi * delta) / np.pi
        left, right = 1 + delta, 1 - delta
        a = sine / (left * (1 - left * left))
        b = sine / (delta * (1 - delta * delta))
        c = sine / (-right * (1 - right * right))
    total = (a * _bin(packed, k - 1) + b * _bin(packed, k) + c * _bin(packed, k + 1)) / (a * a + b * b + c * c)
    return total if k % 2 == 0 else -total


@compiled
def _sequence(packed: F4, p: float, scales: F8, unit: float, out: F8) -> int:
    """Sequence components and unbalance of the three phasors at p, into out (6,). A bin of 1 is scale·unit A.

    The sequence that carries more is the positive one, as in the diagnosis: which way the leads are connected says
    nothing about the machine.
    """
    a = scales[0] * unit * _phasor(packed[0], p)
    b = scales[1] * unit * _phasor(packed[1], p)
    c = scales[2] * unit * _phasor(packed[2], p)
    turn = complex(-0.5, np.sqrt(0.75))
    back = np.conj(turn)
    one, other = abs(a + turn * b + back * c) / 3, abs(a + back * b + turn * c) / 3
    positive = max(one, other)
    out[0], out[1], out[2] = positive, min(one, other), abs(a + b + c) / 3
    mean = (abs(a) + abs(b) + abs(c)) / 3
    out[5] = 100 * max(abs(abs(a) - mean), abs(abs(b) - mean), abs(abs(c) - mean)) / mean
    if positive < _MIN_POSITIVE * max(abs(a), abs(b), abs(c)):
        return NO_SEQUENCE
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
def combine(
    low: F4,
    places: F8,
    amplitudes: F8,
    residuals: F8,
    scales: F8,
    modulus: F4,
    modulus_means: F8,
    weights: F4,
    out: F8,
    found: I1,
) -> None:
    """What needs all three phases of a window, at the line frequency of the strongest.

    In: low (C, 3, …) and places (C, 3) of `tones.describe`; amplitudes (C, 3) of the fundamentals, NaN for none;
    residuals (C, 3) of `steadiness.judge`; scales (C, 3), A; modulus (C, W) of Park's vector and its means (C,), 0
    where there is none; weights (W,) the Hann window. Out: out (C, 7), NaN where undefined; found (C,), status.
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
        if residuals[slot, strongest] > _MAX_RESIDUAL:
            found[slot] = NOT_STATIONARY
            continue
        p, mean = places[slot, strongest], modulus_means[slot]
        found[slot] = _sequence(low[slot], p, scales[slot], 2 / n, out[slot])
        if mean > 0 and np.round(2 * p) + 2 <= n // 2:
            out[slot, 6] = 100 * _amplitude_at(modulus[slot], mean, weights, 2 * p, table) / mean
