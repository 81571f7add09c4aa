"""Looking at the pipeline: `status` and `health`."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from signal_pipeline.cli.console import out, print_json, readable_errors
from signal_pipeline.cli.environment import surroundings
from signal_pipeline.errors import DatabaseUnavailable, SettingsError
from signal_pipeline.observability.health import Check, check_health
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.observability.models_in_use import ModelInUse, models_in_use
from signal_pipeline.observability.status import FailedSignal, PipelineStatus, read_failures, read_status
from signal_pipeline.settings import Settings, load_settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]

FAILURES_SHOWN = 10


NARROW = 80
"""Columns below which failures are listed one below the other."""


def status(as_json: AsJson = False) -> None:
    """What is pending, being processed, completed and failed, and why; how fast, by whom, and with which models.

    Exit code 0: it could be read, whatever it says. 1: the database does not answer, or is not migrated; a setting is
    wrong. 2: there is no such option.
    """
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings, create=False) as here:
            found = read_status(here.engine)
            failed = [] if as_json else read_failures(here.engine, limit=FAILURES_SHOWN)
        models = models_of(settings)
    if as_json:
        print_json(found.as_dict() | {"models": {kind: one and one.as_dict() for kind, one in models.items()}})
        return
    out.print(status_table(found, models))
    if failed:
        out.print(failures_table(failed))


def models_of(settings: Settings) -> dict[str, ModelInUse | None]:
    """The models that a worker with these settings would use, and why it would refuse them."""
    from signal_pipeline.processing.signal_work import current_version

    return models_in_use(settings.models.models_dir, feature_version=current_version(settings.features))


def failures_table(failed: Sequence[FailedSignal]) -> RenderableType:
    """The latest failures, and what was wrong with each file. Nothing is cut off, however narrow the terminal."""
    if out.width < NARROW:
        return Group(*(_failure(one) for one in failed))
    table = _table("file", "reason", "what was wrong", show_header=True)
    for failure in failed:
        table.add_row(escape(failure.name), failure.reason, escape(failure.message))
    return table


def _failure(failure: FailedSignal) -> RenderableType:
    message = Text(f"{failure.reason}: {failure.message}", overflow="fold")
    return Group(Text(failure.name, overflow="fold"), Padding(message, (0, 0, 0, 2)))


def _table(*headers: str, show_header: bool = False) -> Table:
    """Columns whose long words go on in the next line."""
    columns = [Column(header, overflow="fold") for header in headers]
    return Table(*columns, show_header=show_header, box=None, pad_edge=False)


def status_table(found: PipelineStatus, models: Mapping[str, ModelInUse | None] | None = None) -> Table:
    """The status as a table that fits a narrow terminal."""
    table = _table("what", "value")
    for name, n in found.signals.items():
        table.add_row(f"signals {name}", str(n))
    for reason, n in found.failures.items():
        table.add_row(f"  failed: {reason}", str(n))
    for name, n in found.last_hour.items():
        table.add_row(f"{name} in the last hour", f"{n}, {found.per_minute(name):g}/min")
    table.add_row("features, in all", str(found.features_total))
    table.add_row("leases", f"{found.leases['live']} live, {found.leases['expired']} expired")
    if found.oldest_pending_seconds is not None:
        table.add_row("oldest pending", f"{found.oldest_pending_seconds:.0f} s")
    for worker in found.workers:
        until = f"{worker.lease_expires_at.astimezone(UTC):%H:%M:%S} UTC"
        table.add_row(f"  held by {escape(worker.name)}", f"{worker.signals} until {until}")
    if found.last_completed is not None:
        table.add_row("last completed", f"{found.last_completed:%Y-%m-%d %H:%M:%S} UTC")
    for kind, model in (models or {}).items():
        table.add_row(f"model {kind}", _model(model))
    return table


def _model(model: ModelInUse | None) -> str:
    if model is None:
        return "none"
    return escape(str(model.version) if model.refused is None else f"refused: {model.refused}")


def health(as_json: AsJson = False) -> None:
    """Whether the pipeline could work now: database, migrations, Dagster's daemon, disk.

    Exit code 0: all is well. 1: something is not, or a setting is wrong. 2: there is no such option.
    """
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
