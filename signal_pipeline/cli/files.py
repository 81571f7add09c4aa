"""Recordings into the pipeline: `ingest` loads CSV files, `simulate` writes some."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from signal_pipeline.cli.console import fail, out, print_json, readable_errors, say
from signal_pipeline.cli.environment import Surroundings, surroundings
from signal_pipeline.cli.watch import AsJson
from signal_pipeline.counted import counted
from signal_pipeline.errors import SettingsError
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.load_report import FileOutcome, FileReport
from signal_pipeline.ingest.loader import LoadOptions, load_files
from signal_pipeline.ingest.recorded_at import impossible_time_in, parse_recorded_at, read_times
from signal_pipeline.ingest.sources import printable
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.settings import load_settings

Equipment = Annotated[str | None, typer.Option(help="Whose recordings these are; default: the folder's name.")]
SampleRate = Annotated[float | None, typer.Option(help="Samples a second (Hz).")]
RecordedAt = Annotated[str | None, typer.Option(help="When one file was recorded: ISO 8601, UTC unless it says other.")]
Times = Annotated[Path | None, typer.Option(help="CSV with file_name,recorded_at for many files.")]
Columns = Annotated[str | None, typer.Option(help="Other column names: R=ia,S=ib,T=ic (numbers with --no-header).")]
Replace = Annotated[bool, typer.Option("--replace", help="Load known files again; they replace what they gave.")]
NoHeader = Annotated[bool, typer.Option("--no-header", help="The first line is data.")]
DecimalComma = Annotated[bool, typer.Option("--decimal-comma", help="Numbers are written 1,5; cells end in ; or tab.")]

SHOWN = {FileOutcome.KNOWN: 10, FileOutcome.FAILED: 3, FileOutcome.REJECTED: 3}
"""Known files, and files that failed with the same words, that have a line of their own. Whoever loads a folder again
every hour reads the rest as a number; and in a folder of thousands all have one mistake."""

OTHERS_SHOWN = 1000
NAMES_SHOWN = 10

MARKS = {
    FileOutcome.NEW: "[green]new[/]",
    FileOutcome.KNOWN: "[cyan]known[/]",
    FileOutcome.FAILED: "[red]failed[/]",
    FileOutcome.REJECTED: "[bold red]rejected[/]",
}


MAX_SIMULATED = 20_000_000
"""Samples of a recording that `simulate` writes: 50 minutes at 6400 Hz, and half a gigabyte of memory."""


def load_options(
    *,
    equipment: str | None,
    sample_rate: float | None,
    recorded_at: str | None,
    times: Path | None,
    columns: str | None,
    no_header: bool,
    decimal_comma: bool = False,
) -> LoadOptions:
    """What the options of `ingest` and `demo` say. Raises `SettingsError` naming the option that is wrong."""
    if sample_rate is not None and not (math.isfinite(sample_rate) and sample_rate > 0):
        raise SettingsError(f"--sample-rate {sample_rate:g}: samples a second are a finite number above 0")
    at: datetime | None = None if recorded_at is None else parse_recorded_at(recorded_at, place="--recorded-at")
    return LoadOptions(
        equipment=equipment,
        sample_rate_hz=sample_rate,
        recorded_at=at,
        times=None if times is None else read_times(times),
        dialect=CsvDialect.from_options(columns, header=not no_header, decimal_comma=decimal_comma),
    )


def ingest(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="CSV files, or folders of them.")],
    equipment: Equipment = None,
    sample_rate: SampleRate = None,
    recorded_at: RecordedAt = None,
    times: Times = None,
    columns: Columns = None,
    no_header: NoHeader = False,
    decimal_comma: DecimalComma = False,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Load CSV files. Each becomes one signal, or several if it is long; a file that is known adds nothing.

    --replace loads known files again, at another sample rate or with other columns, say. What was loaded from them, and
    from the same paths before their content changed, goes with its features and scores; it stays if the new reading
    fails.

    Exit code 1 if a file was rejected: it could not be read, lies outside the data roots or is too large.
    """
    with readable_errors():
        if not all(paths):
            raise SettingsError("an empty path names nothing; this folder is written .")
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        options = load_options(
            equipment=equipment,
            sample_rate=sample_rate,
            recorded_at=recorded_at,
            times=times,
            columns=columns,
            no_header=no_header,
            decimal_comma=decimal_comma,
        )
        options = dataclasses.replace(options, replace=replace)
        with surroundings(settings) as here:
            loaded = load_and_tell(here, [Path(path) for path in paths], options, hint=" (--json lists them all)")
    if as_json:
        print_json(loaded.as_dict())
    else:
        out.print(loaded.summary())
    if loaded.count(FileOutcome.REJECTED):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of the files that a person named."""

    reports: tuple[FileReport, ...]

    def count(self, outcome: FileOutcome) -> int:
        return sum(report.outcome is outcome for report in self.reports)

    def summary(self) -> str:
        return ", ".join(f"{self.count(outcome)} {outcome.value}" for outcome in FileOutcome)

    def as_dict(self) -> dict[str, Any]:
        counts = {outcome.value: self.count(outcome) for outcome in FileOutcome}
        return counts | {"files": [report.as_dict() for report in self.reports]}


def load_and_tell(here: Surroundings, paths: Sequence[Path], options: LoadOptions, *, hint: str = "") -> Loaded:
    """Load the files, with a line on standard error for each that is not simply new; of those alike for the first.

    `hint` says where the others are listed.
    """
    reports: list[FileReport] = []
    alike: Counter[tuple[FileOutcome, str]] = Counter()
    files = load_files(
        here.engine, paths, options=options, settings=here.settings.ingest, features=here.settings.features
    )
    for report in files:
        reports.append(report)
        # the message of a stored failure names its file, too: for those who read it elsewhere
        message = (report.message or "").removeprefix(f"{Path(report.name).name}: ")
        kind = (report.outcome, "" if report.outcome is FileOutcome.KNOWN else message)
        alike[kind] += 1
        if message and alike[kind] <= SHOWN.get(report.outcome, alike[kind]):
            say(f"{MARKS[report.outcome]} {escape(report.name)}: {escape(message)}")
    _tell_of_times(reports, options)
    if any(report.outcome is FileOutcome.NEW and report.message for report in reports):
        say("their scores are gone with them: when they are processed, signal-pipeline rescore --equipment NAME")
    _tell_of_the_others(alike, hint)
    if not reports:
        say(f"no file whose name ends in .csv in {escape(', '.join(map(str, paths)))}{escape(_others(paths))}")
    return Loaded(tuple(reports))


def _tell_of_the_others(alike: Mapping[tuple[FileOutcome, str], int], hint: str) -> None:
    """How many files had no line of their own, and the words that they would have shared."""
    for (outcome, message), n in alike.items():
        if (more := n - SHOWN.get(outcome, n)) > 0:
            files = counted(more, f"more {outcome.value} file")
            say(f"… and {files}{hint}" + (f": {escape(message)}" if message else ""))


def _tell_of_times(reports: Sequence[FileReport], options: LoadOptions) -> None:
    """Warn of files that the time of their last change stands for, and of entries of --times that named no file."""
    undated = [report.name for report in reports if report.recorded_at_source == "mtime"]
    if undated:
        says, it = ("says", "it was") if len(undated) == 1 else ("say", "they were")
        say(
            f"[yellow]warning[/]: {len(undated)} of them {says} nowhere when {it} recorded, so the time of their "
            "last change stands for it; --times or --recorded-at says it better"
        )
    impossible = [f"{name} ({time})" for name in undated if (time := impossible_time_in(name)) is not None]
    if impossible:
        say(
            "[yellow]warning[/]: what is written like a time in these names is none from 1970 to 2199: "
            f"{escape(_listed(impossible))}"
        )
    found = {Path(report.name).name for report in reports}
    unused = [name for name in map(printable, options.times or ()) if name not in found]
    if unused:
        say(f"[yellow]warning[/]: --times names {len(unused)} that were not among the files: {escape(_listed(unused))}")


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _others(folders: Sequence[Path]) -> str:
    """What lies in the folders instead, by the ends of its names, for whoever exports `.txt` or packs with gzip."""
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    found = Counter(printable(file.suffix) or "no suffix" for file in islice(files, OTHERS_SHOWN))
    if not found:
        return ""
    listed = ", ".join(f"{n} {suffix}" for suffix, n in found.most_common(5))
    return f", but {listed}. Unpack what is packed; name other files one by one, as in FOLDER/*.txt"


def simulate(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if it is not there.")],
    motors: Annotated[int, typer.Option(min=1)] = 3,
    hours: Annotated[int, typer.Option(min=1)] = 24,
    recordings: Annotated[int, typer.Option(min=1, help="Files a motor.")] = 10,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of a recording.")] = 10.0,
    sample_rate: Annotated[float, typer.Option(min=100, help="Hz.")] = 6400.0,
    seed: int = 0,
) -> None:
    """Write a small fleet's recordings: one motor develops a fault, one file has bad cells, one is too short."""
    from signal_pipeline.synthetic import write_fleet

    if not seconds * sample_rate <= MAX_SIMULATED:  # nor is NaN
        fail(f"--seconds {seconds:g} at --sample-rate {sample_rate:g}: at most {MAX_SIMULATED} samples are written")
    try:
        truth = write_fleet(
            folder, motors=motors, hours=hours, recordings=recordings, seconds=seconds, fs=sample_rate, seed=seed
        )
    except OSError as error:
        fail(f"{error.filename or folder} cannot be written: {error.strerror}")
    out.print(
        f"{counted(len(truth.recordings), 'recording')} of {counted(len(truth.motors), 'motor')} in "
        f"{escape(str(folder))}; {truth.developing} develops a fault\n"
        f"load them: signal-pipeline ingest {escape(str(folder))} --sample-rate {truth.fs:g}",
        soft_wrap=True,  # a command that is broken in two cannot be pasted
    )
