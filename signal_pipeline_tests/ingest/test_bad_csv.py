"""What a bad or hostile CSV gets: an error that names line and value, in bounded time and memory."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline.errors import CSVLoaderError
from signal_pipeline.ingest import blocks
from signal_pipeline.ingest.bad_cells import number_in
from signal_pipeline.ingest.cells import BlockParser
from signal_pipeline.ingest.csv_reader import CsvBatch, read_batches
from signal_pipeline.ingest.dialect import CsvDialect

WriteCsv = Callable[..., Path]
GRID = WindowGrid(fs=1000, window_length=10, hop_length=5)
HEADER = "current_R,current_S,current_T\n"
HEADERLESS = CsvDialect.from_options(header=False)
COMMAS = CsvDialect.from_options(decimal_comma=True)


def read(path: Path, *, dialect: CsvDialect | None = None, batch_rows: int = 20) -> list[CsvBatch]:
    return list(read_batches(path, dialect=dialect or CsvDialect(), grid=GRID, batch_rows=batch_rows))


def outcome(path: Path, *, dialect: CsvDialect) -> list[CsvBatch] | CSVLoaderError:
    try:
        return read(path, dialect=dialect, batch_rows=5)
    except CSVLoaderError as error:
        return error


def error_of(path: Path, *, dialect: CsvDialect | None = None) -> str:
    with pytest.raises(CSVLoaderError) as raised:
        read(path, dialect=dialect)
    return str(raised.value)


NO_NUMBERS = (
    *(
        "x",
        "nan",
        "NaN",
        "-nan",
        "inf",
        "-Infinity",
        "NULL",
        "#N/A",
        "1e39",
        "-3.41e38",
        "1e400",
        "0x10",
        "1_000",
        "1,5",
    ),
    *("1.5.1", "--1", "+-1", "1e", "e5", ".", "+", "-", "1d5", "1.0f"),
    *("1 2", "١٢", "½", "1\x00", "\x001", "\u200b1", "\xa01", "1\x1b[31m"),
)


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_cell_without_a_number_is_named_by_row_line_column_and_value(
    write_csv: WriteCsv, text: str, delimiter: str
) -> None:
    cell = f'"{text}"' if delimiter in text else text
    rows = [["1", "2", "3"], ["4", cell, "6"], ["7", "8", "9"]]
    table = "".join(delimiter.join(row) + "\n" for row in rows)
    message = error_of(write_csv(HEADER.replace(",", delimiter) + table))
    shown = text if text.isprintable() else text.encode("unicode_escape").decode()
    assert f"motor.csv: 1 cell holds no number: row 2 (line 3), column current_S: '{shown}'" in message


@pytest.mark.parametrize("text", ["1", "-1", "+1", "1.", ".5", "1e5", "1E-5", "3.4e38", "1e-400", " 1", "1\t", "007"])
def test_a_decimal_number_is_a_number(write_csv: WriteCsv, text: str) -> None:
    (batch,) = read(write_csv(f"{HEADER}{text},2,3\n"))
    assert batch.samples[0, 0] == np.float32(float(text))


@pytest.mark.parametrize("text", ["3.4028235677973366e38", "3.4028235677973362e38", "-3.4028235677973366e38"])
def test_the_largest_float32_is_the_border_for_the_fast_and_the_slow_path_alike(write_csv: WriteCsv, text: str) -> None:
    with np.errstate(over="ignore"):
        fits = bool(np.isfinite(np.float32(float(text))))
    assert (number_in(text.encode()) is not None) == fits
    path = write_csv(f"{HEADER}{text},2,3\n")
    if fits:
        assert read(path)[0].samples[0, 0] == np.float32(float(text))
    else:
        assert text in error_of(path)


@given(cell=st.text("0123456789.+-eExXnainf_ \t", max_size=12))
@settings(deadline=None, max_examples=200)
def test_a_cell_is_read_as_its_own_number_or_named_whatever_it_holds(cell: str) -> None:
    number = number_in(cell.encode())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / "motor.csv"
        path.write_text(f"{HEADER}1,{cell},3\n")
        if number is None:
            assert "1 cell holds no number" in error_of(path)
        else:
            np.testing.assert_array_equal(read(path)[0].samples[1, 0], np.float32(number))


def test_every_bad_cell_is_counted_and_the_first_ten_are_named_in_the_order_of_rows(
    write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100)
    rows = [f"{row},s{row},t{row}" if row % 3 == 0 else f"{row},,1" for row in range(600)]
    message = error_of(write_csv(HEADER + "\n".join(rows)))
    assert message.startswith("motor.csv: 400 cells hold no number: ")
    assert re.findall(r"row (\d+) \(line (\d+)\), column (\w+): '(\w+)'", message) == [
        (str(row + 1), str(row + 2), f"current_{phase.upper()}", f"{phase}{row}")
        for row in (0, 3, 6, 9, 12)
        for phase in ("s", "t")
    ]
    assert "; and 390 more" in message


def test_no_batch_follows_the_first_bad_cell(write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 60)
    rows = ["1,2,3\n"] * 100
    rows[50] = "1,x,3\n"
    taken: list[CsvBatch] = []
    reader = read_batches(write_csv(HEADER + "".join(rows)), dialect=CsvDialect(), grid=GRID, batch_rows=10)
    with pytest.raises(CSVLoaderError, match="row 51 "):
        taken.extend(reader)
    assert [batch.batch.index for batch in taken] == [0, 1, 2, 3]


def test_a_value_in_a_message_is_short_and_printable(write_csv: WriteCsv) -> None:
    path = write_csv(HEADER.encode() + b"1,\x1b[2J\xff" + b"x" * 5000 + b",3\n", name="a\nb\x1b[31m.csv")
    message = error_of(path)
    assert message.isprintable()
    assert message.startswith(r"a\nb\x1b[31m.csv: 1 cell holds no number")
    assert len(message) < 400


@pytest.mark.parametrize(
    ("content", "dialect", "message"),
    [
        ("", None, "the file is empty"),
        (HEADER, None, "a header, and no row below it"),
        (HEADER + "\n\r\n  \n", None, "a header, and no row below it"),
        (HEADER + "1,2,3\n4,5\n", None, r"line 3 has 2 cell\(s\), the header has 3"),
        (HEADER + "1,2,3\n4,5,6,7\n", None, r"line 3 has 4 cell\(s\), the header has 3"),
        ("1,2,3\n4,5\n", HEADERLESS, r"line 2 has 2 cell\(s\), line 1 has 3"),
        (HEADER + "1,5,2,5,3,5\n", None, r"line 2 has 6 cell\(s\).*decimal commas"),
        ("current_R;current_S;current_T\n1,5;2,5;3,5\n", None, "3 cells hold no number.*with --decimal-comma"),
        ("current_R;current_S;current_T\n1.5;2,5;3\n", COMMAS, "1 cell holds no number.*leave out --decimal-comma"),
        ("current_R;current_S;current_T\n1.234,5;2,5;3\n", COMMAS, "1 cell holds no number.*1\\.234,5"),
        ("Ia,Ib,Ic\n1,2,3\n", None, "no column current_R.*--columns R=Ia,S=Ib,T=Ic"),
        ("1.5,2.5,3.5\n1,2,3\n", None, "line 1 holds samples: use --no-header"),
        ("0.0,1.5,2.5,3.5\n", None, "in 4 columns.*--columns R=2,S=3,T=4"),
        ("# logger 7\n" + HEADER + "1,2,3\n", None, "take away the lines before it"),
        (HEADER + "1,2,3\n\n4,5,6\n", None, "line 3 is blank before the end"),
        (HEADER + "1,2,3\n  \n4,5,6\n", None, "line 3 is blank before the end"),
        (HEADER + "1,2,3\r4,5,6\n", None, "line 2 holds a CR without LF"),
        (HEADER + '1,2,3\n4,5,"6\n7,8,9\n', None, "line 3 has a quote that is not closed|1 cell"),
        ("a,current_R,current_S,current_T\n" + '"x\ny",1,2,3\n', None, "line 2 has a quote that is not closed"),
        (HEADER + "x,2,3\n4,5\n", None, r"line 3 has 2 cell\(s\), the header has 3"),
        (HEADER + "1,2,3\x00\n", None, "NUL bytes"),
        (HEADER + "1,2,3\n" + "\x00" * 100, None, "line 3 holds NUL bytes"),
        (HEADER + "1,2,3\n" + "\x00" * 100_000, None, "line 3 is longer than 65536 bytes, and holds NUL"),
        (HEADER + "1,2,3\n4,5,6\r\r\n7,8,9\n", None, "line 3 ends in CR CR LF"),
        (HEADER + "1,2,٣\n", None, "outside ASCII"),
        (HEADER, HEADERLESS, "3 cells hold no number.*leave out --no-header"),
    ],
)
def test_a_table_that_is_none_is_named_by_line_and_remedy(
    write_csv: WriteCsv, content: str, dialect: CsvDialect | None, message: str
) -> None:
    assert re.search(message, error_of(write_csv(content), dialect=dialect), re.DOTALL)


def test_latin1_bytes_in_a_number_are_named(write_csv: WriteCsv) -> None:
    assert r"'1\xb5A'. There are characters outside ASCII" in error_of(write_csv(HEADER.encode() + b"1\xb5A,2,3\n"))


def test_bytes_that_are_no_text_do_not_matter_in_a_column_that_is_not_read(write_csv: WriteCsv) -> None:
    (batch,) = read(write_csv(b"note," + HEADER.encode() + b"\xff\x00\xb5,1,2,3\n"))
    np.testing.assert_array_equal(batch.samples, [[1], [2], [3]])


@pytest.mark.parametrize(("before", "block_bytes"), [(0, 2**20), (30, 2**20), (30, 50)])
def test_a_blank_line_is_found_wherever_the_blocks_end(
    write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch, before: int, block_bytes: int
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    path = write_csv(HEADER + "1,2,3\n" * before + "\n" * 100 + "4,5,6\n" * 30)
    assert f"line {before + 2} is blank" in error_of(path)


@pytest.mark.parametrize("n_rows", [0, 3, 100_000])
def test_a_line_without_end_is_refused_at_its_number(write_csv: WriteCsv, n_rows: int) -> None:
    path = write_csv(HEADER + "1,2,3\n" * n_rows + "1," * 500_000 + "\n" + "1,2,3\n")
    assert f"line {n_rows + 2} is longer than" in error_of(path)


READ_IT = """
import re, sys
from pathlib import Path
import pyarrow.csv
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline.errors import CSVLoaderError
from signal_pipeline.ingest.csv_reader import read_batches
from signal_pipeline.ingest.dialect import CsvDialect
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
base = peak()
try:
    for _ in read_batches(Path(sys.argv[1]), dialect=CsvDialect(), grid=WindowGrid(1000, 10, 5), batch_rows=1000):
        pass
except CSVLoaderError as error:
    print((peak() - base) // 1024, error)
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of one program's memory is read from /proc")
@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (b"", "NUL bytes"),
        (b"x" * 2**17, "line 1 is longer"),
        (b"a," * 1_000_000 + b"\n", "line 1 is longer"),
        (HEADER.encode(), "line 2 is longer"),
        (HEADER.encode() + b"1,2,3\n" * 1000, "line 1002 is longer"),
        (HEADER.encode() + b"x,y,z\n" * 1_000_000, "line 1000002 is longer"),
    ],
    ids=["nothing", "a long name", "a million columns", "one line", "a line among rows", "a million bad rows"],
)
def test_a_line_of_a_gigabyte_costs_no_gigabyte(write_csv: WriteCsv, begin: bytes, message: str) -> None:
    path = write_csv(begin)
    with path.open("r+b") as file:
        file.truncate(2**30)  # a hole in the file: NULs to the reader, nothing to the disk
    done = subprocess.run([sys.executable, "-c", READ_IT, str(path)], capture_output=True, text=True, check=True)
    megabytes, _, error = done.stdout.partition(" ")
    assert re.search(message, error)
    assert int(megabytes) < 150


PIECES = (
    *(b"1", b"-2.5", b"1e39", b"0x10", b"nan", b"current_R", "١".encode(), b"\xb5", b"\x1b[31m", b"\x00"),
    *(b",", b",", b";", b"\t", b" ", b'"', b"\n", b"\n", b"\r\n", b"\r", b"\xff\xfe", b"\xef\xbb\xbf"),
    *(b"1,2,3\n", b"1,2,3\n", b"1;2;3\n"),
)


@given(
    head=st.sampled_from(
        [b"", HEADER.encode(), HEADER.replace(",", ";").encode(), b'"current_R,current_S,current_T"\n']
    ),
    body=st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=5)), max_size=60).map(b"".join),
    header=st.booleans(),
    block_bytes=st.integers(1, 100),
)
@settings(deadline=None, max_examples=400)
def test_whatever_a_file_holds_it_gives_samples_or_one_clear_error(
    head: bytes, body: bytes, header: bool, block_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", block_bytes)
        path = Path(folder).resolve() / "motor.csv"
        path.write_bytes(head + body)
        found = outcome(path, dialect=CsvDialect.from_options(header=header))
    if isinstance(found, CSVLoaderError):
        assert str(found).startswith("motor.csv: ")
        assert str(found).isprintable()
        assert len(str(found)) < 2000
    else:
        assert found
        assert not any(np.isinf(batch.samples).any() for batch in found)


@given(
    body=st.lists(st.one_of(st.sampled_from(PIECES), st.sampled_from([b"+1", b"3.5", b",,"])), max_size=40),
    delimiter=st.sampled_from([b",", b";"]),
)
@settings(deadline=None, max_examples=200)
def test_reading_cell_by_cell_gives_just_what_the_fast_way_gives(body: list[bytes], delimiter: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder).resolve() / "motor.csv"
        path.write_bytes(HEADER.encode().replace(b",", delimiter) + b"".join(body))
        fast = outcome(path, dialect=CsvDialect())
        patch.setattr(BlockParser, "_fast", lambda *_: None)
        slow = outcome(path, dialect=CsvDialect())
    if isinstance(fast, CSVLoaderError) or isinstance(slow, CSVLoaderError):
        assert str(fast) == str(slow)
    else:
        assert [batch.samples.tobytes() for batch in fast] == [batch.samples.tobytes() for batch in slow]
