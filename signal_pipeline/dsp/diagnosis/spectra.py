"""Spectra of a stretch in the form of `statorscope`, each thing computed once: window, logarithm, carrier.

The library computes the window at every call and the decibels of a whole spectrum at every look at it, and a diagnosis
looks hundreds of times; its transform takes a recording as long as it is, and a length with a large prime factor costs
fifteen times a good one. The numbers are the library's own (tests hold that). Not here: what is read from a
spectrum. Imports the library, so it is imported inside the functions that need it.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.signal import get_window
from statorscope import Spectrum
from statorscope.quality import BLIND_SLIP_UNRELIABLE, INCIPIENT_FAULT_DBC, SIDEBAND_OFFSET_BAND_HZ
from statorscope.spectrum import DEFAULT_WINDOW

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Levels(Spectrum):
    """A `Spectrum` that keeps its levels: `dbc` float64 (bin,), relative to the reference."""

    dbc: Doubles

    @classmethod
    def of(cls, freq: Doubles, amplitude: Doubles, *, fs: float, n_samples: int, hz: float, carrier: float) -> Self:
        """Amplitudes (A, peak) at `freq` (Hz), measured against a carrier of `carrier` A at `hz`."""
        dbc = 20.0 * np.log10(amplitude / (carrier or 1.0) + 1e-300)
        return cls(freq, amplitude, fs, n_samples, hz, carrier, dbc)

    def near(self, hz: float, span_hz: float) -> "Levels":
        """The bins less than `span_hz` away from `hz`."""
        kept = np.abs(self.freq - hz) < span_hz
        return replace(self, freq=self.freq[kept], amplitude=self.amplitude[kept], dbc=self.dbc[kept])


class Carrier(NamedTuple):
    """The line of a spectrum: its nearest bin's amplitude, and frequency and amplitude between bins."""

    bin_amplitude: float
    hz: float
    amplitude: float


class Clock(NamedTuple):
    """The library's audit of a recording without timestamps."""

    measured_floor_dbc: float
    carrier_halfwidth_hz: float
    trustworthy: bool


def usable(phases: Doubles) -> Doubles:
    """`phases` (m, n) without the few last samples whose number makes a transform slow (at most 1 % from 500 on)."""
    return phases[:, : scipy.fft.prev_fast_len(phases.shape[1])]


def amplitudes(phases: Doubles, fs: float) -> tuple[Doubles, Doubles]:
    """Frequencies (bin,) in Hz, and window-corrected peak amplitudes (m, bin) of `phases` (m, n)."""
    n = phases.shape[1]
    window = window_of(n)
    spectrum = scipy.fft.rfft((phases - phases.mean(axis=1, keepdims=True)) * window, axis=1)
    return np.asarray(np.fft.rfftfreq(n, 1.0 / fs), np.float64), 2.0 * np.abs(spectrum) / float(np.sum(window))


def carrier_of(freq: Doubles, amplitude: Doubles, *, near_hz: float | None, tolerance_hz: float = 5.0) -> Carrier:
    """The strongest line within `tolerance_hz` of `near_hz`; without it the strongest bin, taken as it is."""
    if near_hz is None:
        k = int(np.argmax(amplitude))
        return Carrier(float(amplitude[k]), float(freq[k]), float(amplitude[k]))
    low, high = np.searchsorted(freq, (near_hz - tolerance_hz, near_hz + tolerance_hz))
    low = min(max(0, int(low)), freq.size - 1)
    k = low + int(np.argmax(amplitude[low : max(int(high) + 1, low + 1)]))
    around = slice(max(0, k - 2), k + 3)
    few = Levels.of(freq[around], amplitude[around], fs=0.0, n_samples=0, hz=near_hz, carrier=float(amplitude[k]))
    hz, above_bin_db = few.peak_near(float(freq[k]), 0.0)
    return Carrier(float(amplitude[k]), hz, float(amplitude[k] * 10 ** (above_bin_db / 20)))


def without_line(phases: Doubles, fs: float, hz: float) -> Doubles:
    """`phases` (m, n) less the sinusoid of `hz` that fits each best (least squares)."""
    angle = (2.0 * math.pi * hz / fs) * np.arange(phases.shape[1])
    basis = np.stack([np.cos(angle), np.sin(angle)])
    weights = np.linalg.solve(basis @ basis.T, basis @ phases.T)
    return np.asarray(phases - weights.T @ basis)


def audit_clock(residual: Levels, line_hz: float) -> Clock:
    """How much noise lies beside the carrier, how wide it is, and whether an incipient fault could be seen at all.

    `residual`, one phase's spectrum without the carrier, measured against it.
    """
    halfwidth = residual.carrier_halfwidth_hz()
    low, high = max(SIDEBAND_OFFSET_BAND_HZ[0], halfwidth), SIDEBAND_OFFSET_BAND_HZ[1]
    offset = np.abs(residual.freq - residual.reference_hz)
    band = residual.dbc[(offset >= low) & (offset <= high)]
    # a carrier that fills the band leaves no clean place: all of it is floor
    floor = math.inf if low >= high else float(np.median(band)) if band.size else -math.inf
    seen = math.isfinite(floor) and floor <= INCIPIENT_FAULT_DBC
    return Clock(floor, halfwidth, seen and halfwidth / (2.0 * line_hz) < BLIND_SLIP_UNRELIABLE)


@lru_cache(maxsize=4)
def window_of(n: int) -> Doubles:
    """The library's window of `n` samples, not to be written to."""
    window: Doubles = get_window(DEFAULT_WINDOW, n, fftbins=True)
    window.flags.writeable = False
    return window
