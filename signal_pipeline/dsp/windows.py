"""The grid of windows over a recording, and how a long file is split without moving it.

Windows sit on the *file's* own grid: window k covers the file's samples [k*hop, k*hop + W). A batch of a split
file owns the windows whose **last** sample is one of its new rows; a lead-in of at most W-1 earlier rows makes
each of them whole. So every window belongs to exactly one batch, whatever the batch size. Not here: any sample.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """Window and hop in samples, at one sample rate (Hz)."""

    fs: float
    window_length: int
    hop_length: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fs) and self.fs > 0):
            raise ValueError(f"fs={self.fs!r} Hz: a sample rate must be finite and above 0")
        if self.window_length < 2:
            raise ValueError(f"window_length={self.window_length}: a window needs at least 2 samples")
        if not 1 <= self.hop_length <= self.window_length:
            raise ValueError(f"hop_length={self.hop_length} must lie in 1..window_length={self.window_length}")

    @classmethod
    def for_rate(cls, fs: float, *, window_ms: float, overlap: float) -> "WindowGrid":
        """The grid for windows of `window_ms` that share `overlap` (0 <= overlap < 1) of their length."""
        if not (math.isfinite(fs) and fs > 0):
            raise ValueError(f"fs={fs!r} Hz: a sample rate must be finite and above 0")
        window_length = round(fs * window_ms / 1000)
        if window_length < 2:
            raise ValueError(f"a window of {window_ms} ms at fs={fs} Hz holds {window_length} samples; 2 are needed")
        return cls(fs, window_length, max(1, round(window_length * (1 - overlap))))

    def n_windows(self, n_samples: int) -> int:
        """How many whole windows `n_samples` from the file's start hold."""
        return max(0, (n_samples - self.window_length) // self.hop_length + 1)

    def owned(self, first_row: int, n_rows: int) -> range:
        """Numbers k of the windows that end in the file's rows [first_row, first_row + n_rows)."""
        return range(self.n_windows(first_row), self.n_windows(first_row + n_rows))


@dataclass(frozen=True, slots=True)
class Batch:
    """A stretch of a file's rows: `lead_in` rows before `first_row`, then `n_rows` new ones."""

    index: int
    first_row: int
    n_rows: int
    lead_in: int

    @property
    def start(self) -> int:
        """The file's row at which the batch's samples, lead-in included, begin."""
        return self.first_row - self.lead_in

    @property
    def n_samples(self) -> int:
        return self.lead_in + self.n_rows


def rows_per_batch(csv_batch_size: int, grid: WindowGrid) -> int:
    """`csv_batch_size` rounded down to a multiple of the hop, at least one hop."""
    if csv_batch_size < 1:
        raise ValueError(f"csv_batch_size={csv_batch_size}: a batch needs at least 1 row")
    return max(1, csv_batch_size // grid.hop_length) * grid.hop_length


def batch_at(index: int, n_rows: int, *, batch_rows: int, grid: WindowGrid) -> Batch:
    """Batch number `index`, holding `n_rows` new rows, of a file cut every `batch_rows` rows."""
    first_row = index * batch_rows
    return Batch(index, first_row, n_rows, lead_in=min(first_row, grid.window_length - 1))


def split(n_rows: int, *, batch_rows: int, grid: WindowGrid) -> Iterator[Batch]:
    """The batches of a file of `n_rows` rows, in order."""
    for index, first_row in enumerate(range(0, n_rows, batch_rows)):
        yield batch_at(index, min(batch_rows, n_rows - first_row), batch_rows=batch_rows, grid=grid)
