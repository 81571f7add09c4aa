"""Files whose lines stand in one quoted cell each: whole, unwrapped, or refused; a quote elsewhere is no number."""

import numpy as np
import pytest

from signal_pipeline.errors import CSVLoaderError
from signal_pipeline.ingest.blocks import line_blocks
from signal_pipeline.ingest.cells import BlockParser
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.layout import find_layout

HEADER = '"current_R,current_S,current_T"'


def parsed(*lines: str, header: str = HEADER, end: str = "\n", dialect: CsvDialect | None = None) -> list[list[float]]:
    """The rows of a file; raises what the loader would."""
    data = "".join(line + end for line in (header, *lines)).encode()
    layout = find_layout(data, dialect=dialect or CsvDialect(), name="hostile.csv")
    parser = BlockParser(layout, "hostile.csv")
    body = data[layout.data_offset :]
    blocks = line_blocks([body], layout=layout, name="hostile.csv", offset=layout.data_offset, first_row=0)
    samples = np.concatenate([part for _, part in parser.parse_all(blocks)], axis=1)
    if parser.bad.count:
        raise parser.bad.error()
    return [[float(cell) for cell in row] for row in samples.T]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("line", ["1,2,3", '"1,2,3"', '"""1"",""2"",""3"""', '"1,""2"",3"', '" 1,2 ,3"'])
def test_a_line_is_plain_or_wrapped_whole(line: str, end: str) -> None:
    assert parsed("4,5,6", line, '"7,8,9"', end=end) == [[4, 5, 6], [1, 2, 3], [7, 8, 9]]


def test_wrapped_lines_hold_gaps_and_decimal_commas() -> None:
    assert np.isnan(parsed('"1,2,"')[0][2])
    comma = CsvDialect(decimal=",")
    header = '"current_R;current_S;current_T"'
    assert parsed('"1,5;2,5;3,5"', "1;2;3", header=header, dialect=comma) == [[1.5, 2.5, 3.5], [1, 2, 3]]


@pytest.mark.parametrize(
    "line",
    [
        *('"1"2,3,4', '"1,2,3"4', '5"6,1,2', '1,2,"', '1".5,2,3', '"1".5,2,3"', '"1","2","3"', '"1,2,3', '1,2,3"'),
        *('"', '""1,2,3""', '"1,2,3" ', ' "1,2,3"', '"1,2,""3"', '"1,2,3""', '"1,2,"3""'),
    ],
)
@pytest.mark.parametrize("beside", [(), ('"4,5,6"',), ("4,5,6",), ('"4,5,6""',)])
def test_a_quote_anywhere_else_is_refused_and_never_dropped(line: str, beside: tuple[str, ...]) -> None:
    with pytest.raises(CSVLoaderError, match=r"line 2 has a quote that is not closed, or text after a closed one"):
        parsed(line, *beside)


def test_no_flipped_bit_of_a_quoted_file_makes_another_number_by_way_of_a_quote() -> None:
    """12.5 became 1.5 when its 2 became a quote, and the quote was dropped."""
    for line in ("12.5,2,3", '"12.5,2,3"'):
        for place, char in enumerate(line):
            if chr(ord(char) ^ 0x10) == '"':
                with pytest.raises(CSVLoaderError):
                    parsed("1,1,1", line[:place] + '"' + line[place + 1 :])


def test_a_short_line_between_wrapped_ones_is_the_one_that_is_named() -> None:
    with pytest.raises(CSVLoaderError, match=r"line 3 has 2 cell\(s\), the header has 3"):
        parsed('"1,2,3"', '"1,2"', '"1,2,3"')


def test_a_wrapped_line_with_nothing_in_it_is_a_blank_line() -> None:
    with pytest.raises(CSVLoaderError, match="line 3 is blank"):
        parsed('"1,2,3"', '""', '"1,2,3"')


def test_a_bad_cell_of_a_wrapped_line_is_named_with_its_line() -> None:
    with pytest.raises(CSVLoaderError, match=r"row 2 \(line 3\), column current_S: 'x'"):
        parsed("1,2,3", '"1,x,3"')


def test_a_file_without_a_header_is_wrapped_if_its_first_line_is() -> None:
    numbered = CsvDialect(("1", "2", "3"), header=False)
    assert parsed("4,5,6", header='"1,2,3"', dialect=numbered) == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("line", ['1,2,"3" ', "1,2,3\r\r"])
def test_the_last_line_is_read_as_any_other(line: str) -> None:
    """Blanks at its end were taken away before it was looked at."""
    for lines in ((line, "4,5,6"), ("4,5,6", line)):
        with pytest.raises(CSVLoaderError):
            parsed(*lines, header="current_R,current_S,current_T")
