"""What a person is told to type when the header has other names."""

import gzip
import shlex

import pytest

from signal_pipeline.errors import CSVLoaderError
from signal_pipeline.ingest.dialect import CsvDialect, parse_columns
from signal_pipeline.ingest.header_hints import proposed, remedy
from signal_pipeline.ingest.layout import find_layout


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("R,S,T", ("R", "S", "T")),
        ("time,a,b,c", ("a", "b", "c")),
        ("t,I1,I2,I3", ("I1", "I2", "I3")),
        ("L1,L2,L3", ("L1", "L2", "L3")),
        ("W,V,U", ("U", "V", "W")),
        ("Strom L1 [A],Strom L2 [A],Strom L3 [A]", ("Strom L1 [A]", "Strom L2 [A]", "Strom L3 [A]")),
        ("Phase A,Phase B,Phase C", ("Phase A", "Phase B", "Phase C")),
        ("Ток R,Ток S,Ток T", ("Ток R", "Ток S", "Ток T")),
        ("Фаза А,Фаза Б,Фаза В", ("Фаза А", "Фаза Б", "Фаза В")),
        ("Фаза А,Фаза В,Фаза С", ("Фаза А", "Фаза В", "Фаза С")),
        ("Current_R,CURRENT_S,current_t", ("Current_R", "CURRENT_S", "current_t")),
        ("u1,u2,u3,i1,i2,i3", ("i1", "i2", "i3")),
        ("current", ("current", None, None)),
    ],
)
def test_columns_that_are_named_like_phases_are_proposed_as_an_option(
    header: str, columns: tuple[str | None, ...]
) -> None:
    option = proposed(header.split(","))
    assert option is not None
    assert parse_columns(option) == columns


@pytest.mark.parametrize("header", ["foo,bar,baz", "time,current", "R,S,T,a,b,c", "u1,u2,u3", "Ia,Ia,Ib,Ic", ",,"])
def test_where_it_is_not_clear_which_columns_are_meant_none_is_proposed(header: str) -> None:
    assert proposed(header.split(",")) is None


def test_the_proposal_can_be_pasted_into_a_shell_and_then_reads_the_file() -> None:
    header = b"Strom L1 [A];Strom L2 [A];Strom L3 [A]\n"
    with pytest.raises(CSVLoaderError) as failed:
        find_layout(header, dialect=CsvDialect(), name="a.csv")
    *_, option, columns = shlex.split(str(failed.value).partition("; if")[2])
    assert option == "--columns"
    assert find_layout(header, dialect=CsvDialect.from_options(columns), name="a.csv").indices == (0, 1, 2)


def test_a_header_of_terminal_escapes_does_not_reach_the_terminal() -> None:
    with pytest.raises(CSVLoaderError) as failed:
        find_layout(b"I\x1b[31m1,I\x1b[31m2,I\x1b[31m3\n", dialect=CsvDialect(), name="a.csv")
    assert str(failed.value).isprintable()
    assert len(remedy([f"{'i' * 5000}{n}" for n in "123"], "")) > 5000  # which is cut where it is shown


@pytest.mark.parametrize(
    ("head", "what"),
    [(gzip.compress(b"current_R\n1\n", mtime=0), "gzip"), (b"PK\x03\x04....", "spreadsheet")],
    ids=["gzip", "spreadsheet"],  # the bytes themselves would be part of the test's name
)
def test_a_packed_file_says_to_unpack_it(head: bytes, what: str) -> None:
    with pytest.raises(CSVLoaderError, match=f"{what}.*unpack"):
        find_layout(head, dialect=CsvDialect(), name="a.csv")


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        (b"current_R|current_S|current_T\n1|2|3\n", CsvDialect()),
        (b"1|2|3\n", CsvDialect(("1", "2", "3"), header=False)),
    ],
)
def test_a_delimiter_that_is_not_read_is_named_and_no_option_that_cannot_help(
    content: bytes, dialect: CsvDialect
) -> None:
    with pytest.raises(CSVLoaderError, match=r"cells end in '\|' there, which is not read") as failed:
        find_layout(content, dialect=dialect, name="a.csv")
    assert "--columns" not in str(failed.value)


def test_a_page_is_called_one() -> None:
    for head in (b"<!DOCTYPE html>\n", b"<html>\n", b"  <?xml version='1.0'?>\n"):
        with pytest.raises(CSVLoaderError, match="a page or XML") as failed:
            find_layout(head, dialect=CsvDialect(), name="a.csv")
        assert "--columns" not in str(failed.value)


def test_line_ends_of_cr_cr_lf_are_called_that() -> None:
    with pytest.raises(CSVLoaderError, match="lines end in CR CR LF"):
        find_layout(b"current_R,current_S,current_T\r\r\n", dialect=CsvDialect(), name="a.csv")
