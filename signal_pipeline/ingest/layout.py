"""Where the three phases lie in one particular file: found in its first line.

Here: delimiter, columns and the first byte of the data, and what is refused at first sight (UTF-16, old Mac line
ends, a line or a row too long). Not here: the data.
"""

import csv
from dataclasses import dataclass
from typing import Final

from signal_pipeline.domain import PHASE_NAMES
from signal_pipeline.errors import CSVLoaderError
from signal_pipeline.ingest.dialect import DELIMITERS, CsvDialect
from signal_pipeline.ingest.header_hints import other_delimiter, remedy
from signal_pipeline.ingest.sources import printable

MAX_LINE_BYTES: Final = 64 * 1024
"""A line of a recording is some tens of bytes; without a limit one line of a gigabyte would be held in memory."""

MAX_COLUMNS: Final = 4096
MAX_REMEDY: Final = 400

_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_PACKED: Final = {
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save the sheet as CSV",
    b"BZh": "compressed with bzip2; unpack it first",
    b"\xfd7zXZ": "compressed with xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it first",
}


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """One file's columns, resolved. `indices` are None for a phase that was not recorded."""

    delimiter: str
    n_columns: int
    indices: tuple[int | None, int | None, int | None]
    labels: tuple[str, str, str]
    data_offset: int
    header_lines: int
    quoted_lines: bool
    """The first line stands in one quoted cell as a whole: so may those of the data (`quoted_lines`)."""

    decimal: str = "."

    def line_of(self, row: int) -> int:
        """The file's line, from 1, that holds data row `row`, from 0."""
        return row + 1 + self.header_lines


def find_layout(head: bytes, *, dialect: CsvDialect, name: str) -> CsvLayout:
    """The layout of a file that begins with `head` (its first MAX_LINE_BYTES + 1 bytes, or all of it).

    Raises `CSVLoaderError` naming the file, what was found in its first line, and the remedy.
    """
    if not head:
        raise CSVLoaderError(f"{name}: the file is empty (0 bytes)")
    for magic, what in _PACKED.items():
        if head.startswith(magic):
            raise CSVLoaderError(f"{name}: {what}")
    mark = len(_UTF8_MARK) if head.startswith(_UTF8_MARK) else 0
    end = head.find(b"\n") + 1 or len(head)
    if head.startswith(_UTF16_MARKS) or b"\x00" in head[:end]:
        raise CSVLoaderError(f"{name}: NUL bytes or a UTF-16 mark in line 1; save the file as UTF-8 text")
    if end > MAX_LINE_BYTES:
        raise CSVLoaderError(f"{name}: line 1 is longer than {MAX_LINE_BYTES} bytes; is this a CSV?")
    line = _text_of(head[mark:end], name)
    split = _split(line, dialect)
    if len(split.cells) > MAX_COLUMNS:
        raise CSVLoaderError(f"{name}: line 1 has {len(split.cells)} columns; at most {MAX_COLUMNS} are read")
    indices = _named(split, dialect, name) if dialect.header else _numbered(split, dialect, name)
    labels = [
        f"column {column or '-'}" if dialect.header else f"column {column or '-'} (phase {phase})"
        for phase, column in zip(PHASE_NAMES, dialect.columns, strict=True)
    ]
    return CsvLayout(
        delimiter=split.delimiter,
        n_columns=len(split.cells),
        indices=(indices[0], indices[1], indices[2]),
        labels=(labels[0], labels[1], labels[2]),
        data_offset=end if dialect.header else mark,
        header_lines=int(dialect.header),
        quoted_lines=split.quoted_line,
        decimal=dialect.decimal,
    )


@dataclass(frozen=True, slots=True)
class _FirstLine:
    delimiter: str
    cells: list[str]
    quoted_line: bool


def _text_of(line: bytes, name: str) -> str:
    """The first line as text; names in it that are not UTF-8 are read as Latin-1, where every byte is a character."""
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    if b"\r" in line:
        ends = "in CR alone" if b"\r" in line.rstrip(b"\r") else "in CR CR LF"
        raise CSVLoaderError(f"{name}: lines end {ends}; save the file with LF or CRLF line ends")
    if not line.strip():
        raise CSVLoaderError(f"{name}: line 1 is blank; the file must begin with its header or its first row")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _split(line: str, dialect: CsvDialect) -> _FirstLine:
    """The first line cut by the dialect's delimiter, or by the likeliest."""
    if dialect.delimiter is not None:
        return _cut(line, dialect.delimiter)
    if dialect.header:
        wanted = {column for column in dialect.columns if column is not None}
        cuts = [_cut(line, delimiter) for delimiter in DELIMITERS if delimiter != dialect.decimal]
        # the delimiter that shows the columns; if none does, the one that shows most, for the message
        return max(cuts, key=lambda cut: (wanted <= set(cut.cells), len(cut.cells)))
    # 1,5;2,5;3,5 is three numbers with decimal commas: a comma is the delimiter only where nothing else can be
    last = ";" if dialect.decimal == "," else ","
    return _cut(line, next((delimiter for delimiter in (";", "\t") if delimiter in line), last))


def _cut(line: str, delimiter: str) -> _FirstLine:
    cells = next(csv.reader([line], delimiter=delimiter))
    quoted_line = len(cells) == 1 and line.lstrip().startswith('"') and delimiter in cells[0]
    if quoted_line:
        cells = next(csv.reader([cells[0]], delimiter=delimiter))
    return _FirstLine(delimiter, [cell.strip() for cell in cells], quoted_line)


def _named(split: _FirstLine, dialect: CsvDialect, name: str) -> list[int | None]:
    found = printable(split.delimiter.join(split.cells))
    missing = [column for column in dialect.columns if column is not None and column not in split.cells]
    if missing:
        raise CSVLoaderError(
            f"{name}: no column {', '.join(printable(column) for column in missing)} in the header '{found}'; "
            + printable(remedy(split.cells, found), limit=MAX_REMEDY)
        )
    for column in dialect.columns:
        if column is not None and split.cells.count(column) > 1:
            raise CSVLoaderError(f"{name}: column {printable(column)} stands more than once in the header '{found}'")
    return [None if column is None else split.cells.index(column) for column in dialect.columns]


def _numbered(split: _FirstLine, dialect: CsvDialect, name: str) -> list[int | None]:
    indices = [None if column is None else int(column) - 1 for column in dialect.columns]
    needed = max(index for index in indices if index is not None) + 1
    if len(split.cells) < needed:
        hint = other_delimiter(split.cells) or "name those there are, as in --columns R=1,S=2"
        raise CSVLoaderError(
            f"{name}: line 1 has {len(split.cells)} column(s), {needed} are needed: "
            f"'{printable(split.delimiter.join(split.cells))}'; {hint}"
        )
    return indices
