"""Hostile CSV files, generated: good recordings, and what exporters, disks and enemies make of them.

Here: the bytes, and how a person would ask for them. Not here: what they mean (`slow_reading`), or loading them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from signal_pipeline.ingest.dialect import DEFAULT_COLUMNS, DEFAULT_NUMBERS, Columns, CsvDialect

GOOD_CELLS = ("0", "-0", "1", "12.5", "-3.25e-3", "+7", ".5", "5.", " 1 ", "", "  ", "1e38", "3.4028235e38", "1e-60")
"""What an honest instrument may write, gaps and the ends of float32 included."""

HOSTILE_CELLS = (
    *(
        "1e39",
        "-1e400",
        "1e999999999",
        "3.4028236e38",
        "0x10",
        "0b1",
        "1_000",
        "1,5",
        "1.5.2",
        "1e",
        "e5",
        "1d5",
        "1e5.5",
    ),
    *(
        "nan",
        "NaN",
        "-nan(0x1)",
        "inf",
        "-Infinity",
        "#N/A",
        "NULL",
        "null",
        "true",
        "--1",
        "+-1",
        "-",
        ".",
        "1 2",
        "1;2",
        "\t2",
    ),
    *(
        "١٢",
        "１２",
        "1²",
        "½",
        "−1",
        "1\u00a0",
        "\u200b1",
        "\ufeff1",
        "\u202e1",
        "\U0001d7d8",
    ),  # digits, but not ASCII's
    *("\x00", "1\x00", "\x1b[31m1", "\x1b]0;owned\x07", "\r", "1\r2", "\x0b", "\x0c1", "\x85", "\u2028"),
    *("'; DROP TABLE raw_signals; --", "=1+1", "@SUM(1)", "%n%s", "${jndi:ldap://x}", "../../etc/passwd", "[/bold]"),
    *('"', '""', '"1"', '"1', '1"', '"1,2"', '"1\n2"', '" 1"', '"1" 2', '"1"2', "'1'"),
    *("9" * 400, "0" * 5000 + "1", "1." + "0" * 3000, "x" * 70_000),
)
"""What is no number, what looks like one, and what aims at the parser, the terminal, the log and the database."""

HEADERS = (
    "current_R,current_S,current_T",
    '"current_R,current_S,current_T"',
    "current_T,current_R,current_S",
    "t,current_R,note,current_S,current_T",
    "current_R;current_S;current_T",
    "current_R\tcurrent_S\tcurrent_T",
    '"current_R;current_S;current_T"',
    '"current_R","current_S","current_T"',
    " current_R , current_S , current_T ",
    "current_R,current_R,current_S,current_T",
    "current_R,current_S",
    "Strom_R,Strom_S,Strom_T",
    "ток_R,current_S,current_T",
    "",
    "'; DROP TABLE raw_signals; --",
    "\x1b[2J,current_S,current_T",
)

SOUND = HEADERS[:9]

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp037")

ENDS = ("\n", "\r\n", "\r", "\n\n", " \n", "\n\r")


@dataclass(frozen=True)
class CsvCase:
    """A file's bytes, and the dialect that a person asks for."""

    content: bytes
    dialect: CsvDialect
    kind: str
    """What was done to it; for the count at the end."""

    def __repr__(self) -> str:
        return f"{self.kind}: {self.content[:2000]!r}, {self.dialect}"


@st.composite
def csv_cases(draw: st.DrawFn) -> CsvCase:
    """Any of the kinds below, each as often as the others."""
    return draw(st.sampled_from(tuple(KINDS.values())).flatmap(lambda make: make()))


@st.composite
def good_files(draw: st.DrawFn) -> CsvCase:
    """Every one of these has to be loaded."""
    header = draw(st.sampled_from(SOUND))
    rows = _rows(draw, header, GOOD_CELLS)
    dialect = CsvDialect()
    if _delimiter(header) != "," and draw(st.booleans()):
        dialect = CsvDialect(decimal=",")
        rows = [[cell.replace(".", ",") for cell in row] for row in rows]
    text = _joined(draw, header, rows, draw(st.sampled_from(("\n", "\r\n"))))
    encoding = draw(st.sampled_from(("utf-8", "utf-8-sig")))
    return CsvCase(text.encode(encoding), dialect, "good")


@st.composite
def hostile_cells(draw: st.DrawFn) -> CsvCase:
    """A sound table with a few cells that are no numbers, or any text whatever."""
    header = draw(st.sampled_from(SOUND))
    rows = _rows(draw, header, GOOD_CELLS)
    bad = (
        st.sampled_from(HOSTILE_CELLS)
        | st.text(st.characters(codec="utf-8"), max_size=20)
        | st.floats(width=32).map(repr)
    )
    for _ in range(draw(st.integers(1, 3))):
        row = draw(st.integers(0, len(rows) - 1))
        rows[row][draw(st.integers(0, len(rows[row]) - 1))] = draw(bad)
    return CsvCase(_joined(draw, header, rows, "\n").encode("utf-8", "surrogatepass"), CsvDialect(), "cells")


@st.composite
def odd_tables(draw: st.DrawFn) -> CsvCase:
    """Headers, row lengths, line ends and requests that do not fit together."""
    header = draw(st.sampled_from(HEADERS))
    rows = _rows(draw, header, GOOD_CELLS)
    for _ in range(draw(st.integers(0, 2))):
        row = rows[draw(st.integers(0, len(rows) - 1))]
        if draw(st.booleans()):
            row += draw(st.lists(st.sampled_from(GOOD_CELLS), max_size=5))
        else:
            del row[draw(st.integers(0, len(row))) :]
    text = _joined(draw, header, rows, draw(st.sampled_from(ENDS))) + draw(
        st.sampled_from(("", "\n", "\n\n \n", "\n1,2,3", "\x1a"))
    )
    return CsvCase(text.encode(), draw(_dialects()), "tables")


@st.composite
def other_encodings(draw: st.DrawFn) -> CsvCase:
    text = _text(draw, draw(st.sampled_from(HEADERS)), cells=GOOD_CELLS + HOSTILE_CELLS[:40], end="\n")
    return CsvCase(text.encode(draw(st.sampled_from(ENCODINGS)), "replace"), draw(_dialects()), "encodings")


@st.composite
def damaged_bytes(draw: st.DrawFn) -> CsvCase:
    """A good file after a bad disk: bits flipped, pieces lost, doubled, put in; a 2 is one bit from a quote."""
    good = draw(good_files())
    content = bytearray(good.content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.integers(1, 30))
        match draw(st.integers(0, 5)):
            case 0 if content:
                content[place] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del content[place : place + length]
            case 2:
                content[place:place] = content[place : place + length]
            case 3:
                content[place:place] = draw(
                    st.binary(min_size=1, max_size=8) | st.sampled_from((b"\x00", b"\n", b'"', b"\r"))
                )
            case 4 if twos := [k for k, byte in enumerate(content) if byte == ord("2")]:
                content[draw(st.sampled_from(twos))] ^= 0x10
            case _:
                del content[place:]
    return CsvCase(bytes(content), draw(st.just(good.dialect) | _dialects()), "damage")


@st.composite
def no_tables(draw: st.DrawFn) -> CsvCase:
    """Any bytes, some behind the start of an archive, a program or a page."""
    start = draw(
        st.sampled_from((b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"\x7fELF", b"%PDF-1.7\n", b"<html>\n", b"\x80\x04\x95"))
    )
    content = start + draw(
        st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    )
    return CsvCase(content, draw(_dialects()), "no table")


KINDS: dict[str, Callable[[], st.SearchStrategy[CsvCase]]] = {
    "good": good_files,
    "cells": hostile_cells,
    "tables": odd_tables,
    "encodings": other_encodings,
    "damage": damaged_bytes,
    "no table": no_tables,
}


def _dialects() -> st.SearchStrategy[CsvDialect]:
    named: list[Columns] = [
        DEFAULT_COLUMNS,
        ("current_T", None, "current_S"),
        ("Strom_R", "Strom_S", "Strom_T"),
        ("t", "note", None),
    ]
    numbered: list[Columns] = [DEFAULT_NUMBERS, ("2", None, None), ("9", "1", None)]
    marks = st.sampled_from(
        [(d, ".") for d in (None, None, ",", ";", "\t")] + [(d, ",") for d in (None, ";", "\t")]
    )  # delimiter and decimal mark
    columns = st.tuples(st.sampled_from(named), st.just(True)) | st.tuples(st.sampled_from(numbered), st.just(False))
    return st.builds(lambda head, mark: CsvDialect(*head, *mark), columns, marks)


def _text(draw: st.DrawFn, header: str, *, cells: tuple[str, ...], end: str) -> str:
    return _joined(draw, header, _rows(draw, header, cells), end)


def _rows(draw: st.DrawFn, header: str, cells: tuple[str, ...]) -> list[list[str]]:
    """Rows as wide as the header; no row is blank altogether, because a blank line is no row."""
    width = header.count(_delimiter(header)) + 1
    cell = st.sampled_from(cells) | st.floats(-1e30, 1e30).map(repr) | st.integers(-99, 99).map(str)
    n_rows = draw(st.integers(1, 60))
    few = draw(st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=6))
    return [["1.0", *few[i % len(few)][1:]] if width == 1 else list(few[i % len(few)]) for i in range(n_rows)]


def _joined(draw: st.DrawFn, header: str, rows: list[list[str]], end: str) -> str:
    delimiter = _delimiter(header)
    lines = [delimiter.join(row) for row in rows]
    if header.startswith('"') and header.count('"') == 2:
        forms = draw(st.lists(st.sampled_from(("plain", "whole", "cells", "escaped")), min_size=1, max_size=3))
        lines = [_wrapped(row, delimiter, forms[k % len(forms)]) for k, row in enumerate(rows)]
    return "".join(line + end for line in [header, *lines])


def _wrapped(row: list[str], delimiter: str, form: str) -> str:
    """A row of a file whose header is one quoted cell, in one of the forms that exporters give it."""
    line = delimiter.join(row)
    if form == "cells":
        line = delimiter.join(f'""{cell}""' for cell in row)
    return {"plain": line, "escaped": '"' + line.replace('"', '""') + '"'}.get(form, f'"{line}"')


def _delimiter(header: str) -> str:
    return next((delimiter for delimiter in (";", "\t") if delimiter in header), ",")
