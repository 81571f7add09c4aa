"""CSV files to batches of samples, in one pass and in bounded memory; and a part of a file again, later.

Here: cutting a file's rows into batches on its own window grid, where each batch begins in bytes, and the file's
hash. Not here: how a line becomes numbers (`blocks`, `cells`), which files may be read (`sources`), or the database
(`loader`).
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.domain import FailureReason
from signal_pipeline.dsp.windows import Batch, WindowGrid, batch_at
from signal_pipeline.errors import CSVLoaderError
from signal_pipeline.ingest.blocks import Block, line_blocks, read_chunks
from signal_pipeline.ingest.cells import BlockParser
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.layout import MAX_LINE_BYTES, CsvLayout, find_layout
from signal_pipeline.ingest.sources import open_csv, printable

_HASHES_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class CsvBatch:
    """One batch of a file; `samples` is C-contiguous float32 (3, batch.n_samples), NaN where a cell is empty."""

    batch: Batch
    samples: NDArray[np.float32]
    byte_offset: int
    """The file's byte at which the row `batch.start` begins."""


@dataclass(frozen=True, slots=True)
class CsvFacts:
    """What is known of a file once it has been read to its end."""

    sha256: str
    n_bytes: int
    n_rows: int
    column_has_values: tuple[bool, bool, bool]
    """For the phases R, S, T: whether any cell of the whole file holds a number. False = the phase was not recorded."""
    dialect: CsvDialect
    """The dialect asked for, with the delimiter that was found: store this one."""


class BatchReader:
    """The batches of one file, by iterating once; `facts` afterwards.

    Iterating raises `FileRejected` if the file cannot be opened, and `CSVLoaderError` for what is wrong with its
    content: for bad cells only at the end of the file, when all of them have been counted. No batch follows the first
    bad cell.
    """

    def __init__(self, path: Path, *, dialect: CsvDialect, grid: WindowGrid, batch_rows: int) -> None:
        if batch_rows < 1:
            raise ValueError(f"batch_rows={batch_rows}: a batch needs at least 1 row")
        self._path = path
        self._dialect = dialect
        self._grid = grid
        self._batch_rows = batch_rows
        self._facts: CsvFacts | None = None

    @property
    def facts(self) -> CsvFacts:
        """Raises `RuntimeError` before the last batch has been taken."""
        if self._facts is None:
            raise RuntimeError(f"{printable(self._path.name)} has not been read to its end yet")
        return self._facts

    def __iter__(self) -> Iterator[CsvBatch]:
        name = printable(self._path.name)
        with _opened(self._path) as (file, n_bytes):
            layout = find_layout(_head(file), dialect=self._dialect, name=name)
            digest = hashlib.sha256()
            chunks = read_chunks(file, n_bytes=n_bytes, digest=digest)
            parser = BlockParser(layout, name)
            cutter = _BatchCutter(self._grid, self._batch_rows)
            blocks = line_blocks(chunks, layout=layout, name=name, offset=0, skip=layout.data_offset, first_row=0)
            for block, samples in parser.parse_all(blocks):
                if not parser.bad.count:
                    yield from cutter.push(samples, block.starts)
        if parser.bad.count:
            raise parser.bad.error()
        if not cutter.n_rows:
            raise CSVLoaderError(f"{name}: a header, and no row below it")
        yield from cutter.rest()
        self._facts = CsvFacts(
            sha256=digest.hexdigest(),
            n_bytes=n_bytes,
            n_rows=cutter.n_rows,
            column_has_values=cutter.has_values,
            dialect=replace(self._dialect, delimiter=layout.delimiter),
        )


def read_batches(path: Path, *, dialect: CsvDialect, grid: WindowGrid, batch_rows: int) -> BatchReader:
    """The file at the resolved `path`, cut every `batch_rows` rows (see `dsp.windows.rows_per_batch`)."""
    return BatchReader(path, dialect=dialect, grid=grid, batch_rows=batch_rows)


def read_rows(path: Path, *, dialect: CsvDialect, start_row: int, n_rows: int, byte_offset: int) -> NDArray[np.float32]:
    """Rows [start_row, start_row + n_rows) again; the first begins at `byte_offset`, and nothing before it is parsed.

    Returns C-contiguous float32 of shape (3, n_rows), bit for bit as the batches had it. Raises `FileRejected`, and
    `CSVLoaderError`; with the reason `file_changed` where the file no longer has these rows at that place.
    """
    if n_rows < 1:
        raise ValueError(f"n_rows={n_rows}: at least 1 row is read")
    name = printable(path.name)
    parts: list[NDArray[np.float32]] = []
    missing = n_rows
    with _opened(path) as (file, n_bytes):
        layout = find_layout(_head(file), dialect=dialect, name=name)
        if (start_row == 0) != (byte_offset == layout.data_offset) or not _is_line_start(file, byte_offset, layout):
            raise _changed(f"{name}: row {start_row + 1} does not begin at byte {byte_offset}; the file has changed")
        file.seek(byte_offset)
        chunks = read_chunks(file, n_bytes=n_bytes - byte_offset)
        parser = BlockParser(layout, name)
        blocks = line_blocks(chunks, layout=layout, name=name, offset=byte_offset, first_row=start_row)
        for _, samples in parser.parse_all(_first_rows(blocks, n_rows)):
            parts.append(samples)
            missing -= samples.shape[1]
    if parser.bad.count:
        raise parser.bad.error()
    if missing:
        raise _changed(
            f"{name}: {n_rows} rows from row {start_row + 1} on were loaded once; {missing} of them are gone"
        )
    return np.concatenate(parts, axis=1)


def _first_rows(blocks: Iterable[Block], n_rows: int) -> Iterator[Block]:
    for block in blocks:
        yield block.first(n_rows)
        n_rows -= block.n_rows
        if n_rows <= 0:
            return


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of the file at the resolved `path`, read once as long as its size, times and inode stay the same.

    Raises `FileRejected`, and `CSVLoaderError` (`file_changed`) if it changes while it is read.
    """
    with open_csv(path) as file:
        found = os.fstat(file.fileno())
    return _sha256(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@lru_cache(maxsize=_HASHES_KEPT)
def _sha256(path: Path, _identity: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    with _opened(path) as (file, n_bytes):
        for _chunk in read_chunks(file, n_bytes=n_bytes, digest=digest):
            pass
    return digest.hexdigest()


class _BatchCutter:
    """Rows in, batches out; holds at most one batch and one block."""

    def __init__(self, grid: WindowGrid, batch_rows: int) -> None:
        self._grid = grid
        self._batch_rows = batch_rows
        self._parts: list[NDArray[np.float32]] = []
        self._offsets: deque[int] = deque()
        self._n_offsets = 0
        self._next = 0
        self._held_from = 0
        self.n_rows = 0
        self._has_values = np.zeros(3, np.bool_)

    @property
    def has_values(self) -> tuple[bool, bool, bool]:
        """For each phase, whether any number came so far."""
        first, second, third = self._has_values.tolist()
        return first, second, third

    def push(self, samples: NDArray[np.float32], starts: NDArray[np.int64]) -> Iterator[CsvBatch]:
        """Take the file's next rows, (3, n), which begin at the bytes `starts`; give the batches that are now whole."""
        self._has_values |= ~np.isnan(samples).all(axis=1)
        while (start := self._batch(self._n_offsets, self._batch_rows).start) < self.n_rows + starts.size:
            self._offsets.append(int(starts[start - self.n_rows]))
            self._n_offsets += 1
        self._parts.append(samples)
        self.n_rows += starts.size
        if self.n_rows < (self._next + 1) * self._batch_rows:
            return
        held = np.concatenate(self._parts, axis=1)
        self._parts = []
        while (batch := self._batch(self._next, self._batch_rows)).first_row + batch.n_rows <= self.n_rows:
            yield self._cut(held, batch)
        keep_from = self._batch(self._next, self._batch_rows).start
        self._parts = [held[:, keep_from - self._held_from :].copy()]
        self._held_from = keep_from

    def rest(self) -> Iterator[CsvBatch]:
        """The last batch, if it is not a whole one."""
        n_rows = self.n_rows - self._next * self._batch_rows
        if n_rows:
            yield self._cut(np.concatenate(self._parts, axis=1), self._batch(self._next, n_rows))

    def _cut(self, held: NDArray[np.float32], batch: Batch) -> CsvBatch:
        self._next += 1
        begin = batch.start - self._held_from
        # a copy, always: who gets the batch may change it, and its last rows are the next one's lead-in
        samples = held[:, begin : begin + batch.n_samples].copy()
        return CsvBatch(batch, samples, self._offsets.popleft())

    def _batch(self, index: int, n_rows: int) -> Batch:
        return batch_at(index, n_rows, batch_rows=self._batch_rows, grid=self._grid)


def _head(file: BinaryIO) -> bytes:
    head = file.read(MAX_LINE_BYTES + 1)
    file.seek(0)
    return head


def _is_line_start(file: BinaryIO, offset: int, layout: CsvLayout) -> bool:
    if offset <= layout.data_offset:
        return offset == layout.data_offset
    file.seek(offset - 1)
    return file.read(1) == b"\n"


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The open file and its size; if it has changed by the end, that is the error, whatever was read meanwhile."""
    with open_csv(path) as file:
        before = os.fstat(file.fileno())
        try:
            yield file, before.st_size
        except CSVLoaderError as error:
            _check_unchanged(file, before, printable(path.name), cause=error)
            raise
        _check_unchanged(file, before, printable(path.name))


def _check_unchanged(file: BinaryIO, before: os.stat_result, name: str, *, cause: CSVLoaderError | None = None) -> None:
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _changed(
            f"{name}: changed while it was read, from {before.st_size} to {after.st_size} bytes; "
            "load it when it is complete"
        ) from cause


def _changed(message: str) -> CSVLoaderError:
    return CSVLoaderError(message, reason=FailureReason.FILE_CHANGED)
