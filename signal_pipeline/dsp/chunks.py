"""A few windows at a time through the kernels: time domain, transform, spectrum, tones.

Here: the buffers and the order of the calls. Not here: formulas (the kernels), the table's order, reasons for NULL.
Imports numba, so it is imported inside the function that needs it.

A window's place in its chunk is its number on the file's grid modulo the chunk's size, and every chunk is
transformed whole, its empty places zero. A window therefore meets the same code at the same place however the file
is split; the transform treats the rows of a call in groups of a machine's width and the remainder one by one.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import scipy.fft

from signal_pipeline.dsp import spectrum, tones, waveform
from signal_pipeline.dsp.arrays import F4, F8, I1, I8, Bools
from signal_pipeline.dsp.plan import MAX_FILLED, Plan

PHASE_NAMES: Final = (*waveform.NAMES, *spectrum.NAMES, *tones.NAMES)
MACHINE_NAMES: Final = (*waveform.PARK_NAMES, *tones.MACHINE_NAMES)
SKIP_REASONS: Final = {waveform.GAP_TOO_LONG: "gap_too_long", waveform.TOO_MUCH_FILLED: "too_much_filled"}

_A: Final = len(waveform.NAMES)
_B: Final = _A + len(spectrum.NAMES)
_PARK: Final = len(waveform.PARK_NAMES)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the kernels found in n windows, in the kernels' own order; NaN where a quantity is undefined.

    `phases` (n, 3, len(PHASE_NAMES)), `machine` (n, len(MACHINE_NAMES)), `scales` (n, 3) A and 0 for a constant
    phase, `status` (n,) of `waveform`, `found` (n, 4) of `tones`.
    """

    phases: F8
    machine: F8
    scales: F8
    status: I1
    found: I1

    @classmethod
    def empty(cls, n: int) -> "Measured":
        return cls(
            phases=np.full((n, 3, len(PHASE_NAMES)), np.nan),
            machine=np.full((n, len(MACHINE_NAMES)), np.nan),
            scales=np.zeros((n, 3)),
            status=np.full(n, waveform.EMPTY, np.int8),
            found=np.full((n, 4), tones.TOO_SHORT, np.int8),
        )

    def put(self, rows: slice, other: "Measured", wanted: Bools) -> None:
        """Copy the `wanted` windows of `other` to `rows`."""
        self.phases[rows] = other.phases[wanted]
        self.machine[rows] = other.machine[wanted]
        self.scales[rows] = other.scales[wanted]
        self.status[rows] = other.status[wanted]
        self.found[rows] = other.found[wanted]


@dataclass(slots=True)
class Workspace:
    """The buffers of one worker, used again for every chunk."""

    plan: Plan
    z: F4 = field(init=False)
    tapered: F4 = field(init=False)
    modulus: F4 = field(init=False)
    power: F4 = field(init=False)
    chunk: Measured = field(init=False)

    def __post_init__(self) -> None:
        n, w = self.plan.chunk, self.plan.grid.window_length
        self.z = np.empty((3, w), np.float32)
        self.tapered = np.empty((n, 3, w), np.float32)
        self.modulus = np.empty((n, w), np.float32)
        self.power = np.empty((n, 3, self.plan.n_bins), np.float32)
        self.chunk = Measured.empty(n)

    def measure(self, phases: F4, present: Bools, starts: I8, max_gap: int) -> Measured:
        """Measure the windows that start at the columns `starts` (chunk,) of `phases` (3, n), -1 for an empty place.

        The result is overwritten by the next call.
        """
        plan, chunk = self.plan, self.chunk
        gaps = np.array([max_gap, int(MAX_FILLED * plan.grid.window_length)], np.int64)
        levels = np.empty((plan.chunk, 3, _A))
        park = np.empty((plan.chunk, _PARK))
        waveform.prepare(
            phases, present, starts, gaps, plan.weights,
            self.z, self.tapered, self.modulus, levels, chunk.scales, park, chunk.status,
        )  # fmt: skip
        chunk.phases[:, :, :_A] = levels
        chunk.machine[:, :_PARK] = park
        if plan.spectral:
            self._transform(all_present=bool(present.all()))
        return chunk

    def _transform(self, *, all_present: bool) -> None:
        plan, chunk = self.plan, self.chunk
        shape = np.empty((plan.chunk, 3, _B - _A))
        tone = np.empty((plan.chunk, 3, len(tones.NAMES)))
        machine = np.empty((plan.chunk, len(tones.MACHINE_NAMES)))
        bins = scipy.fft.rfft(self.tapered, axis=-1)
        even = plan.grid.window_length % 2 == 0
        spectrum.describe(
            bins.view(np.float32), self.power, chunk.status, chunk.scales, plan.bands, plan.df, plan.gain, even, shape
        )
        totals = np.ascontiguousarray(shape[:, :, spectrum.NAMES.index("total_power")])
        tones.describe(
            bins, self.power, totals, self.modulus, plan.weights, chunk.status, chunk.scales,
            all_present, plan.last_line, plan.df, plan.gain, tone, machine, chunk.found,
        )  # fmt: skip
        chunk.phases[:, :, _A:_B] = shape
        chunk.phases[:, :, _B:] = tone
        chunk.machine[:, _PARK:] = machine
