"""How a CSV's form is said on the command line, stored, and found in a file's first line."""

import json

import pytest

from signal_pipeline.errors import CSVLoaderError, SettingsError
from signal_pipeline.ingest.dialect import CsvDialect, parse_columns
from signal_pipeline.ingest.layout import MAX_LINE_BYTES, find_layout

HEADERLESS = CsvDialect.from_options(header=False)
OTHER_NAMES = CsvDialect.from_options("R=ia,S=ib,T=ic")
COMMAS = CsvDialect.from_options(decimal_comma=True)


def test_columns_are_said_phase_by_phase_in_any_order() -> None:
    assert parse_columns("T=ic, R=ia,S=ib") == ("ia", "ib", "ic")


def test_a_phase_that_is_left_out_was_not_recorded() -> None:
    assert parse_columns("R=ia,T=ic") == ("ia", None, "ic")


@pytest.mark.parametrize("text", ["", "R", "R=", "X=ia", "R=ia,R=ib", "ia,ib,ic", "R=ia,,T=ic"])
def test_columns_that_cannot_be_understood_name_the_option(text: str) -> None:
    with pytest.raises(SettingsError, match="--columns"):
        parse_columns(text)


@pytest.mark.parametrize("columns", ["R=i,S=i,T=i", "R=i\x1ba", "R=" + "x" * 300])
def test_columns_that_no_file_can_have_are_refused(columns: str) -> None:
    with pytest.raises(SettingsError, match="--columns"):
        CsvDialect.from_options(columns)


def test_without_a_header_columns_are_numbers() -> None:
    assert CsvDialect.from_options("R=2,S=3,T=4", header=False).columns == ("2", "3", "4")
    with pytest.raises(SettingsError, match="numbers from 1"):
        CsvDialect.from_options("R=ia,S=ib,T=ic", header=False)
    with pytest.raises(SettingsError, match="numbers from 1"):
        CsvDialect.from_options("R=0,S=1,T=2", header=False)


@pytest.mark.parametrize(
    "dialect", [CsvDialect(), HEADERLESS, OTHER_NAMES, CsvDialect(("Фаза R", None, "ток;T"), delimiter=";"), COMMAS]
)
def test_a_stored_dialect_is_the_same_again(dialect: CsvDialect) -> None:
    assert CsvDialect.from_json(json.dumps(dialect.to_json())) == dialect
    assert CsvDialect.from_json(dialect.to_json()) == dialect


@pytest.mark.parametrize(
    "stored", ["[]", "{}", "1", '{"columns": {"R": 1, "S": 2, "T": 3}, "header": true, "delimiter": null}']
)
def test_something_else_is_no_stored_dialect(stored: str) -> None:
    with pytest.raises(ValueError, match="not a stored dialect"):
        CsvDialect.from_json(stored)


def test_a_dialect_stored_before_there_were_decimal_commas_has_points() -> None:
    stored = {name: value for name, value in CsvDialect().to_json().items() if name != "decimal"}
    assert CsvDialect.from_json(stored) == CsvDialect()


def test_a_comma_is_not_both_delimiter_and_decimal_mark() -> None:
    with pytest.raises(ValueError, match="another delimiter"):
        CsvDialect(delimiter=",", decimal=",")


def test_no_other_delimiter_is_taken() -> None:
    with pytest.raises(ValueError, match="delimiter='x'"):
        CsvDialect(delimiter="x")


@pytest.mark.parametrize(
    ("head", "dialect", "delimiter", "indices"),
    [
        (b"current_R,current_S,current_T\n1,2,3\n", CsvDialect(), ",", (0, 1, 2)),
        (b"\xef\xbb\xbfcurrent_R,current_S,current_T\r\n", CsvDialect(), ",", (0, 1, 2)),
        (b'"current_R,current_S,current_T"\n1,2,3\n', CsvDialect(), ",", (0, 1, 2)),
        (b'"current_R","current_S","current_T"\n', CsvDialect(), ",", (0, 1, 2)),
        (b"time;current_T;current_R;current_S;note\n", CsvDialect(), ";", (2, 3, 1)),
        (b"1,5;2,5;3,5\n", CsvDialect.from_options(header=False, decimal_comma=True), ";", (0, 1, 2)),
        (b"1,5\n", CsvDialect.from_options("R=1", header=False, decimal_comma=True), ";", (0, None, None)),
        (b"current_R ,\tcurrent_S, current_T", CsvDialect(), ",", (0, 1, 2)),
        (b"t\tia\tib\tic\n", OTHER_NAMES, "\t", (1, 2, 3)),
        (b"temp\xe9rature,ia,ib,ic\n", OTHER_NAMES, ",", (1, 2, 3)),
        ("Фаза R;Фаза T\n".encode(), CsvDialect(("Фаза R", None, "Фаза T")), ";", (0, None, 1)),
        (b"1,2,3\n", HEADERLESS, ",", (0, 1, 2)),
        (b"1;2;3;4\n", HEADERLESS, ";", (0, 1, 2)),
        (b"1,5;2,5;3,5\n", HEADERLESS, ";", (0, 1, 2)),
        (b"0,1,2,3\n", CsvDialect.from_options("R=2,S=3,T=4", header=False), ",", (1, 2, 3)),
    ],
)
def test_the_first_line_shows_delimiter_and_columns(
    head: bytes, dialect: CsvDialect, delimiter: str, indices: tuple[int | None, ...]
) -> None:
    layout = find_layout(head, dialect=dialect, name="motor.csv")
    assert layout.delimiter == delimiter
    assert layout.indices == indices


@pytest.mark.parametrize(
    ("head", "dialect", "message"),
    [
        (b"", CsvDialect(), r"motor\.csv: the file is empty"),
        (b"\n1,2,3\n", CsvDialect(), "line 1 is blank"),
        (b"ia,ib,ic\n", CsvDialect(), r"no column current_R, current_S, current_T in the header 'ia,ib,ic'.*--columns"),
        (b"0.1,0.2,0.3\n", CsvDialect(), r"in the header '0.1,0.2,0.3'.*--no-header"),
        (b"current_R,current_S\n", CsvDialect(), "no column current_T"),
        (b"current_R,current_S,current_T,current_S\n", CsvDialect(), "current_S stands more than once"),
        (b"1,2\n", HEADERLESS, r"line 1 has 2 column\(s\), 3 are needed"),
        ("current_R,current_S,current_T\n".encode("utf-16"), CsvDialect(), "save the file as UTF-8"),
        ("current_R,current_S,current_T\n".encode("utf-16-le"), CsvDialect(), "save the file as UTF-8"),
        (b"current_R,current_S,current_T\r1,2,3\r", CsvDialect(), "CR alone"),
        (b"x" * (MAX_LINE_BYTES + 1), CsvDialect(), "line 1 is longer than"),
        (b"," * 5000 + b"\n", HEADERLESS, "5001 columns"),
        (b"PX\x03\x04\x1b[31m\n", CsvDialect(), r"header 'PX\\x03\\x04\\x1b\[31m'"),
    ],
)
def test_a_first_line_that_will_not_do_is_named_with_its_remedy(head: bytes, dialect: CsvDialect, message: str) -> None:
    with pytest.raises(CSVLoaderError, match=message):
        find_layout(head, dialect=dialect, name="motor.csv")
