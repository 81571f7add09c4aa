"""A few windows at a time through the kernels: time domain, transform, spectrum, tones.

Here: the buffers and the order of the calls. Not here: formulas (the kernels), the table's order, reasons for NULL.
Imports numba, so it is imported inside the function that needs it.

A window's place in its chunk is its number on the file's grid modulo the chunk's size, and every chunk is
transformed whole, its empty places zero. A window therefore meets the same code at the same place however the file
is split; the transform treats the rows of a call in groups of a machine's width and the remainder one by one.
"""

from dataclasses import dataclass, fields
from typing import Final, cast

import numpy as np
import scipy.fftpack

from signal_pipeline.dsp import machine, peaks, spectrum, steadiness, tones, waveform
from signal_pipeline.dsp.arrays import F4, F8, I1, Bools
from signal_pipeline.dsp.plan import MAX_FILLED, Plan

PHASE_NAMES: Final = (*waveform.NAMES, *spectrum.NAMES, *peaks.NAMES, *tones.NAMES)
MACHINE_NAMES: Final = (*waveform.PARK_NAMES, *machine.NAMES)
SKIP_REASONS: Final = {waveform.GAP_TOO_LONG: "gap_too_long", waveform.TOO_MUCH_FILLED: "too_much_filled"}

_SPECTRUM: Final = slice(len(waveform.NAMES), len(waveform.NAMES) + len(spectrum.NAMES))
_PEAKS: Final = slice(_SPECTRUM.stop, _SPECTRUM.stop + len(peaks.NAMES))
_TONES: Final = slice(_PEAKS.stop, None)
_LATER_PEAKS: Final = slice(PHASE_NAMES.index("peak_2_freq_hz"), _PEAKS.stop)
_HARMONICS: Final = slice(PHASE_NAMES.index("thd_pct"), None)
_TOTAL: Final = PHASE_NAMES.index("total_power")
_FUNDAMENTAL: Final = PHASE_NAMES.index("fundamental_amplitude")
_PARK: Final = len(waveform.PARK_NAMES)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the kernels found in n windows, in the kernels' own order; NaN where a quantity is undefined.

    `phases` (n, 3, len(PHASE_NAMES)), `machine` (n, len(MACHINE_NAMES)), `scales` (n, 3) A and 0 for a constant
    phase, `status` (n,) of `waveform`, `found` (n, 3) of `tones` and `steadiness`, `sequence` (n,) of `machine`.
    """

    phases: F8
    machine: F8
    scales: F8
    status: I1
    found: I1
    sequence: I1

    @classmethod
    def empty(cls, n: int) -> "Measured":
        return cls(
            phases=np.full((n, 3, len(PHASE_NAMES)), np.nan),
            machine=np.full((n, len(MACHINE_NAMES)), np.nan),
            scales=np.zeros((n, 3)),
            status=np.full(n, waveform.EMPTY, np.int8),
            found=np.full((n, 3), tones.TOO_SHORT, np.int8),
            sequence=np.full(n, tones.TOO_SHORT, np.int8),
        )

    def take(self, wanted: Bools) -> "Measured":
        """The windows of which `wanted` (n,) is true."""
        return Measured(*(getattr(self, name.name)[wanted] for name in fields(self)))


class Workspace:
    """The buffers of one worker, used again for every chunk.

    The transform is scipy's packed real one, because it alone works in place: the samples turn into their spectrum, and
    a chunk takes no other memory, half of what it would move through the cache otherwise.
    """

    def __init__(self, plan: Plan, *, present: tuple[bool, bool, bool], max_gap: int) -> None:
        n, w = plan.chunk, plan.grid.window_length
        self._plan = plan
        self._present = np.array(present, np.bool_)
        self._gaps = np.array([max_gap, int(MAX_FILLED * w)], np.int64)
        self._starts = np.empty(n, np.int64)
        self._centred = np.empty((n, 3, w), np.float32)
        self._modulus = np.empty((n, w), np.float32)
        self._modulus_means = np.empty(n)
        self._low = np.empty((n, 3, min(2 * plan.last_line + 7, w)), np.float32)
        self._places = np.zeros((n, 3))
        self._residuals = np.zeros((n, 3))
        self._candidates = np.empty((3 * n, peaks.N_CANDIDATES), np.int64)
        self._chunk = Measured.empty(n)

    def measure(self, phases: F4, *, start_row: int, number: int, windows: range, into: Measured) -> None:
        """Measure those windows of chunk `number` that `windows` names, into their rows of `into`."""
        plan, chunk = self._plan, self._chunk
        first = number * plan.chunk
        low, high = max(first, windows.start), min(first + plan.chunk, windows.stop)
        self._starts[:] = -1
        for k in range(low, high):
            self._starts[k - first] = k * plan.grid.hop_length - start_row
        waveform.prepare(
            phases, self._present, self._starts, self._gaps, self._centred, self._modulus, self._modulus_means,
            chunk.phases, chunk.scales, chunk.machine, chunk.status,
        )  # fmt: skip
        if plan.spectral:
            self._transform()
        here, there = slice(low - first, high - first), slice(low - windows.start, high - windows.start)
        into.phases[there] = chunk.phases[here]
        into.machine[there] = chunk.machine[here]
        into.scales[there] = chunk.scales[here]
        into.status[there] = chunk.status[here]
        into.found[there] = chunk.found[here]
        into.sequence[there] = chunk.sequence[here]

    def _transform(self) -> None:
        plan, chunk, n = self._plan, self._chunk, 3 * self._plan.chunk
        numbers, scales, places = chunk.phases.reshape(n, -1), chunk.scales.reshape(n), self._places.reshape(n)
        samples = self._centred.reshape(n, -1)
        packed = cast("F4", scipy.fftpack.rfft(samples, axis=-1, overwrite_x=True))
        spectrum.describe(packed, scales, plan.bands, plan.df, numbers[:, _SPECTRUM], self._candidates)
        peaks.measure(packed, scales, self._candidates, plan.df, numbers[:, _PEAKS])
        found = chunk.found.reshape(n)
        tones.describe(
            packed, numbers[:, _TOTAL], scales, plan.df, self._low.reshape(n, -1), places, numbers[:, _TONES], found
        )
        steadiness.judge(packed, places, scales, numbers[:, _TONES], self._residuals.reshape(n), found)
        if self._present.all():
            machine.combine(
                self._low, self._places, chunk.phases[:, :, _FUNDAMENTAL], self._residuals, chunk.scales, self._modulus,
                self._modulus_means, plan.weights, chunk.machine[:, _PARK:], chunk.sequence,
            )  # fmt: skip
        _take_back(numbers, found)


def _take_back(numbers: F8, found: I1) -> None:
    """Leave of what was measured in an unsteady phase only what leakage has not made; numbers (rows, …)."""
    if found.max() < steadiness.NOT_STATIONARY:
        return
    for state, columns in (
        (steadiness.NOT_STATIONARY, (_PEAKS, _TONES)),
        (steadiness.LEAKING, (_LATER_PEAKS, _HARMONICS)),
    ):
        for row in np.flatnonzero(found == state):
            for names in columns:
                numbers[row, names] = np.nan
