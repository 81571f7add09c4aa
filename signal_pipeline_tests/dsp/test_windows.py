"""The grid of windows and the split of a file: laws over all lengths. Not here: samples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_pipeline.dsp.windows import WindowGrid, batch_at, rows_per_batch, split

GRIDS = st.integers(2, 60).flatmap(lambda w: st.builds(WindowGrid, st.just(100.0), st.just(w), st.integers(1, w)))


@given(grid=GRIDS, n_rows=st.integers(0, 500), batch_rows=st.integers(1, 200))
def test_every_window_of_a_file_belongs_to_exactly_one_batch(grid: WindowGrid, n_rows: int, batch_rows: int) -> None:
    owned = [
        k
        for batch in split(n_rows, batch_rows=batch_rows, grid=grid)
        for k in grid.owned(batch.first_row, batch.n_rows)
    ]
    assert owned == list(range(grid.n_windows(n_rows)))


@given(grid=GRIDS, n_rows=st.integers(1, 500), batch_rows=st.integers(1, 200))
def test_a_batch_holds_every_sample_of_the_windows_it_owns(grid: WindowGrid, n_rows: int, batch_rows: int) -> None:
    for batch in split(n_rows, batch_rows=batch_rows, grid=grid):
        for k in grid.owned(batch.first_row, batch.n_rows):
            start = k * grid.hop_length
            assert batch.start <= start
            assert start + grid.window_length <= batch.start + batch.n_samples


@given(grid=GRIDS, n_rows=st.integers(0, 500), batch_rows=st.integers(1, 200))
def test_the_batches_cover_the_file_once(grid: WindowGrid, n_rows: int, batch_rows: int) -> None:
    rows = [
        row
        for b in split(n_rows, batch_rows=batch_rows, grid=grid)
        for row in range(b.first_row, b.first_row + b.n_rows)
    ]
    assert rows == list(range(n_rows))


@given(grid=GRIDS, size=st.integers(1, 5000))
def test_rows_per_batch_are_a_multiple_of_the_hop_and_at_least_one(grid: WindowGrid, size: int) -> None:
    rows = rows_per_batch(size, grid)
    assert rows % grid.hop_length == 0
    assert grid.hop_length <= rows <= max(size, grid.hop_length)


@given(grid=GRIDS, n=st.integers(0, 500))
def test_the_last_window_ends_inside_and_one_more_would_not(grid: WindowGrid, n: int) -> None:
    count = grid.n_windows(n)
    assert count == 0 or (count - 1) * grid.hop_length + grid.window_length <= n
    assert count * grid.hop_length + grid.window_length > n


@given(fs=st.floats(10, 1e6), window_ms=st.floats(300, 10_000), overlap=st.floats(0, 0.99))
def test_every_setting_gives_a_grid_that_moves_forward(fs: float, window_ms: float, overlap: float) -> None:
    grid = WindowGrid.for_rate(fs, window_ms=window_ms, overlap=overlap)
    assert 1 <= grid.hop_length <= grid.window_length


def test_the_typical_grid_is_a_second_in_half_overlap() -> None:
    assert WindowGrid.for_rate(25_600, window_ms=1000, overlap=0.5) == WindowGrid(25_600, 25_600, 12_800)


def test_the_first_batch_has_no_lead_in_and_the_second_a_window_less_one() -> None:
    grid = WindowGrid(1000.0, 1000, 500)
    assert batch_at(0, 2000, batch_rows=2000, grid=grid).lead_in == 0
    assert batch_at(1, 2000, batch_rows=2000, grid=grid).lead_in == 999


@pytest.mark.parametrize(
    ("fs", "window", "hop", "named"),
    [(0.0, 10, 5, "fs"), (float("nan"), 10, 5, "fs"), (10.0, 1, 1, "window_length"), (10.0, 10, 11, "hop_length")],
)
def test_a_grid_that_cannot_be_names_what_is_wrong(fs: float, window: int, hop: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        WindowGrid(fs, window, hop)


def test_a_window_shorter_than_two_samples_names_the_rate() -> None:
    with pytest.raises(ValueError, match="fs=100"):
        WindowGrid.for_rate(100.0, window_ms=10, overlap=0)


def test_a_batch_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="csv_batch_size=0"):
        rows_per_batch(0, WindowGrid(10.0, 4, 2))
