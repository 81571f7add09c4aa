"""When a recording was made: who is asked first, what a time looks like, and what cannot be one."""

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_pipeline.domain import RejectionReason
from signal_pipeline.errors import FileRejected, SettingsError
from signal_pipeline.ingest.recorded_at import (
    parse_range,
    parse_recorded_at,
    parse_time,
    read_times,
    recorded_at,
    time_in_name,
)
from signal_pipeline.ingest.sources import CsvSource

NOON = datetime(2025, 8, 25, 12, tzinfo=UTC)


def source(name: str, *, mtime_ns: int = 1_500_000_000_123_456_789) -> CsvSource:
    return CsvSource(Path("/data") / name, Path("/data"), 10, mtime_ns)


def test_the_argument_goes_before_the_list_the_name_and_the_file_system() -> None:
    file = source("20250825_120000.csv")
    listed = {file.path.name: NOON + timedelta(days=2)}
    assert recorded_at(file, explicit=NOON + timedelta(days=1), times=listed) == (NOON + timedelta(days=1), "argument")
    assert recorded_at(file, times=listed) == (NOON + timedelta(days=2), "times")
    assert recorded_at(file, times={"other.csv": NOON}) == (NOON, "file_name")
    assert recorded_at(source("motor.csv")) == (datetime(2017, 7, 14, 2, 40, 0, 123456, tzinfo=UTC), "mtime")


@pytest.mark.parametrize(
    "name",
    [
        "2025-08-25T12-00-00.csv",
        "2025-08-25T12:00:00Z.csv",
        "2025-08-25 120000.csv",
        "2025-08-25_12-00-00.csv",
        "20250825_120000.csv",
        "20250825T120000Z.csv",
        "20250825-120000.csv",
        "20250825120000.csv",
        "2025.08.25 12.00.00.csv",
        "motor7_20250825_120000_run3.csv",
        "20250825_120000-0001.csv",
        "20250825T140000+0200.csv",
        "2025-08-25T07:00:00-05:00 motor.csv",
        "99991231_235959 20250825_120000.csv",
    ],
)
def test_the_usual_forms_of_a_time_in_a_name_are_read(name: str) -> None:
    assert time_in_name(name) == NOON


def test_a_fraction_in_a_name_is_read() -> None:
    assert time_in_name("20250825_120000.25.csv") == NOON + timedelta(seconds=0.25)


@pytest.mark.parametrize(
    "name",
    [
        "motor.csv",
        "20250825.csv",
        "1756123200.csv",
        "20251325_120000.csv",
        "20250825_250000.csv",
        "00000825_120000.csv",
        "99990825_120000.csv",
        "19690825_120000.csv",
        "120250825_120000.csv",
        "20250825_1200001.csv",
        "٢٠٢٥0825_120000.csv",
    ],
)
def test_other_digits_are_no_time(name: str) -> None:
    assert time_in_name(name) is None


@given(at=st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31)))  # noqa: DTZ001 - hypothesis adds the zone
def test_a_time_that_is_written_into_a_name_comes_back(at: datetime) -> None:
    whole = at.replace(microsecond=0, tzinfo=UTC)
    for form in ("%Y-%m-%dT%H-%M-%S", "%Y%m%d_%H%M%S", "%Y-%m-%d %H%M%S"):
        assert time_in_name(f"m1_{whole.strftime(form)}.csv") == whole


@given(name=st.text(max_size=60))
def test_any_name_gives_a_sane_time_or_none(name: str) -> None:
    at = time_in_name(name)
    assert at is None or 1970 <= at.year < 2200


def test_a_time_without_an_offset_is_utc() -> None:
    assert parse_time("2025-08-25 12:00", place="--recorded-at") == NOON
    assert parse_time(" 2025-08-25T14:00:00+02:00 ", place="--recorded-at") == NOON


def test_a_range_in_which_nothing_lies_is_refused_and_names_both_ends() -> None:
    assert parse_range("2025-08-25", None) == (NOON - timedelta(hours=12), None)
    assert parse_range(None, "2025-08-25T12:00Z") == (None, NOON)
    with pytest.raises(SettingsError, match=r"--from 2025-08-26T.* is not before --to 2025-08-25T"):
        parse_range("2025-08-26", "2025-08-25")
    with pytest.raises(SettingsError, match=r"start 2025.* is not before end"):
        parse_range("2025-08-25", "2025-08-25", places=("start", "end"))


SENSELESS = (
    *("", "yesterday", "\x1b[31m", "1756123200.5", "0000-01-01", "1969-12-31", "2200-01-01"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
)


@pytest.mark.parametrize("text", SENSELESS)
def test_a_senseless_time_is_refused_where_it_stands(text: str) -> None:
    with pytest.raises(SettingsError, match="--recorded-at: ") as raised:
        parse_time(text, place="--recorded-at")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("year", [1, 1969, 2201, 9999])
def test_an_argument_outside_the_bounds_is_refused(year: int) -> None:
    with pytest.raises(SettingsError, match=r"1970\.\.2200"):
        recorded_at(source("m.csv"), explicit=datetime(year, 1, 1, tzinfo=timezone(timedelta(hours=5))))


def test_a_time_in_the_future_is_refused_where_a_person_says_it(tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(days=2)
    with pytest.raises(SettingsError, match=r"--recorded-at: .* is in the future"):
        recorded_at(source("m.csv"), explicit=soon)
    with pytest.raises(SettingsError, match=r"--recorded-at: 2099-01-01.* is in the future"):
        parse_recorded_at("2099-01-01", place="--recorded-at")
    path = tmp_path / "times.csv"
    path.write_text("file_name,recorded_at\na.csv,2025-08-25\nb.csv,2099-01-01\n")
    with pytest.raises(SettingsError, match=r"times\.csv, line 3: 2099-01-01.* is in the future"):
        read_times(path)
    assert parse_time("2099-01-01", place="--to") == datetime(2099, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [-1, -62_135_596_800, 7_258_118_400, 253_402_300_800])
def test_an_mtime_outside_the_bounds_is_rejected_with_its_remedy(seconds: int) -> None:
    with pytest.raises(FileRejected, match="--recorded-at or --times") as raised:
        recorded_at(source("m.csv", mtime_ns=seconds * 10**9))
    assert raised.value.reason == RejectionReason.UNREADABLE


def test_the_list_of_times_is_read_by_file_name(tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    path.write_text('\ufeffrecorded_at,note,file_name\r\n2025-08-25T14:00+02:00,,"a,b.csv"\r\n2025-08-25,x,c.csv\r\n')
    assert read_times(path) == {"a,b.csv": NOON, "c.csv": NOON - timedelta(hours=12)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header must be file_name,recorded_at"),
        (b"a,b\n", "header must be file_name,recorded_at"),
        (b"file_name,recorded_at\na.csv,noon\n", "line 2: 'noon' is not a time"),
        (b"file_name,recorded_at\na.csv,2025-08-25\na.csv,2025-08-26\n", "line 3: a.csv stands there twice"),
        (b"file_name,recorded_at\na.csv\n", "line 2: a file name and a time are needed"),
        (b"file_name,recorded_at\na.csv,2025-08-25,12:00:00\n", "line 2: more cells than columns"),
        (b"file_name,recorded_at,recorded_at\na.csv,2025-08-25,\n", "header must be file_name,recorded_at"),
        (b"file_name,recorded_at\na.csv,9999-01-01\n", r"line 2: .*1970\.\.2200"),
        (b"file_name,recorded_at\n\xff,2025-08-25\n", "not a CSV in UTF-8"),
        (b'file_name,recorded_at\n"a.csv,2025-08-25\n', "not a CSV in UTF-8"),
        (b"file_name,recorded_at\n" + b"x" * 200_000 + b",2025-08-25\n", "not a CSV in UTF-8"),
    ],
)
def test_a_bad_list_of_times_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "times.csv"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"--times times\.csv.*{message}"):
        read_times(path)


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_pipe_is_no_list_of_times(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "times.csv")
    with pytest.raises(FileRejected):
        read_times(tmp_path / "times.csv")
