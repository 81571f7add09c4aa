"""Blocks of lines to float32 samples: fast while the cells are numbers, cell by cell where they are not.

Here: what pyarrow is asked, and when its answer is not enough. Not here: what to say about a bad cell (`bad_cells`).
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.errors import CSVLoaderError
from signal_pipeline.ingest.bad_cells import MAX_NAMED, BadCell, BadCells, broken_line_error, number_in
from signal_pipeline.ingest.blocks import BLOCK_BYTES, Block
from signal_pipeline.ingest.layout import CsvLayout
from signal_pipeline.ingest.quoted_lines import unwrapped
from signal_pipeline.ingest.side_by_side import side_by_side

# one block is one piece for pyarrow too
_PYARROW_BLOCK: Final = 4 * BLOCK_BYTES

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(slots=True)
class BlockParser:
    """Parses the blocks of one file, and collects its bad cells on the way."""

    layout: CsvLayout
    name: str
    bad: BadCells = field(init=False)

    def __post_init__(self) -> None:
        self.bad = BadCells(self.name, self.layout)

    def parse_all(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, NDArray[np.float32]]]:
        """Each block and its samples, float32 (3, n_rows), NaN where a cell is empty or bad, in the file's order.

        Several blocks are parsed at once; what is wrong with one is looked for when its turn has come, so that cells
        and lines are named in the file's order. Bad cells are added to `bad`. Raises `CSVLoaderError` for a line that
        is no row: where the table itself is broken, its cells cannot be named.
        """
        for block, samples in side_by_side(self._numbers, blocks):
            yield block, self._slow(block) if samples is None else samples

    def _numbers(self, block: Block) -> NDArray[np.float32] | None:
        """The samples of a block in which nothing is wrong; any thread may ask."""
        data = self._lines(block)
        if data is None:
            return None
        # pyarrow would take a lone CR for the end of a row, read "1"2 as 12, and pass over a mark before a number
        quotes = _has_broken_quotes(data, self.layout.delimiter.encode())
        misread = _has_lone_returns(block.data) or quotes or data.startswith(BYTE_ORDER_MARK)
        return None if misread else self._fast(data, block.n_rows)

    def _lines(self, block: Block) -> bytes | None:
        """The lines as they would stand in any other file; None if a quote stands where none belongs."""
        return unwrapped(block) if self.layout.quoted_lines else block.data

    def _fast(self, data: bytes, n_rows: int) -> NDArray[np.float32] | None:
        """The samples, or None if anything at all is wrong with the block."""
        import pyarrow as pa

        try:
            table = self._table(data, pa.float64())
        except pa.ArrowInvalid:
            return None
        if table.num_rows != n_rows:
            return None
        samples = self._all_gaps(n_rows)
        for phase, column in self._columns(table):
            with np.errstate(over="ignore"):
                samples[phase] = _to_numpy(column)
            # `nan`, `inf` and 1e39 all parse; only an empty cell may be no number
            if np.count_nonzero(~np.isfinite(samples[phase])) != column.null_count:
                return None
        return samples

    def _slow(self, block: Block) -> NDArray[np.float32]:
        """The same, cell by cell, with every bad cell noted."""
        import pyarrow as pa

        if _has_lone_returns(block.data):
            raise self._broken(block, "carriage returns")
        data = self._lines(block)
        if data is None or _has_broken_quotes(data, self.layout.delimiter.encode()):
            raise self._broken(block, "quotes")
        if data.startswith(BYTE_ORDER_MARK):
            raise self._broken(block, "a byte order mark in the middle of the file; were two files joined?")
        try:
            table = self._table(data, pa.binary())
        except pa.ArrowInvalid as error:
            raise self._broken(block, str(error)) from error
        if table.num_rows != block.n_rows:
            raise self._broken(block, f"{table.num_rows} rows in {block.n_rows} lines")
        samples = self._all_gaps(block.n_rows)
        first: list[BadCell] = []
        count = 0
        for phase, column in self._columns(table):
            cells = column.to_pylist()
            numbers = [number_in(cell or b"", decimal=self.layout.decimal) for cell in cells]
            samples[phase] = [math.nan if number is None else number for number in numbers]
            bad_rows = [row for row, number in enumerate(numbers) if number is None]
            count += len(bad_rows)
            first += [BadCell(block.first_row + row, phase, cells[row]) for row in bad_rows[:MAX_NAMED]]
        self.bad.add(sorted(first), count=count)
        return samples

    def _table(self, data: bytes, cell_type: Any) -> Any:
        import pyarrow as pa
        from pyarrow import csv

        wanted = [str(index) for index in self.layout.indices if index is not None]
        return csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(
                column_names=[str(index) for index in range(self.layout.n_columns)],
                block_size=_PYARROW_BLOCK,
                use_threads=False,
            ),
            parse_options=csv.ParseOptions(delimiter=self.layout.delimiter),
            convert_options=csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, cell_type),
                null_values=[""],
                decimal_point=self.layout.decimal,
            ),
        )

    def _columns(self, table: Any) -> list[tuple[int, Any]]:
        return [
            (phase, table.column(str(index))) for phase, index in enumerate(self.layout.indices) if index is not None
        ]

    def _all_gaps(self, n_rows: int) -> NDArray[np.float32]:
        return np.full((len(self.layout.indices), n_rows), np.nan, np.float32)

    def _broken(self, block: Block, reported: str) -> CSVLoaderError:
        return broken_line_error(block, layout=self.layout, name=self.name, reported=reported)


def _has_broken_quotes(data: bytes, delimiter: bytes) -> bool:
    """Whether a cell that begins with a quote does not end with one; its doubled quotes stand for themselves."""
    if b'"' not in data:
        return False
    begin, end = rb"(?<![^\n" + delimiter + rb"])", rb"(?=[\r\n" + delimiter + rb"])"
    rest = re.sub(begin + rb'"(?:[^"\n]|"")*"' + end, b"", data)
    return re.search(begin + b'"', rest) is not None


def _has_lone_returns(data: bytes) -> bool:
    return b"\r" in data and data.count(b"\r") != data.count(b"\r\n")


def _to_numpy(column: Any) -> NDArray[np.float64]:
    """A float64 column with NaN for its nulls; Arrow's own `to_numpy` imports pandas, which costs a worker a second."""
    chunk = column.chunk(0)
    validity, values = chunk.buffers()
    numbers = np.frombuffer(values, np.float64, len(chunk), offset=8 * chunk.offset)
    if validity is None:
        return numbers
    present = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")[chunk.offset :][: len(chunk)]
    return np.where(present, numbers, np.nan)
