"""Looking at the pipeline: `status` and `health`."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from signal_pipeline.cli.console import out, print_json, readable_errors
from signal_pipeline.cli.environment import surroundings
from signal_pipeline.errors import DatabaseUnavailable, SettingsError
from signal_pipeline.observability.health import Check, check_health
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.observability.status import FailedSignal, PipelineStatus, read_failures, read_status
from signal_pipeline.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]

FAILURES_SHOWN = 10


def status(as_json: AsJson = False) -> None:
    """What is pending, being processed, completed and failed, and why."""
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings, create=False) as here:
            found = read_status(here.engine)
            failed = [] if as_json else read_failures(here.engine, limit=FAILURES_SHOWN)
    if as_json:
        print_json(found.as_dict())
        return
    out.print(status_table(found))
    if failed:
        out.print(failures_table(failed))


def failures_table(failed: Sequence[FailedSignal]) -> Table:
    """The latest failures, and what was wrong with each file."""
    table = Table("file", "reason", "what was wrong", box=None, pad_edge=False)
    for failure in failed:
        table.add_row(escape(failure.name), failure.reason, escape(failure.message))
    return table


def status_table(found: PipelineStatus) -> Table:
    """The status as a table that fits a narrow terminal."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, n in found.signals.items():
        table.add_row(f"signals {name}", str(n))
    for reason, n in found.failures.items():
        table.add_row(f"  failed: {reason}", str(n))
    table.add_row("features", str(found.features_total))
    table.add_row("leases", f"{found.leases['live']} live, {found.leases['expired']} expired")
    if found.oldest_pending_seconds is not None:
        table.add_row("oldest pending", f"{found.oldest_pending_seconds:.0f} s")
    for worker in found.workers:
        table.add_row(f"  held by {escape(worker['name'])}", f"{worker['signals']} until {worker['lease_expires_at']}")
    if found.last_completed is not None:
        table.add_row("last completed", f"{found.last_completed:%Y-%m-%d %H:%M:%S} UTC")
    return table


def health(as_json: AsJson = False) -> None:
    """Whether the pipeline could work now. Exit code 0: all is well; 1: something is not."""
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        try:
            with surroundings(settings, migrated=False, create=False) as here:
                checks = check_health(here.engine, settings)
        except (DatabaseUnavailable, SettingsError) as error:
            checks = [Check("database", ok=False, message=str(error))]
    _show(checks, as_json=as_json)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _show(checks: list[Check], *, as_json: bool) -> None:
    if as_json:
        healthy = all(check.ok for check in checks)
        parts = {check.name: {"ok": check.ok, "message": check.message} for check in checks}
        print_json({"healthy": healthy, "checks": parts})
        return
    for check in checks:
        mark = "[green]ok[/]  " if check.ok else "[red]FAIL[/]"
        out.print(f"{mark} {check.name}: {escape(check.message)}")
