"""A second reading of a CSV, slow and independent of ours: Python's csv and float, the whole text at once.

It shares no code with `signal_pipeline.ingest`, only its limits, and knows the contract: UTF-8 text, one row a line,
decimal numbers that float32 can hold, an empty cell is a gap, blank lines only at the end; and where the first line is
one quoted cell, the others are that or have no quote at all. Not here: messages.
"""

import csv
import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.layout import MAX_COLUMNS, MAX_LINE_BYTES

DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


class NotReadable(Exception):
    """This reading makes no samples of the file."""


def read_slowly(content: bytes, dialect: CsvDialect) -> NDArray[np.float32]:
    """Float32 (3, n), NaN for gaps and for phases that the dialect leaves out. Raises `NotReadable`."""
    # every byte a character: only the names in a header may need more than ASCII, and numbers must not
    text = content.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    lines = text.split("\n")
    while lines and not lines[-1].strip(" \r"):
        lines.pop()
    if not lines:
        raise NotReadable("nothing in it")
    if max(map(len, lines)) > MAX_LINE_BYTES - 8:  # generated lines are far longer, or far shorter
        raise NotReadable("a line too long")
    if "\x00" in lines[0] or content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise NotReadable("a header that is no text")
    first = _decoded(lines[0].removesuffix("\r"))
    delimiter = dialect.delimiter or _delimiter(first, dialect)
    cells = _split(first, delimiter)
    whole_line_quoted = len(cells) == 1 and first.lstrip().startswith('"') and delimiter in cells[0]
    if whole_line_quoted:
        cells = _split(cells[0], delimiter)
        lines = [lines[0], *(_unwrapped(line.removesuffix("\r"), delimiter) for line in lines[1:])]
        if not dialect.header:
            lines[0] = _unwrapped(lines[0].removesuffix("\r"), delimiter)
    if len(cells) > MAX_COLUMNS:
        raise NotReadable("too many columns")
    places = _places([cell.strip() for cell in cells], dialect)
    rows = [_row(line.removesuffix("\r"), delimiter, len(cells)) for line in lines[dialect.header :]]
    if not rows:
        raise NotReadable("no row")
    return np.array(
        [[math.nan if place is None else _number(row[place], dialect.decimal) for row in rows] for place in places],
        np.float64,
    ).astype(np.float32)


def _decoded(line: str) -> str:
    raw = line.encode("latin-1")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return line


def _delimiter(first: str, dialect: CsvDialect) -> str:
    if not dialect.header:
        return next((d for d in (";", "\t") if d in first), ";" if dialect.decimal == "," else ",")
    wanted = {column for column in dialect.columns if column is not None}
    for delimiter in {",": (";", "\t"), ".": (",", ";", "\t")}[dialect.decimal]:
        cells = _split(first, delimiter)
        if len(cells) == 1 and first.lstrip().startswith('"'):
            cells = _split(cells[0], delimiter)
        if wanted <= {cell.strip() for cell in cells}:
            return delimiter
    raise NotReadable("no such columns")


def _places(cells: Sequence[str], dialect: CsvDialect) -> list[int | None]:
    places: list[int | None] = []
    for column in dialect.columns:
        if column is None:
            places.append(None)
        elif dialect.header:
            if cells.count(column) != 1:
                raise NotReadable(f"{cells.count(column)} columns {column}")
            places.append(cells.index(column))
        elif int(column) <= len(cells):
            places.append(int(column) - 1)
        else:
            raise NotReadable(f"no column {column}")
    return places


def _row(line: str, delimiter: str, width: int) -> list[str]:
    if not line.strip(" "):
        raise NotReadable("a blank line")
    if "\r" in line:
        raise NotReadable("a CR within a line")
    cells = _split(line, delimiter, strict=True)
    if len(cells) != width:
        raise NotReadable(f"{len(cells)} cells, not {width}")
    return cells


def _unwrapped(line: str, delimiter: str) -> str:
    """The text of a line that is one quoted cell; a line without quotes is itself."""
    if '"' not in line:
        return line
    cells = _split(line, delimiter, strict=True)
    if len(cells) != 1 or not line.startswith('"'):
        raise NotReadable("quotes within a line")
    return cells[0]


def _split(line: str, delimiter: str, *, strict: bool = False) -> list[str]:
    try:
        (cells,) = csv.reader([line], delimiter=delimiter, strict=strict)
    except (csv.Error, ValueError) as error:
        raise NotReadable(str(error)) from error
    return cells


def _number(cell: str, decimal: str) -> float:
    cell = cell.strip(" \t")
    if not cell:
        return math.nan
    if decimal == ",":
        cell = cell.translate({ord(","): ".", ord("."): "!"})
    if DECIMAL.fullmatch(cell) is None:
        raise NotReadable(f"{cell[:40]!r} is no number")
    value = np.float64(float(cell))
    with np.errstate(over="ignore"):
        if not np.isfinite(value.astype(np.float32)):
            raise NotReadable(f"{cell[:40]!r} is too large")
    return float(value)
