"""A file's bytes as blocks of whole lines, in bounded memory.

Here: cutting at line ends, the limits on a line's length, blank lines, the byte at which each row begins. Not here:
cells.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.errors import CSVLoaderError
from signal_pipeline.ingest.layout import MAX_LINE_BYTES, CsvLayout

BLOCK_BYTES: Final = 2**20
_NEWLINE: Final = ord("\n")


class Digest(Protocol):
    """What hashlib's objects do."""

    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines, each ending in a newline; line i holds the file's data row `first_row + i`."""

    data: bytes
    first_row: int
    starts: NDArray[np.int64]
    """The file's byte at which each line begins."""

    @property
    def n_rows(self) -> int:
        return self.starts.size

    def first(self, n_rows: int) -> "Block":
        """The first `n_rows` rows, or all if there are no more."""
        if n_rows >= self.n_rows:
            return self
        end = int(self.starts[n_rows] - self.starts[0])
        return Block(self.data[:end], self.first_row, self.starts[:n_rows])


def read_chunks(file: BinaryIO, *, n_bytes: int, digest: Digest | None = None) -> Iterator[bytes]:
    """The next `n_bytes` bytes of `file` in pieces, each given to `digest` too; fewer if the file ends before."""
    while n_bytes > 0 and (chunk := file.read(min(BLOCK_BYTES, n_bytes))):
        n_bytes -= len(chunk)
        if digest is not None:
            digest.update(chunk)
        yield chunk


def line_blocks(
    chunks: Iterable[bytes], *, layout: CsvLayout, name: str, offset: int, first_row: int, skip: int = 0
) -> Iterator[Block]:
    """Blocks of the rows in `chunks`, whose first byte is the file's byte `offset`.

    The first `skip` bytes are no rows. Blank lines at the end are no rows; a blank line before a row is a lost
    sample, and raises `CSVLoaderError`, as a line longer than `MAX_LINE_BYTES` does.
    """
    row = first_row
    blank_line: int | None = None
    for data in _whole_lines(chunks):
        if not data.endswith(b"\n"):
            raise _long_line_error(name, layout.line_of(row), data)
        written = len(data[skip:].rstrip(b" \r\n"))
        end = data.index(b"\n", skip + written) + 1 if written else skip
        n_blank = data.count(b"\n", end)
        if written:
            if blank_line is not None:
                raise blank_line_error(name, blank_line)
            block = _block(data[skip:end], row=row, offset=offset + skip, layout=layout, name=name)
            yield block
            row += block.n_rows
        if n_blank and blank_line is None:
            blank_line = layout.line_of(row)
        offset += len(data)
        skip = 0


def blank_line_error(name: str, line: int) -> CSVLoaderError:
    return CSVLoaderError(
        f"{name}: line {line} is blank before the end of the data; remove it, or write its empty cells"
    )


def _block(data: bytes, *, row: int, offset: int, layout: CsvLayout, name: str) -> Block:
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
    starts = np.concatenate(([0], ends[:-1] + 1))
    longest = int(np.argmax(ends - starts))
    if ends[longest] - starts[longest] > MAX_LINE_BYTES:
        raise _long_line_error(name, layout.line_of(row + longest), data)
    return Block(data, row, starts + offset)


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines, many at a time; ends early with the beginning of a line that is too long."""
    rest = b""
    for chunk in chunks:
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield rest + chunk[:cut]
            rest = chunk[cut:]
        else:
            rest += chunk
        if len(rest) > MAX_LINE_BYTES:
            yield rest
            return
    if rest:
        yield rest + b"\n"


def _long_line_error(name: str, line: int, data: bytes) -> CSVLoaderError:
    what = f"line {line} is longer than {MAX_LINE_BYTES} bytes"
    if b"\x00" in data:
        return CSVLoaderError(
            f"{name}: {what}, and holds NUL bytes: the file is damaged, or was not written to its end"
        )
    return CSVLoaderError(f"{name}: {what}; no row of a recording is")
