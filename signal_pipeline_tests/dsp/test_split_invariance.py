"""The windows of a split file are the windows of the unsplit file, bit for bit. Not here: what the numbers are."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signal_pipeline.dsp.extract import FeatureBlock, extract_features
from signal_pipeline.dsp.plan import plan_for
from signal_pipeline.dsp.windows import Batch, WindowGrid, rows_per_batch, split
from signal_pipeline_tests.dsp.signals import BANDS, Phases, extract, motor


def of_batch(phases: Phases, batch: Batch, grid: WindowGrid, *, max_gap: int, workers: int = 1) -> FeatureBlock:
    """The features of one batch, from its own samples only, as the pipeline has them."""
    return extract_features(
        phases[:, batch.start : batch.start + batch.n_samples].copy(),
        grid=grid,
        start_row=batch.start,
        windows=grid.owned(batch.first_row, batch.n_rows),
        max_gap_samples=max_gap,
        bands_hz=BANDS,
        workers=workers,
    )


def assert_same_when_split(phases: Phases, grid: WindowGrid, batch_size: int, *, max_gap: int) -> None:
    whole = extract(phases, grid, max_gap=max_gap)
    batches = split(phases.shape[1], batch_rows=rows_per_batch(batch_size, grid), grid=grid)
    parts = [of_batch(phases, batch, grid, max_gap=max_gap) for batch in batches]
    assert np.array_equal(np.concatenate([part.window_numbers for part in parts]), whole.window_numbers)
    assert np.array_equal(np.concatenate([part.start_rows for part in parts]), whole.start_rows)
    assert np.array_equal(np.concatenate([part.values for part in parts]), whole.values, equal_nan=True)
    assert sum((part.null_reasons for part in parts), ()) == whole.null_reasons
    assert {k: why for part in parts for k, why in part.skipped.items()} == whole.skipped


@settings(max_examples=60, deadline=None)
@given(
    fs=st.sampled_from([200.0, 999.0, 1000.0, 2560.0, 12_345.6]),
    window_ms=st.floats(20, 1000),
    overlap=st.floats(0, 0.9),
    seconds=st.floats(0, 4),
    batch_size=st.integers(1, 20_000),
    max_gap=st.integers(0, 5),
    holes=st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1), st.integers(1, 8)), max_size=6),
    seed=st.integers(0, 5),
)
def test_splitting_a_file_changes_no_bit_of_any_window(
    *,
    fs: float,
    window_ms: float,
    overlap: float,
    seconds: float,
    batch_size: int,
    max_gap: int,
    holes: list[tuple[int, float, int]],
    seed: int,
) -> None:
    grid = WindowGrid.for_rate(fs, window_ms=window_ms, overlap=overlap)
    n = min(int(fs * seconds) + 1, 60 * grid.hop_length + grid.window_length)
    phases = motor(n, fs=fs, noise=0.3, seed=seed)
    for phase, where, length in holes:
        start = int(where * (n - 1))
        phases[phase, start : start + length] = np.nan
    assert_same_when_split(phases, grid, max(batch_size, n // 40), max_gap=max_gap)


@pytest.mark.parametrize("batch_size", [12_800, 38_400, 64_000, 1_536_000])
def test_splitting_a_long_recording_at_the_typical_rate_changes_no_bit(batch_size: int) -> None:
    grid = WindowGrid.for_rate(25_600, window_ms=1000, overlap=0.5)
    assert_same_when_split(motor(160_000, fs=25_600, noise=0.2), grid, batch_size, max_gap=25)


@pytest.mark.parametrize("window_length", [1000, 1024, 2558, 2557])
def test_a_window_does_not_depend_on_the_windows_computed_with_it(window_length: int) -> None:
    """Every window alone, and with every number of neighbours: the transform's remainder path must not show."""
    grid = WindowGrid(2560.0, window_length, window_length // 2)
    n = 70 * grid.hop_length + window_length
    phases = motor(n, fs=grid.fs, noise=0.2)
    whole = extract(phases, grid)
    for first, count in [(k, 1) for k in range(0, 70, 7)] + [(3, c) for c in range(2, 60, 5)]:
        part = extract_features(
            phases, grid=grid, start_row=0, windows=range(first, first + count), max_gap_samples=3, bands_hz=BANDS
        )
        assert np.array_equal(part.values, whole.values[first : first + count], equal_nan=True)


def test_samples_anywhere_in_memory_give_the_same_bits() -> None:
    grid = WindowGrid(2560.0, 1003, 501)
    phases = motor(5000, fs=grid.fs, noise=0.2)
    expected = extract(phases, grid).values
    for offset in range(1, 9):
        room = np.empty(3 * 5000 + 16, np.float32)
        moved = room[offset : offset + 15_000].reshape(3, 5000)
        moved[:] = phases
        assert np.array_equal(extract(moved, grid).values, expected, equal_nan=True)


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_the_number_of_workers_changes_no_bit(workers: int) -> None:
    grid = WindowGrid(2560.0, 640, 320)
    phases = motor(60_000, fs=grid.fs, noise=0.2)
    one, many = extract(phases, grid), extract(phases, grid, workers=workers)
    assert np.array_equal(one.values, many.values, equal_nan=True)
    assert one.null_reasons == many.null_reasons


def test_signals_extracted_at_once_in_threads_get_the_same_bits() -> None:
    grid = WindowGrid(2560.0, 640, 320)
    signals = [motor(20_000, fs=grid.fs, noise=0.2, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda phases: extract(phases, grid).values, signals))
    for phases, values in zip(signals, together, strict=True):
        assert np.array_equal(values, extract(phases, grid).values, equal_nan=True)


def test_a_window_of_minutes_is_taken_alone_and_split_like_any_other() -> None:
    grid = WindowGrid(2560.0, 2**17 + 2, 2**16)
    assert plan_for(grid, BANDS).chunk == 1
    assert_same_when_split(motor(2**17 + 2**16 + 2, fs=grid.fs, noise=0.2), grid, 2**16, max_gap=2)


def test_a_batch_that_owns_no_window_gives_an_empty_block() -> None:
    grid = WindowGrid(1000.0, 1000, 500)
    block = extract(motor(999, fs=1000), grid)
    assert block.values.shape[0] == 0
    assert (block.null_reasons, block.skipped) == ((), {})


def test_a_chunk_is_a_multiple_of_four_windows_so_that_the_transform_fills_its_vectors() -> None:
    for window_length in (16, 1000, 25_600, 2**15):
        assert plan_for(WindowGrid(1000.0, window_length, 1), BANDS).chunk % 4 == 0
