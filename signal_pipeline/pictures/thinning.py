"""Fewer numbers that look the same: envelopes of waveforms, maxima of spectra. Plain numpy, for pictures and report.

Not here: features. What is drawn from these is for eyes, and no decision rests on it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]

FLOOR_DB = -140.0
SPECTRUM_SECONDS = 10.0
"""Of a longer recording the spectrum shows a part: enough for 0.4 Hz between the nulls, and cheap."""
BLOCK_SECONDS = 0.5
"""Steps in which that part is looked for."""
RUNNING = 0.5
"""Share of the highest current a recording keeps up for such a part, above which its motor runs."""
AS_STEADY = 1.1
"""Times the least ripple: the first part below it is taken, so that a steady recording shows its beginning."""


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """Lowest and highest sample, float32 (3, columns), of equal stretches that begin at `times` (s)."""

    times: F8
    low: F4
    high: F4


def envelope(phases: F4, *, fs: float, columns: int) -> Envelope:
    """`phases` float32 (3, n_samples) as at most `columns` stretches; NaN only where a stretch has no sample at all."""
    n = phases.shape[1]
    step = max(1, -(-n // columns))
    starts = np.arange(0, n, step)
    low = np.fmin.reduceat(phases, starts, axis=1)
    high = np.fmax.reduceat(phases, starts, axis=1)
    return Envelope(starts / fs, low, high)


def spectrum_db(phases: F4, *, fs: float, seconds: float = SPECTRUM_SECONDS) -> tuple[F8, F8]:
    """Frequencies (Hz, (m,)) and levels (3, m) in dB below each phase's strongest line (dBc), not below -140.

    Of the first `seconds` in which the motor runs steadily, without their mean, under a 4-term Blackman-Harris window
    (Harris 1978: sidelobes below -92 dB, so that a sideband beside the carrier is not the window's). A missing sample
    counts as zero. A phase without current lies at the floor.
    """
    from scipy import fft
    from scipy.signal.windows import blackmanharris

    n = fft.prev_fast_len(max(2, min(phases.shape[1], round(seconds * fs))), real=True)
    begin = _steady(phases, n, block=max(1, round(BLOCK_SECONDS * fs)))
    part = phases[:, begin : begin + n]
    filled = np.nan_to_num(part - np.nan_to_num(_mean(part)), nan=0.0)
    window = blackmanharris(n, sym=False).astype(np.float32)
    amplitude = np.abs(fft.rfft(filled * window, axis=1)).astype(np.float64)
    strongest = amplitude.max(axis=1, keepdims=True)
    share = np.divide(amplitude, strongest, out=np.zeros_like(amplitude), where=strongest > 0)
    return np.asarray(fft.rfftfreq(n, 1 / fs)), 20 * np.log10(np.maximum(share, 10 ** (FLOOR_DB / 20)))


def strongest(freqs: F8, levels: F8, *, low: float, high: float, columns: int) -> tuple[F8, F8]:
    """The part of a spectrum in [low, high] Hz as at most `columns` maxima: no line is lost."""
    begin, end = np.searchsorted(freqs, (low, high))
    freqs, levels = freqs[begin:end], levels[:, begin:end]
    step = max(1, -(-len(freqs) // columns))
    if step == 1:
        return freqs, levels
    starts = np.arange(0, len(freqs), step)
    return freqs[starts] + (step - 1) / 2 * (freqs[1] - freqs[0]), np.maximum.reduceat(levels, starts, axis=1)


def _steady(phases: F4, n: int, *, block: int) -> int:
    """Where `n` samples begin in which the current is there and changes least, in whole blocks; 0 if nothing runs.

    A motor that starts on the way has no line before that, and a start of many times its current would hide all lines.
    """
    width = -(-n // block)
    whole = phases.shape[1] // block
    if whole <= width:
        return 0
    blocks = phases[:, : whole * block].reshape(3, whole, block)
    there = np.isfinite(blocks)
    count = np.maximum(there.sum(axis=2), 1)
    filled = np.where(there, blocks, 0)
    mean = filled.sum(axis=2, dtype=np.float64) / count
    power = np.square(np.where(there, blocks - mean[..., None], 0), dtype=np.float64).sum(axis=2) / count
    current = np.lib.stride_tricks.sliding_window_view(np.sqrt(power.sum(axis=0)), width)
    low, high = current.min(axis=1), current.max(axis=1)
    if low.max() <= 0:
        return 0
    ripple = np.divide(high, low, out=np.full_like(high, np.inf), where=low >= RUNNING * low.max())
    return block * int(np.argmax(ripple <= AS_STEADY * ripple.min()))


def _mean(part: F4) -> F4:
    """Mean (3, 1) of the samples that are there; 0 where there is none."""
    there = np.isfinite(part)
    return np.asarray(
        np.where(there, part, 0).sum(axis=1, keepdims=True, dtype=np.float64)
        / np.maximum(there.sum(axis=1, keepdims=True), 1),
        dtype=np.float32,
    )
