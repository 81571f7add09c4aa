"""When a recording was made: said by a person, by a list, by the file's name, or by the file system.

Here: the order of these four, the forms of a timestamp, and the bounds of sense. Not here: any other meaning of a name.
All times are UTC; a time without an offset is taken as UTC.
"""

import csv
import io
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, NamedTuple

from signal_pipeline.domain import MAX_AHEAD, RejectionReason
from signal_pipeline.errors import FileRejected, SettingsError, ValidationFailed
from signal_pipeline.ingest.sources import CsvSource, open_csv, printable

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
MAX_TIMES_BYTES: Final = 64 * 2**20

# The offset -hhmm without a colon is not read: in 20250825_120000-0001.csv it is a serial number.
_TIME_IN_NAME: Final = re.compile(
    r"""(?<!\d)
    (?P<year>\d{4}) (?P<dash>[-_.]?) (?P<month>\d\d) (?P=dash) (?P<day>\d\d)
    [T_\ -]?
    (?P<hour>\d\d) (?P<colon>[-:_.]?) (?P<minute>\d\d) (?P=colon) (?P<second>\d\d)
    (?: [.,] (?P<fraction>\d{1,6}) )?
    (?P<offset> Z | \+\d\d:?\d\d | -\d\d:\d\d )?
    (?!\d)""",
    re.VERBOSE | re.ASCII,
)


class RecordedAt(NamedTuple):
    """The first sample's time (UTC) and who said so; the latter becomes `meta.recorded_at_source`."""

    at: datetime
    source: Literal["argument", "times", "file_name", "mtime"]


def recorded_at(
    file: CsvSource, *, explicit: datetime | None = None, times: Mapping[str, datetime] | None = None
) -> RecordedAt:
    """`explicit`, else the file's entry in `times`, else a timestamp in its name, else its mtime.

    Raises `SettingsError` for an explicit time outside 1970..2200 or in the future, and `FileRejected` for an mtime
    outside 1970..2200. A name and the file system may speak of the future; `check_not_ahead` says so.
    """
    if explicit is not None:
        return RecordedAt(_past(_sane(explicit, "--recorded-at"), "--recorded-at"), "argument")
    if times is not None and file.path.name in times:
        return RecordedAt(times[file.path.name], "times")
    if (named := time_in_name(file.path.name)) is not None:
        return RecordedAt(named, "file_name")
    # floats lose the microseconds of today's times, and datetime.fromtimestamp ends at year 9999
    seconds, nanoseconds = divmod(file.mtime_ns, 1_000_000_000)
    if not 0 <= seconds < LATEST.timestamp():
        raise FileRejected(
            f"{file.name}: its modification time, {seconds} s since 1970, lies outside 1970..2200; "
            "give --recorded-at or --times",
            reason=RejectionReason.UNREADABLE,
        )
    return RecordedAt(EARLIEST + timedelta(seconds=seconds, microseconds=nanoseconds // 1000), "mtime")


def check_not_ahead(recorded: RecordedAt, *, now: datetime) -> None:
    """Raise `ValidationFailed` for a time more than a day ahead of `now`: all that comes until then would be late.

    Nothing better is guessed: a clock that writes such a name or date is as wrong in the next file.
    """
    if recorded.at > now + MAX_AHEAD:
        says = "its name says" if recorded.source == "file_name" else "it was last changed"
        raise ValidationFailed(
            f"{says} {recorded.at.isoformat()}, and that is in the future (now: {now.isoformat(timespec='seconds')}); "
            "give the time of the record with --recorded-at or --times"
        )


def parse_recorded_at(text: str, *, place: str) -> datetime:
    """`parse_time` of a recording: raises `SettingsError`, too, for a time more than a day ahead of this clock."""
    return _past(parse_time(text, place=place), place)


def parse_time(text: str, *, place: str) -> datetime:
    """An ISO 8601 time as UTC. Raises `SettingsError` naming `place` (an option, or a file and line)."""
    try:
        return _sane(datetime.fromisoformat(text.strip()), place)
    except ValueError as error:
        raise SettingsError(f"{place}: '{printable(text)}' is not a time like 2025-08-25T12:00:00+00:00") from error


def parse_range(
    start: str | None, end: str | None, *, places: tuple[str, str] = ("--from", "--to")
) -> tuple[datetime | None, datetime | None]:
    """Both bounds as UTC, None where there is none. Raises `SettingsError`, too, where nothing lies between them."""
    since, until = (
        None if text is None else parse_time(text, place=place)
        for text, place in zip((start, end), places, strict=True)
    )
    if since is not None and until is not None and since >= until:
        raise SettingsError(
            f"{places[0]} {since.isoformat()} is not before {places[1]} {until.isoformat()}: nothing lies between them"
        )
    return since, until


def time_in_name(name: str) -> datetime | None:
    """The first possible timestamp in a file's name, or None.

    Read are `2025-08-25T12-00-00`, `20250825_120000`, `2025-08-25 120000` and their kin, with a fraction and an offset.
    Digits that make no time within 1970..2200 are taken for something else, a serial number for example.
    """
    return next((time for match in _TIME_IN_NAME.finditer(name) if (time := _time_of(match)) is not None), None)


def impossible_time_in(name: str) -> str | None:
    """What in a file's name is written like a time, date and clock apart, and is none within 1970..2200; else None."""
    if time_in_name(name) is not None:
        return None
    return next((found[0] for found in _TIME_IN_NAME.finditer(name) if found["dash"] and found["colon"]), None)


def _time_of(match: re.Match[str]) -> datetime | None:
    fields = match.groupdict()
    date = "-".join(fields[part] for part in ("year", "month", "day"))
    time = ":".join(fields[part] for part in ("hour", "minute", "second"))
    fraction = f".{fields['fraction']:0<6}" if fields["fraction"] else ""
    try:
        return _sane(datetime.fromisoformat(f"{date}T{time}{fraction}{fields['offset'] or ''}"), "file name")
    except (ValueError, SettingsError):
        return None


def read_times(path: Path) -> dict[str, datetime]:
    """The times of a CSV with the columns `file_name,recorded_at`, by file name.

    Raises `FileRejected` when it cannot be read, and `SettingsError` naming the line for anything else.
    """
    with open_csv(path.resolve(), max_bytes=MAX_TIMES_BYTES) as file:
        content = file.read()
    name = printable(path.name)
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        if rows.fieldnames is None or any(rows.fieldnames.count(name) != 1 for name in ("file_name", "recorded_at")):
            raise SettingsError(
                f"--times {name}: the header must be file_name,recorded_at, not {printable(str(rows.fieldnames))}"
            )
        times: dict[str, datetime] = {}
        for row in rows:
            place = f"--times {name}, line {rows.line_num}"
            file_name, text = row["file_name"], row["recorded_at"]
            if None in row:
                raise SettingsError(f"{place}: more cells than columns; a time is written 2025-08-25T12:00:00")
            if not file_name or not text:
                raise SettingsError(f"{place}: a file name and a time are needed")
            if file_name in times:
                raise SettingsError(f"{place}: {printable(file_name)} stands there twice")
            times[file_name] = parse_recorded_at(text, place=place)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"--times {name} is not a CSV in UTF-8: {error}") from error
    return times


def _past(at: datetime, place: str) -> datetime:
    if at > datetime.now(UTC) + MAX_AHEAD:
        raise SettingsError(f"{place}: {at.isoformat()} is in the future; a recording was made in the past")
    return at


def _sane(at: datetime, place: str) -> datetime:
    try:
        utc = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        utc = at.replace(tzinfo=UTC)  # year 1 or 9999, and out of bounds either way
    if not EARLIEST <= utc < LATEST:
        raise SettingsError(f"{place}: {at.isoformat()} lies outside {EARLIEST.year}..{LATEST.year}")
    return utc
