"""What one grid and one choice of bands can show: taper, bins, limits, and what is NULL in every window.

Here: everything that depends on the settings and not on a sample. Not here: kernels, samples.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from signal_pipeline.catalogue import N_BANDS
from signal_pipeline.dsp.arrays import F4, I8
from signal_pipeline.dsp.windows import WindowGrid

MIN_SPECTRUM: Final = 16
"""Samples below which a window has no spectrum to speak of."""

MAX_LINE_HZ: Final = 450.0
"""Highest line frequency looked for: inverters and 400 Hz networks."""

MAX_FILLED: Final = 0.05
"""Share of a window's samples that may be interpolated; more skips the window."""

_BAND_BINS: Final = 4
"""Width of a Hann window's main lobe: a narrower band would mostly measure its neighbours' leakage."""

_CHUNK_SAMPLES: Final = 2**17
"""Samples a phase in one chunk of windows: more spoil the cache, fewer pay the calls. A longer window is one chunk, and
then it is the window that says how much memory is taken."""

Bands = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Fixed facts of a grid: `weights` (W,) float32 Hann, `bands` (5, 2) bins [low, high), `chunk` windows at once."""

    grid: WindowGrid
    chunk: int
    weights: F4
    bands: I8
    reasons: tuple[tuple[str, str], ...]

    @property
    def spectral(self) -> bool:
        return self.grid.window_length >= MIN_SPECTRUM

    @property
    def df(self) -> float:
        """Hz from bin to bin."""
        return self.grid.fs / self.grid.window_length

    @property
    def last_line(self) -> int:
        """The highest bin that may hold the line frequency."""
        return int(MAX_LINE_HZ / self.df)


def _hann(n: int) -> F4:
    """The periodic Hann window."""
    weights = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)
    weights.flags.writeable = False
    return weights


def _band(low: float, high: float, *, fs: float, df: float) -> tuple[tuple[int, int], str | None]:
    """Bins of the band low <= f < high, the mean's excluded, or the reason why it has none."""
    if high > fs / 2:
        return (0, 0), f"above_nyquist: {high:g} Hz > {fs / 2:g} Hz"
    if high - low < _BAND_BINS * df:
        return (0, 0), f"insufficient_resolution: {high - low:g} Hz wide, {_BAND_BINS * df:g} Hz needed"
    # a hair's breadth, so that an edge that is a bin stays one after the division
    first, last = math.ceil(low / df - 1e-9), math.ceil(high / df - 1e-9)
    return (max(1, first), last + 1 if high == fs / 2 else last), None


def check_bands(bands_hz: Bands) -> None:
    """Raise `ValueError` unless there are at most five bands, each finite, not negative, and low below high."""
    if len(bands_hz) > N_BANDS:
        raise ValueError(f"{len(bands_hz)} bands: the table has columns for {N_BANDS}")
    for low, high in bands_hz:
        if not (math.isfinite(low) and math.isfinite(high) and 0 <= low < high):
            raise ValueError(f"band {low!r}-{high!r} Hz: needs 0 <= low < high, finite")


@lru_cache(maxsize=16)
def plan_for(grid: WindowGrid, bands_hz: Bands) -> Plan:
    """The plan of a grid and its bands (Hz). Raises `ValueError` for a band that is none."""
    check_bands(bands_hz)
    n = grid.window_length
    bands = np.zeros((N_BANDS, 2), np.int64)
    reasons: list[tuple[str, str]] = []
    for index in range(N_BANDS):
        reason: str | None = "not_configured"
        if index < len(bands_hz):
            low, high = bands_hz[index]
            bands[index], reason = _band(low, high, fs=grid.fs, df=grid.fs / n)
        if reason:
            reasons += [(f"band_power_{index + 1}_{phase}", reason) for phase in "abc"]
    bands.flags.writeable = False
    chunk = min(64, max(4, _CHUNK_SAMPLES // n // 4 * 4)) if n <= _CHUNK_SAMPLES else 1
    return Plan(grid, chunk, _hann(n), bands, tuple(reasons))
