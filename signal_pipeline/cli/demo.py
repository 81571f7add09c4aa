"""`signal-pipeline demo`: everything at once, on simulated recordings or on a person's own."""

import shlex
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from signal_pipeline.cli.console import err, out, readable_errors
from signal_pipeline.cli.demo_history import findings, learn, with_own_models, write_report
from signal_pipeline.cli.dev import Port
from signal_pipeline.cli.environment import Surroundings, surroundings
from signal_pipeline.cli.files import (
    Columns,
    DecimalComma,
    Equipment,
    NoHeader,
    RecordedAt,
    SampleRate,
    Times,
    load_and_tell,
    load_options,
)
from signal_pipeline.cli.server import DagsterServer, Stopped, dagster_server, stoppable
from signal_pipeline.cli.watch import FAILURES_SHOWN, failures_table, status_table
from signal_pipeline.db import fleet, migrate
from signal_pipeline.db.diagnostics import store_plates
from signal_pipeline.ingest.load_report import FileOutcome
from signal_pipeline.ingest.loader import LoadOptions
from signal_pipeline.ingest.sources import printable
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.observability.status import PipelineStatus, read_failures, read_status
from signal_pipeline.processing.worker import Worker, worker_name
from signal_pipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from signal_pipeline.synthetic import HistoryTruth

POLL_SECONDS = 1.0


def demo(
    data: Annotated[Path | None, typer.Option(help="A folder of CSV files; default: a simulated fleet.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the summary instead of serving on.")] = False,
    port: Port = 3000,
    equipment: Equipment = None,
    sample_rate: SampleRate = None,
    recorded_at: RecordedAt = None,
    times: Times = None,
    columns: Columns = None,
    no_header: NoHeader = False,
    decimal_comma: DecimalComma = False,
) -> None:
    """Load recordings, let Dagster's sensor process them, and show what came out. Ctrl-C ends it all."""
    with readable_errors():
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
        try:
            with stoppable():
                rejected = _demo(settings, data, options, once=once, port=port)
        except (Stopped, KeyboardInterrupt):  # a job that runs in this process turns the signal into its own
            out.print("stopped")
            return
    if rejected:
        raise typer.Exit(1)


def _demo(settings: Settings, data: Path | None, options: LoadOptions, *, once: bool, port: int) -> int:
    if data is None:
        settings = with_own_models(settings)
    looked_at = settings.view.model_copy(update={"pictures_thrifty": False})  # a demo is there to be looked at
    settings = settings.model_copy(update={"view": looked_at})
    with surroundings(settings, migrated=False) as here:
        where = "the embedded Postgres" if here.embedded else "DATABASE_URL"
        out.print(f"[bold]1[/] database: {where}")
        migrate.upgrade(here.url)
        rejected, history = _load(here, data, options)
        out.print("[bold]3[/] starting Dagster: its sensor claims what is pending")
        with dagster_server(here, port=port, quiet=True) as server:
            server.wait_until_ready()
            out.print(f"  UI at [bold]{server.url}[/]")
            found = _follow(here, server)
            _renew(here)
            if history is not None:
                out.print(f"  {history.equipment}: a model of its healthy days, then scores and a forecast")
                learn(here, history)
            _check(here)
            url = None if once else server.url
            _summary(here, found, url)
            if history is not None:
                _tell_history(here, history, url)
            else:
                _tell_reports(here)
            while not once:
                server.check()
                time.sleep(0.5)
    return rejected


def _load(here: Surroundings, data: Path | None, options: LoadOptions) -> "tuple[int, HistoryTruth | None]":
    """Load the person's folder, or the simulated motors; returns how many files were rejected, and the motor of many
    days if there is one."""
    history = None
    if data is not None:
        todo = [(data, options)]
    else:
        fleet, history = _simulated(here)
        todo = [
            (fleet[0], replace(options, sample_rate_hz=fleet[1])),
            (history.folder, LoadOptions(sample_rate_hz=history.fs)),
        ]
    rejected = 0
    out.print(f"[bold]2[/] loading {escape(' and '.join(str(folder) for folder, _ in todo))}", soft_wrap=True)
    for folder, how in todo:
        loaded = load_and_tell(here, [folder], how)
        out.print(f"  {loaded.summary()}")
        rejected += loaded.count(FileOutcome.REJECTED)
    return rejected, history


def _simulated(here: Surroundings) -> "tuple[tuple[Path, float], HistoryTruth]":
    """A fleet's folder and sample rate (Hz), and a motor of many days: the same at every start, with their plates."""
    from signal_pipeline.synthetic import write_fleet, write_history

    home = here.settings.app.signal_pipeline_home
    fleet = write_fleet(home / "demo")
    history = write_history(home / "demo-history", seconds=max(1.0, here.settings.features.window_ms / 1000))
    motors = fleet.motors | {history.equipment: history.motor}
    with here.engine.begin() as conn:
        store_plates(conn, {name: asdict(motor) for name, motor in motors.items()})
    return (home / "demo", fleet.fs), history


def _follow(here: Surroundings, server: DagsterServer) -> PipelineStatus:
    """Show progress until every signal is final."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=not err.is_terminal) as progress:
        task = progress.add_task("signals", total=None)
        while True:
            found = read_status(here.engine)
            total = sum(found.signals.values())
            progress.update(task, total=total, completed=total - found.unfinished)
            if not found.unfinished:
                return found
            server.check()
            time.sleep(POLL_SECONDS)


def _renew(here: Surroundings) -> None:
    """What an earlier version of the code has left in this home cannot be compared with what this one computes."""
    from signal_pipeline.cli.dagster_work import recompute_outdated

    asked, computed = recompute_outdated(here, equipment=(), on_batch=lambda _: None)
    if asked:
        out.print(f"  {computed} of {asked} signals that another version had computed were computed again")


def _check(here: Surroundings) -> None:
    """Execute the asset checks once: hourly is too late for somebody who looks at the UI now."""
    from signal_pipeline.cli.dagster_work import run_checks

    found = run_checks(here, Worker(here.engine, here.settings, worker_name()))
    wanting = [name for name, passed in found.items() if not passed]
    told = f"; not passed: {', '.join(wanting)}" if wanting else ""
    out.print(f"  asset checks: {len(found) - len(wanting)} of {len(found)} passed{told}", soft_wrap=True)


def _summary(here: Surroundings, found: PipelineStatus, url: str | None) -> None:
    """The status; and where the UI is, unless it ends with this command."""
    out.print("[bold]4[/] done")
    out.print(status_table(found))
    failed = read_failures(here.engine, limit=FAILURES_SHOWN)
    if failed:
        out.print(failures_table(failed))
    if url is not None:
        out.print(f"lineage, partitions and runs: [bold]{url}[/]", soft_wrap=True)
    out.print(
        "features in Python: signal_pipeline.read.load_features(); in SQL: signal-pipeline db run -- psql",
        soft_wrap=True,
    )


def _tell_reports(here: Surroundings) -> None:
    """What to type next to look at one's own motors; the most urgent stands for all."""
    if motors := fleet.read_motors(here.engine):
        name = shlex.quote(printable(motors[0].name))
        told = f"motors: signal-pipeline equipment list; one as a page: signal-pipeline report --equipment {name}"
        out.print(told, markup=False, soft_wrap=True)


def _tell_history(here: Surroundings, history: "HistoryTruth", url: str | None) -> None:
    """What the models found, and where to look at it."""
    for line in findings(here, history):
        out.print(line, markup=False, soft_wrap=True)
    out.print(f"report: {write_report(here, history.equipment)}", markup=False, soft_wrap=True)
    if url is None:
        out.print("the same in Dagster's UI: without ONCE=1 (--once); nothing is computed twice")
    else:
        out.print(f"pictures: {url}/assets/anomaly_model and {url}/assets/forecasts", soft_wrap=True)
