"""A recording made ready for diagnosis: decimated, without gaps, and followed along its line frequency.

Here: `Decimator`, the longest finite stretch, and the fundamental's phasors over time. Not here: spectra and faults.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.dsp.diagnosis.running import BLOCK_CYCLES, alive_blocks, phase_slope, without_edges

ANALYSIS_FS = 5000.0
"""Diagnosis looks no higher than the rotor slot harmonics: the rate is brought down to at least this, in Hz."""

HALF_TAPS = 20
"""Filter taps on each side, in output samples: flat up to 0.35 of the new rate, 85 dB down where it aliases."""

HIGHEST_SHARE = 0.45
"""Nothing is read above this share of the rate: there the filter, ours or the recorder's, has its edge."""

CHUNK = 1 << 18
"""Samples filtered at once; bounds the memory above the recording itself."""

CARRIER_SHARE = 0.5
"""The fundamental must hold this share of a phase's power, or no line frequency carries the current."""

STRAIGHT_RAD = 0.01
"""Phase that the line may stray from a steady frequency before time is bent: 40 dB below the carrier."""

LINE_RANGE_HZ = (5.0, 500.0)


class Decimator:
    """Brings blocks of a recording to the rate that diagnosis needs, as if they were one.

    A file of many batches is pushed batch by batch (without lead-in) and diagnosed from the pieces put together, so
    that it is never whole in memory. A NaN spoils the outputs whose filter touches it, so bridge short gaps before.
    """

    def __init__(self, fs: float) -> None:
        """`fs` in Hz, above 0; `fs_out` is `fs` divided by a whole number, at least `ANALYSIS_FS` if `fs` is."""
        if not (math.isfinite(fs) and fs > 0):
            raise ValueError(f"fs={fs!r} Hz: a sample rate must be finite and above 0")
        self.factor = max(1, math.floor(fs / ANALYSIS_FS))
        self.fs_out: float = fs / self.factor
        self._tail = np.empty((3, 0), np.float32)
        if self.factor > 1:
            from scipy.signal import firwin

            n_taps = 2 * HALF_TAPS * self.factor + 1
            self._taps = firwin(n_taps, 0.85 / self.factor, window=("kaiser", 8.5)).astype(np.float32)

    def push(self, phases: NDArray[np.float32]) -> NDArray[np.float32]:
        """The outputs, float32 (3, m), that become complete with the next samples (3, n)."""
        if self.factor == 1:
            return np.asarray(phases, np.float32)
        pieces = [self._filter(phases[:, start : start + CHUNK]) for start in range(0, phases.shape[1], CHUNK)]
        return np.concatenate(pieces, axis=1) if pieces else np.empty((3, 0), np.float32)

    def _filter(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        from signal_pipeline.dsp.diagnosis.fir import decimate

        block = np.concatenate([self._tail, block], axis=1, dtype=np.float32)
        n_out = max(0, (block.shape[1] - self._taps.size) // self.factor + 1)
        out = np.empty((3, n_out), np.float32)
        decimate(block, self._taps, self.factor, out)
        self._tail = block[:, n_out * self.factor :].copy()
        return out


class Stretch(NamedTuple):
    """The longest gapless part of a recording, at the analysis rate."""

    phases: NDArray[np.float64]
    """(present phases, sample), amperes, mean removed."""
    fs: float
    has_gaps: bool

    @property
    def seconds(self) -> float:
        return float(self.phases.shape[1] / self.fs)


SUPPLY_RANGE = 0.1
"""Share of the nominal line frequency by which a grid can be off; farther away is another supply."""


class Line(NamedTuple):
    """The fundamental of a stretch."""

    hz: float
    offset_hz: float
    """How far `hz` lies above the frequency at which the phasors stand still."""
    phasors: NDArray[np.complex128]
    """(present phases, block): peak amperes, Hann blocks of ten cycles that share half."""
    alive: NDArray[np.bool_]
    """Blocks that hold current."""
    steady: NDArray[np.bool_]
    """Blocks that hold current of the line's frequency, from beginning to end."""

    @property
    def strongest(self) -> int:
        """The phase with the largest fundamental."""
        return int(np.argmax(np.abs(self.phasors).mean(axis=1)))

    @property
    def turning(self) -> NDArray[np.complex128]:
        """(3,): whose product with phasors is three times their positive sequence; empty where a phase is missing."""
        if self.phasors.shape[0] != 3:
            return np.empty(0, np.complex128)
        third = np.exp(2j * np.pi / 3 * np.arange(3))
        forward = np.abs(third @ self.phasors).mean() >= np.abs(third.conj() @ self.phasors).mean()
        return np.asarray(third if forward else third.conj())

    @property
    def envelope(self) -> NDArray[np.float64]:
        """Peak amplitude by block, root mean square over the phases."""
        return np.asarray(np.sqrt(np.mean(np.abs(self.phasors) ** 2, axis=0)))


def bridge_gaps(phases: NDArray[np.float32], max_gap: int) -> NDArray[np.float32]:
    """`phases` (3, n) with inner gaps of at most `max_gap` samples filled by straight lines; a copy if any was."""
    finite = np.isfinite(phases)
    if max_gap < 1 or finite.all():
        return phases
    filled = phases.copy()
    for samples, good in zip(filled, finite, strict=True):
        for start, stop in np.flatnonzero(np.diff(good, prepend=True, append=True)).reshape(-1, 2):
            if stop - start <= max_gap and start > 0 and stop < good.size:
                before, after = samples[start - 1], samples[stop]
                samples[start:stop] = np.linspace(before, after, stop - start + 2)[1:-1]
    return filled


def longest_stretch(phases: NDArray[np.float32], *, fs: float, present: NDArray[np.bool_], max_gap: int) -> Stretch:
    """The longest run of samples, at the analysis rate, in which every present phase is finite or bridged."""
    decimator = Decimator(fs)
    if not present.all():
        phases = np.where(present[:, None], phases, np.float32(0))
    kept = decimator.push(bridge_gaps(phases, max_gap))[present]
    finite = np.isfinite(kept).all(axis=0)
    edges = np.flatnonzero(np.diff(finite, prepend=False, append=False)).reshape(-1, 2)
    start, stop = edges[np.argmax(edges[:, 1] - edges[:, 0])] if edges.size else (0, 0)
    samples = kept[:, start:stop].astype(np.float64)
    if samples.size:
        samples -= samples.mean(axis=1, keepdims=True)
    return Stretch(samples, decimator.fs_out, has_gaps=not finite.all())


def follow_line(stretch: Stretch, *, nominal_hz: float | None) -> "tuple[Line | None, str]":
    """The line frequency and its phasors, or None and the reason.

    The strongest line near `nominal_hz`; where that does not carry the current, or is not known, the strongest of all.
    It is refined by the slope of its phase over the blocks with current, which reads a steady tone to microhertz. The
    stretch must hold half a second.
    """
    if nominal_hz is not None and nominal_hz > HIGHEST_SHARE * stretch.fs:
        return None, f"the line frequency of {nominal_hz:g} Hz cannot be seen at {stretch.fs:g} samples a second"
    strongest = int(np.argmax(stretch.phases.std(axis=1)))
    power = float(np.mean(stretch.phases[strongest] ** 2))
    reason = ""
    for hz in _candidates(stretch, strongest, nominal_hz):
        if not LINE_RANGE_HZ[0] <= hz <= min(LINE_RANGE_HZ[1], HIGHEST_SHARE * stretch.fs):
            reason = f"the strongest line stands at {hz:.2f} Hz, where no supply is"
            continue
        phasors = _phasors(stretch, hz)
        share = float(np.mean(np.abs(phasors[strongest]) ** 2) / 2 / power)
        if share >= CARRIER_SHARE:
            return _line(phasors, hz, strongest, stretch.fs), ""
        reason = f"the strongest line, at {hz:.2f} Hz, holds only {100 * share:.0f} % of the current's power"
    return None, reason


def _candidates(stretch: Stretch, strongest: int, nominal_hz: float | None) -> Iterator[float]:
    """Frequencies (Hz) at which the line may stand, in the order in which they are to be tried; the last is global."""
    from signal_pipeline.dsp.diagnosis.spectra import amplitudes, carrier_of, usable

    freq, (amplitude,) = amplitudes(usable(stretch.phases[strongest][None, :]), stretch.fs)
    if nominal_hz is not None:
        yield carrier_of(freq, amplitude, near_hz=nominal_hz, tolerance_hz=SUPPLY_RANGE * nominal_hz).hz
    yield carrier_of(freq, amplitude, near_hz=None).hz


def _line(phasors: NDArray[np.complex128], hz: float, strongest: int, fs: float) -> Line:
    """The line at about `hz`, from phasors (present phases, block) that turn with what `hz` is off."""
    alive = alive_blocks(np.sqrt(np.mean(np.abs(phasors) ** 2, axis=0)))
    slope, at_its_frequency = phase_slope(phasors[strongest], alive)
    offset = slope * fs / (2 * math.pi * (_block(fs, hz) // 2))
    return Line(hz + offset, offset, phasors, alive, without_edges(alive) & at_its_frequency)


def wander_of(line: Line, fs: float) -> tuple[np.polynomial.Polynomial, float]:
    """What the line's phase strays from 2 * pi * `line.hz` * t, in rad over t in s, and its frequency's span in Hz.

    A cubic: a grid is slower than that, and sidebands are faster.
    """
    at = _block_centres(line, fs)
    phase = np.unwrap(np.angle(line.phasors[line.strongest] * np.exp(-2j * math.pi * line.offset_hz * at)))
    stray = np.polynomial.Polynomial.fit(at, phase, 3)
    return stray, float(np.ptp(stray.deriv()(at))) / (2 * math.pi)


def straighten(stretch: Stretch, line: Line) -> Stretch:
    """The stretch on a time axis on which the line frequency stands still (order tracking).

    A grid wanders by some mHz a second, which smears every line of a long recording, those of high order most. All
    of them follow the supply, so time itself is bent: by the cubic part of the line's phase, which is too slow to
    touch sidebands. A recording whose phase strays less than `STRAIGHT_RAD` is returned as it is.
    """
    stray, _ = wander_of(line, stretch.fs)
    at = _block_centres(line, stretch.fs)
    stray -= np.polynomial.Polynomial.fit(at, stray(at), 1)
    if np.abs(stray(at)).max() < STRAIGHT_RAD:
        return stretch
    from scipy.interpolate import CubicSpline
    from scipy.signal import resample_poly

    t = np.arange(stretch.phases.shape[1]) / stretch.fs
    source = t - stray(t - stray(t) / (2 * math.pi * line.hz)) / (2 * math.pi * line.hz)
    inside = (source >= 0) & (source <= t[-1])
    # a cubic through few samples a period would add lines of its own
    up = math.ceil(ANALYSIS_FS / stretch.fs)
    knots = np.arange(stretch.phases.shape[1] * up) / (stretch.fs * up)
    straight = [CubicSpline(knots, resample_poly(x, up, 1))(source[inside]) for x in stretch.phases]
    return stretch._replace(phases=np.stack(straight))


def _block_centres(line: Line, fs: float) -> NDArray[np.float64]:
    """The middle of each of the line's blocks, in s."""
    length = _block(fs, line.hz)
    return np.asarray((np.arange(line.phasors.shape[1]) * (length // 2) + length / 2) / fs)


def _block(fs: float, hz: float) -> int:
    return max(4, round(BLOCK_CYCLES * fs / hz / 2) * 2)


def _phasors(stretch: Stretch, hz: float) -> NDArray[np.complex128]:
    length = min(_block(stretch.fs, hz), stretch.phases.shape[1])
    hop = length // 2
    window = np.hanning(length + 2)[1:-1]
    turn = -2 * math.pi * hz / stretch.fs
    weights = window * np.exp(1j * turn * np.arange(length))
    blocks = np.lib.stride_tricks.sliding_window_view(stretch.phases, length, axis=1)[:, ::hop]
    # each block turned from its own beginning, then all of them to one: no exponential for every sample
    own = blocks @ np.stack([weights.real, weights.imag], axis=1)
    starts = np.exp(1j * turn * hop * np.arange(blocks.shape[1]))
    return np.asarray(2 * (own[..., 0] + 1j * own[..., 1]) * starts / window.sum())
