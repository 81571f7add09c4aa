"""CSV to batches: every sample arrives once, at its place, whatever the batch and block sizes."""

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signal_pipeline.domain import FailureReason, RejectionReason
from signal_pipeline.dsp.windows import WindowGrid, split
from signal_pipeline.errors import CSVLoaderError, FileRejected
from signal_pipeline.ingest import blocks, csv_reader
from signal_pipeline.ingest.csv_reader import CsvBatch, read_batches, read_rows, sha256_of
from signal_pipeline.ingest.dialect import CsvDialect

WriteCsv = Callable[..., Path]
GRID = WindowGrid(fs=1000, window_length=10, hop_length=5)
HEADER = "current_R,current_S,current_T\n"
Rows = list[tuple[float | None, float | None, float | None]]

# what float32 cannot hold as a number is a bad cell, and no sample
finite = st.floats(-3e38, 3e38, allow_nan=False).filter(lambda x: np.isfinite(np.float32(x)))
cell = st.one_of(st.none(), finite)


def csv_of(rows: Rows, *, header: str = HEADER, delimiter: str = ",", end: str = "\n", decimal: str = ".") -> str:
    cells = (["" if number is None else repr(number).replace(".", decimal) for number in row] for row in rows)
    lines = (delimiter.join(row) for row in cells)
    return header + "".join(line + end for line in lines)


def truth_of(rows: Rows) -> NDArray[np.float32]:
    numbers = [[np.nan if number is None else number for number in row] for row in rows]
    return np.array(numbers, np.float64).reshape(len(rows), 3).T.astype(np.float32)


def joined(batches: Sequence[CsvBatch]) -> NDArray[np.float32]:
    return np.concatenate([batch.samples[:, batch.batch.lead_in :] for batch in batches], axis=1)


def rows_of(n_rows: int) -> Rows:
    values = np.random.default_rng(7).normal(size=(n_rows, 3)).round(4).tolist()
    return [(r, s, t) for r, s, t in values]


@given(
    rows=st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=120),
    batch_hops=st.integers(1, 30),
    block_bytes=st.integers(1, 400),
    ending=st.sampled_from(["\n", "\r\n"]),
    tail=st.sampled_from(["", "\n", "\r\n\r\n", "  \n\n"]),
    marks=st.sampled_from([(",", "."), (";", "."), ("\t", "."), (";", ","), ("\t", ",")]),
)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batches_and_rows_read_again_are_the_numbers_that_were_written(
    *,
    write_csv: WriteCsv,
    monkeypatch: pytest.MonkeyPatch,
    rows: Rows,
    batch_hops: int,
    block_bytes: int,
    ending: str,
    tail: str,
    marks: tuple[str, str],
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    delimiter, decimal = marks
    dialect = CsvDialect(decimal=decimal)
    header = HEADER.replace(",", delimiter)
    content = csv_of(rows, header=header, delimiter=delimiter, end=ending, decimal=decimal) + tail
    path = write_csv(content)
    truth = truth_of(rows)
    batch_rows = batch_hops * GRID.hop_length
    reader = read_batches(path, dialect=dialect, grid=GRID, batch_rows=batch_rows)
    batches = list(reader)

    np.testing.assert_array_equal(joined(batches), truth)
    assert [batch.batch for batch in batches] == list(split(len(rows), batch_rows=batch_rows, grid=GRID))
    assert reader.facts.n_rows == len(rows)
    assert reader.facts.sha256 == hashlib.sha256(content.encode()).hexdigest()
    assert reader.facts.column_has_values == tuple(bool(np.isfinite(phase).any()) for phase in truth)
    for batch in batches:
        assert batch.samples.flags.c_contiguous
        assert batch.samples.dtype == np.float32
        start, stop = batch.batch.start, batch.batch.start + batch.batch.n_samples
        np.testing.assert_array_equal(batch.samples, truth[:, start:stop])
        again = read_rows(
            path,
            dialect=reader.facts.dialect,
            start_row=start,
            n_rows=batch.batch.n_samples,
            byte_offset=batch.byte_offset,
        )
        assert again.tobytes() == batch.samples.tobytes()


def test_numbers_are_read_as_numpy_reads_them(write_csv: WriteCsv) -> None:
    rows = rows_of(5000)
    path = write_csv(csv_of(rows))
    batches = list(read_batches(path, dialect=CsvDialect(), grid=GRID, batch_rows=1000))
    truth = np.loadtxt(io.StringIO(path.read_text()), delimiter=",", skiprows=1).T.astype(np.float32)
    np.testing.assert_array_equal(joined(batches), truth)


@pytest.mark.parametrize(
    "content",
    [
        HEADER + "1,2,3\n4,5,6\n",
        HEADER + "1,2,3\n4,5,6",
        HEADER + "1,2,3\r\n4,5,6\r\n\r\n\n",
        "\ufeff" + HEADER + "1,2,3\n4,5,6\n",
        '"current_R,current_S,current_T"\n1,2,3\n4,5,6\n',
        '"current_R,current_S,current_T"\n"1,2,3"\n"4,5,6"\n',
        '"current_R","current_S","current_T"\n"1","2","3"\n"4","5","6"\n',
        "current_R;current_S;current_T\n1;2;3\n4;5;6\n",
        't,current_T,note,current_R,current_S\n0,3,ok,1,2\n1,6,"a, \'b\' ""c""",4,5\n',
        HEADER + " 1.0 ,+2,\t3.\n4e0,.5e1,6E+0\n",
    ],
)
def test_every_usual_way_to_write_a_table_gives_the_same_samples(write_csv: WriteCsv, content: str) -> None:
    batches = list(read_batches(write_csv(content), dialect=CsvDialect(), grid=GRID, batch_rows=10))
    np.testing.assert_array_equal(joined(batches), [[1, 4], [2, 5], [3, 6]])


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_without_a_header_the_first_three_columns_are_the_phases(write_csv: WriteCsv, mark: str) -> None:
    path = write_csv(mark + "1,2,3,x\n4,5,6,y\n")
    dialect = CsvDialect.from_options(header=False)
    (batch,) = read_batches(path, dialect=dialect, grid=GRID, batch_rows=10)
    np.testing.assert_array_equal(batch.samples, [[1, 4], [2, 5], [3, 6]])
    again = read_rows(path, dialect=dialect, start_row=1, n_rows=1, byte_offset=path.read_bytes().index(b"4"))
    np.testing.assert_array_equal(again, [[4], [5], [6]])


def test_empty_cells_are_gaps_and_an_empty_column_is_no_phase(write_csv: WriteCsv) -> None:
    path = write_csv(HEADER + '1,,\n,,  \n3,,""\n')
    reader = read_batches(path, dialect=CsvDialect(), grid=GRID, batch_rows=10)
    (batch,) = reader
    np.testing.assert_array_equal(batch.samples, [[1, np.nan, 3], [np.nan] * 3, [np.nan] * 3])
    assert reader.facts.column_has_values == (True, False, False)


def test_a_phase_without_a_column_is_not_recorded(write_csv: WriteCsv) -> None:
    path = write_csv("ia,ic\n1,3\n4,6\n")
    reader = read_batches(path, dialect=CsvDialect(("ia", None, "ic")), grid=GRID, batch_rows=10)
    (batch,) = reader
    np.testing.assert_array_equal(batch.samples, [[1, 4], [np.nan, np.nan], [3, 6]])
    assert reader.facts.column_has_values == (True, False, True)


def test_what_is_done_to_a_batch_does_not_reach_the_next_one(write_csv: WriteCsv) -> None:
    rows = rows_of(47)
    seen = []
    for batch in read_batches(write_csv(csv_of(rows)), dialect=CsvDialect(), grid=GRID, batch_rows=20):
        seen.append(batch.samples[:, batch.batch.lead_in :].copy())
        batch.samples[:] = 0
    np.testing.assert_array_equal(np.concatenate(seen, axis=1), truth_of(rows))


def test_facts_are_not_given_before_the_end(write_csv: WriteCsv) -> None:
    reader = read_batches(write_csv(csv_of(rows_of(30))), dialect=CsvDialect(), grid=GRID, batch_rows=10)
    next(iter(reader))
    with pytest.raises(RuntimeError, match="not been read to its end"):
        _ = reader.facts


@pytest.mark.parametrize("size", [0, -5])
def test_a_batch_without_rows_cannot_be_asked_for(write_csv: WriteCsv, size: int) -> None:
    path = write_csv(csv_of(rows_of(3)))
    with pytest.raises(ValueError, match="at least 1 row"):
        read_batches(path, dialect=CsvDialect(), grid=GRID, batch_rows=size)
    with pytest.raises(ValueError, match="at least 1 row"):
        read_rows(path, dialect=CsvDialect(), start_row=0, n_rows=size, byte_offset=len(HEADER))


@pytest.mark.parametrize(
    ("start_row", "n_rows", "byte_offset"),
    [
        (0, 3, 0),
        (0, 3, -1),
        (1, 2, len(HEADER)),
        (1, 2, len(HEADER) + 3),
        (0, 4, len(HEADER)),
        (2, 2, len(HEADER) + 12),
        (9, 1, 10_000),
    ],
)
def test_rows_that_are_no_longer_at_their_place_mean_that_the_file_changed(
    write_csv: WriteCsv, start_row: int, n_rows: int, byte_offset: int
) -> None:
    path = write_csv(HEADER + "1,2,3\n4,5,6\n7,8,9\n")
    with pytest.raises(CSVLoaderError) as raised:
        read_rows(path, dialect=CsvDialect(), start_row=start_row, n_rows=n_rows, byte_offset=byte_offset)
    assert raised.value.reason == FailureReason.FILE_CHANGED


def test_a_bad_cell_outside_the_asked_rows_does_not_matter(write_csv: WriteCsv) -> None:
    path = write_csv(HEADER + "1,2,3\n4,5,6\nx,8,9\n")
    samples = read_rows(path, dialect=CsvDialect(), start_row=1, n_rows=1, byte_offset=len(HEADER) + 6)
    np.testing.assert_array_equal(samples, [[4], [5], [6]])


def test_a_file_that_grows_while_it_is_read_is_refused(write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    path = write_csv(csv_of(rows_of(100)))
    reader = iter(read_batches(path, dialect=CsvDialect(), grid=GRID, batch_rows=20))
    next(reader)
    with path.open("a") as file:
        file.write("1,2,3\n")
    with pytest.raises(CSVLoaderError, match="changed while it was read") as raised:
        list(reader)
    assert raised.value.reason == FailureReason.FILE_CHANGED


def test_a_file_that_is_cut_while_it_is_read_has_changed_rather_than_a_ragged_row(
    write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    path = write_csv(csv_of(rows_of(100)))
    reader = iter(read_batches(path, dialect=CsvDialect(), grid=GRID, batch_rows=20))
    next(reader)
    os.truncate(path, len(path.read_bytes()) // 2 + 3)
    with pytest.raises(CSVLoaderError, match="changed while it was read"):
        list(reader)


def test_the_hash_of_an_unchanged_file_is_computed_once(write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def counted(file: BinaryIO, *, n_bytes: int, digest: blocks.Digest | None = None) -> Iterator[bytes]:
        reads.append(n_bytes)
        return blocks.read_chunks(file, n_bytes=n_bytes, digest=digest)

    monkeypatch.setattr(csv_reader, "read_chunks", counted)
    path = write_csv("one")
    assert sha256_of(path) == sha256_of(path) == hashlib.sha256(b"one").hexdigest()
    assert reads == [3]
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 0))
    assert sha256_of(path) == hashlib.sha256(b"two").hexdigest()
    assert reads == [3, 3]


def test_a_file_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "gone.csv"
    with pytest.raises(FileRejected) as raised:
        list(read_batches(path, dialect=CsvDialect(), grid=GRID, batch_rows=10))
    assert raised.value.reason == RejectionReason.NOT_FOUND
    with pytest.raises(FileRejected):
        sha256_of(path)


MEASURE = """
import re, sys
from pathlib import Path
import blosc2, numpy, pyarrow.csv
from signal_pipeline.dsp.windows import WindowGrid, rows_per_batch
from signal_pipeline.ingest.csv_reader import read_batches
from signal_pipeline.ingest.dialect import CsvDialect
def peak():  # of this program alone: ru_maxrss begins with what the parent held before exec
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
base = peak()
grid = WindowGrid.for_rate(25_600, window_ms=1000, overlap=0.5)
reader = read_batches(Path(sys.argv[1]), dialect=CsvDialect(), grid=grid, batch_rows=rows_per_batch(1_536_000, grid))
n_rows = sum(batch.batch.n_rows for batch in reader)
print(n_rows, (peak() - base) // 1024)
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of one program's memory is read from /proc")
def test_a_file_of_1_5_million_rows_fits_into_150_megabytes(write_csv: WriteCsv) -> None:
    line = b"-0.123456,1.234567,-12.345678\n"
    path = write_csv(HEADER.encode() + line * 1_500_000)
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    n_rows, megabytes = map(int, done.stdout.split())
    assert n_rows == 1_500_000
    assert megabytes < 150
