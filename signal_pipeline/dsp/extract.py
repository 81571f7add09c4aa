"""The features of a recording's windows: the one way from samples to the numbers of the `features` table.

Here: which windows, in what order, by how many workers, and the table's row for each. Not here: formulas (the
kernels), validation of the record (`validation`), storage. numba is imported by the first call, not by this module.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from signal_pipeline.catalogue import FEATURES
from signal_pipeline.dsp.arrays import F4, F8, I8
from signal_pipeline.dsp.plan import Bands, Plan, plan_for
from signal_pipeline.dsp.windows import WindowGrid

if TYPE_CHECKING:
    from signal_pipeline.dsp.chunks import Measured

Presence = tuple[bool, bool, bool]


@dataclass(frozen=True, slots=True)
class FeatureBlock:
    """Features of n windows.

    `window_numbers` int64 (n,), k on the file's grid; `start_rows` int64 (n,), the file's row of a window's first
    sample; `values` float64 (n, len(COLUMNS)) in the order of `catalogue.COLUMNS`, NaN where a quantity is NULL;
    `null_reasons` (n), None or key -> reason (`catalogue.columns_explained_by` expands a key); `skipped`, the number
    of every window that got no row -> why.
    """

    window_numbers: I8
    start_rows: I8
    values: F8
    null_reasons: tuple[dict[str, str] | None, ...]
    skipped: dict[int, str]


def extract_features(
    phases: F4,
    *,
    grid: WindowGrid,
    start_row: int,
    windows: range,
    present: Presence = (True, True, True),
    max_gap_samples: int,
    bands_hz: Bands,
    workers: int = 1,
) -> FeatureBlock:
    """Every feature of the catalogue for the windows `windows` of a file.

    `phases` float32 (3, n), amperes, NaN where a sample is missing, column 0 being the file's row `start_row`;
    `windows` are numbers on the file's grid, each wholly inside `phases`. A run of NaN of at most `max_gap_samples`
    is interpolated from the window's own samples; a longer one, or more than 5 % filled, skips the window. `present`
    says which phases were recorded. `workers` threads share the work; their number changes no bit of the result,
    and neither does the way a file was split.

    Raises `ValueError` for arguments that contradict each other; never for what the samples are.
    """
    phases = _check(phases, grid=grid, start_row=start_row, windows=windows, max_gap_samples=max_gap_samples)
    plan = plan_for(grid, bands_hz)
    measured = _measure(_Job(phases, plan, start_row, windows, present, max_gap_samples), workers)
    return _as_block(measured, plan, windows, present)


def _check(phases: F4, *, grid: WindowGrid, start_row: int, windows: range, max_gap_samples: int) -> F4:
    """`phases` as the kernels take it: contiguous, aligned, read-only (one type, compiled once)."""
    if phases.ndim != 2 or phases.shape[0] != 3 or phases.dtype != np.float32:
        raise ValueError(f"phases is {phases.dtype} {phases.shape}: float32 (3, n) is needed")
    if windows.step != 1:
        raise ValueError(f"{windows=}: consecutive windows are needed")
    if max_gap_samples < 0:
        raise ValueError(f"{max_gap_samples=} is below 0")
    if windows:
        first, last = windows[0] * grid.hop_length, windows[-1] * grid.hop_length + grid.window_length
        if first < start_row or last > start_row + phases.shape[1]:
            rows = f"rows {start_row} to {start_row + phases.shape[1]}"
            raise ValueError(f"{windows=} cover rows {first} to {last}, but phases holds {rows}")
    contiguous = np.require(phases, requirements=["C", "A"]).view()
    contiguous.flags.writeable = False
    return contiguous


@dataclass(frozen=True, slots=True)
class _Job:
    """What every worker needs to know: the samples, column 0 being row `start_row`, and the windows wanted of them."""

    phases: F4
    plan: Plan
    start_row: int
    windows: range
    present: Presence
    max_gap: int


def _measure(job: _Job, workers: int) -> "Measured":
    from signal_pipeline.dsp.chunks import Measured

    measured = Measured.empty(len(job.windows))
    shares = list(_shares(job.windows, job.plan.chunk, workers))
    if len(shares) == 1:
        _run(job, shares[0], measured)
    elif shares:
        with ThreadPoolExecutor(len(shares)) as pool:
            list(pool.map(lambda share: _run(job, share, measured), shares))
    return measured


def _run(job: _Job, chunks: range, measured: "Measured") -> None:
    """Measure the chunks of these numbers, into their rows of `measured`."""
    from signal_pipeline.dsp.chunks import Workspace

    workspace = Workspace(job.plan, present=job.present, max_gap=job.max_gap)
    for number in chunks:
        workspace.measure(job.phases, start_row=job.start_row, number=number, windows=job.windows, into=measured)


def _shares(windows: range, chunk: int, workers: int) -> Iterator[range]:
    """The numbers of the chunks that hold `windows`, cut into at most `workers` stretches."""
    if not windows:
        return
    first, stop = windows.start // chunk, (windows.stop - 1) // chunk + 1
    size = -(-(stop - first) // max(1, workers))
    for start in range(first, stop, size):
        yield range(start, min(start + size, stop))


@lru_cache(maxsize=1)
def _order() -> tuple[Any, ...]:
    """The place of every column among the kernels' numbers: phases first, then machine."""
    from signal_pipeline.dsp.chunks import MACHINE_NAMES, PHASE_NAMES

    places = []
    for feature in FEATURES:
        if feature.scope == "phase":
            places += [phase * len(PHASE_NAMES) + PHASE_NAMES.index(feature.name) for phase in range(3)]
        else:
            places.append(3 * len(PHASE_NAMES) + MACHINE_NAMES.index(feature.name))
    return tuple(places)


def _as_block(measured: "Measured", plan: Plan, windows: range, present: Presence) -> FeatureBlock:
    from signal_pipeline.dsp.chunks import PHASE_NAMES, SKIP_REASONS
    from signal_pipeline.dsp.reasons import explain

    kept = measured.take(measured.status == 0)
    numbers = np.asarray(windows, np.int64)[measured.status == 0]
    phases = kept.phases.reshape(len(numbers), 3 * len(PHASE_NAMES))
    values = np.concatenate([phases, kept.machine], axis=1)[:, _order()]
    lacking = np.isnan(values).any(axis=1)
    reasons = iter(explain(kept.take(lacking), present=present, plan=plan))
    return FeatureBlock(
        window_numbers=numbers,
        start_rows=numbers * plan.grid.hop_length,
        values=np.ascontiguousarray(values),
        null_reasons=tuple(next(reasons) if null else None for null in lacking),
        skipped={windows[int(i)]: SKIP_REASONS[int(measured.status[i])] for i in np.flatnonzero(measured.status != 0)},
    )
