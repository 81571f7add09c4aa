"""Cells that hold no number, and lines that are no rows: found one by one, counted, and named.

Here: what counts as a number, the list of bad cells and its message, and the search for the line that breaks the
table. Not here: fast parsing (`cells`), which comes here only with a block that it could not read.
"""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from signal_pipeline.counted import counted
from signal_pipeline.errors import CSVLoaderError
from signal_pipeline.ingest.blocks import Block, blank_line_error
from signal_pipeline.ingest.layout import CsvLayout
from signal_pipeline.ingest.quoted_lines import unwrapped_line
from signal_pipeline.ingest.sources import printable

MAX_NAMED: Final = 10
_MAX_SHOWN: Final = 40

# each digit can be matched in one way only: a cell of 64 kB must not cost its square
_NUMBER: Final = re.compile(rb"[ \t]*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*")
_ROUNDS_TO_INFINITY: Final = (2 - 2**-24) * 2.0**127  # half a step above the largest float32
_DECIMAL_COMMA: Final = re.compile(rb"[ \t]*[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?[ \t]*")


def number_in(cell: bytes, *, decimal: str = ".") -> float | None:
    """The cell's number, NaN for a blank cell (a gap), None for anything else, infinities included.

    Only ASCII decimal numbers with the mark `decimal` count. With a point `nan`, `inf`, `0x10`, `1_000`, `1,5` and `١٢`
    do not, nor does what float32 cannot hold (from about 3.4e38).
    """
    if not cell.strip(b" \t"):
        return math.nan
    if decimal == ",":
        if b"." in cell:
            return None
        cell = cell.replace(b",", b".")
    if _NUMBER.fullmatch(cell) is None:
        return None
    value = float(cell)
    return value if abs(value) < _ROUNDS_TO_INFINITY else None


class BadCell(NamedTuple):
    """A cell that holds no number: data row from 0, phase 0 to 2, and what stands there."""

    row: int
    phase: int
    content: bytes


@dataclass(slots=True)
class BadCells:
    """Every bad cell of one file: all counted, the first `MAX_NAMED` kept by name."""

    name: str
    layout: CsvLayout
    count: int = 0
    named: list[str] = field(default_factory=list)
    remedy: str = ""

    def add(self, cells: Sequence[BadCell], *, count: int) -> None:
        """`count` more bad cells, the first of which are `cells`, in the order of the file's rows."""
        if not self.count and cells:
            self.remedy = _remedy(cells[0], layout=self.layout)
        self.count += count
        for cell in cells[: MAX_NAMED - len(self.named)]:
            shown = printable(cell.content.decode("utf-8", "backslashreplace"), limit=_MAX_SHOWN)
            place = f"row {cell.row + 1} (line {self.layout.line_of(cell.row)})"
            self.named.append(f"{place}, {self.layout.labels[cell.phase]}: '{shown}'")

    def error(self) -> CSVLoaderError:
        """One error for all of them."""
        cells = counted(self.count, "cell holds", "cells hold")
        more = f"; and {self.count - len(self.named)} more" if self.count > len(self.named) else ""
        return CSVLoaderError(f"{self.name}: {cells} no number: {'; '.join(self.named)}{more}. {self.remedy}")


def broken_line_error(block: Block, *, layout: CsvLayout, name: str, reported: str) -> CSVLoaderError:
    """The error for the first line of `block` that is no row, or else for what the fast parser `reported`."""
    for row, data in enumerate(block.data.split(b"\n")[:-1], start=block.first_row):
        number = layout.line_of(row)
        line = data.removesuffix(b"\r")
        inner = unwrapped_line(line) if layout.quoted_lines else line
        if (wrong := _wrong_bytes(line)) is not None:
            return CSVLoaderError(f"{name}: line {number} {wrong}")
        if inner is not None and not inner.strip(b" "):
            return blank_line_error(name, number)
        n_cells = None if inner is None else _n_cells(inner, layout.delimiter)
        if n_cells is None:
            return CSVLoaderError(f"{name}: line {number} has a quote that is not closed, or text after a closed one")
        if n_cells != layout.n_columns:
            return _ragged_error(name, number, n_cells, layout)
    return CSVLoaderError(
        f"{name}: lines {layout.line_of(block.first_row)} to {layout.line_of(block.first_row + block.n_rows - 1)} "
        f"could not be read: {printable(reported)}"
    )


def _wrong_bytes(line: bytes) -> str | None:
    """What is wrong with a line whatever its cells are; None if nothing is."""
    if b"\x00" in line:
        return "holds NUL bytes: the file is damaged, was not written to its end, or is no UTF-8 text"
    if b"\r" in line.rstrip(b"\r"):
        return "holds a CR without LF; save the file with LF or CRLF line ends"
    return "ends in CR CR LF; save the file with LF or CRLF line ends" if b"\r" in line else None


def _n_cells(line: bytes, delimiter: str) -> int | None:
    """How many cells a line has, from 1; None if its quotes are broken."""
    try:
        return len(next(csv.reader([line.decode("latin-1")], delimiter=delimiter, strict=True)))
    except csv.Error:
        return None


def _ragged_error(name: str, line: int, found: int, layout: CsvLayout) -> CSVLoaderError:
    hint = ""
    if layout.delimiter == "," and found >= 2 * layout.n_columns:
        hint = "; are these decimal commas? Export with decimal points"
    place = "line 1" if layout.header_lines == 0 or line == 1 else "the header"
    return CSVLoaderError(f"{name}: line {line} has {found} cell(s), {place} has {layout.n_columns}{hint}")


def _remedy(bad: BadCell, *, layout: CsvLayout) -> str:
    cell = bad.content
    if layout.decimal == "." and _DECIMAL_COMMA.fullmatch(cell):
        remedy = "export with decimal points" if layout.delimiter == "," else "load it again with --decimal-comma"
        return f"These look like decimal commas: {remedy}."
    if layout.decimal == "," and b"." in cell and _NUMBER.fullmatch(cell):
        return "These look like decimal points: leave out --decimal-comma."
    if b"\x00" in cell:
        return "There are NUL bytes in the data: the file is damaged, or not saved as UTF-8 text."
    if not cell.isascii():
        return "There are characters outside ASCII in the numbers: save the file as UTF-8 text with the digits 0 to 9."
    if bad.row == 0 and layout.header_lines == 0:
        return "If line 1 is a header, leave out --no-header."
    return "A cell holds a decimal number that float32 can hold, or nothing where a sample is missing."
