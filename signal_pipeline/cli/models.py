"""Models by hand: `train`, `detect`, `rescore` and `forecast`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer

from signal_pipeline.anomaly.folds import MAX_FOLDS
from signal_pipeline.anomaly.reference import Dropped, Reference
from signal_pipeline.cli.console import out, print_json, readable_errors
from signal_pipeline.cli.environment import surroundings
from signal_pipeline.cli.watch import AsJson
from signal_pipeline.db.proposals import decide, open_proposals
from signal_pipeline.errors import SettingsError
from signal_pipeline.ingest.recorded_at import parse_range
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.processing import models
from signal_pipeline.processing.forecasting import Issued, forecast_due
from signal_pipeline.processing.worker import Worker, worker_name
from signal_pipeline.settings import load_settings

Equipment = Annotated[list[str] | None, typer.Option("--equipment", help="Only this one; may be repeated.")]
From = Annotated[str | None, typer.Option("--from", help="Windows from this time on (ISO 8601, UTC).")]
To = Annotated[str | None, typer.Option("--to", help="Windows before this time.")]


@contextmanager
def _worker() -> Iterator[Worker]:
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings, create=False) as here:
            try:
                yield Worker(here.engine, settings, worker_name())
            except ValueError as error:
                raise SettingsError(str(error)) from error


def train(equipment: Equipment = None, start: From = None, end: To = None, as_json: AsJson = False) -> None:
    """Fit anomaly models on the stored windows of healthy recordings, and make them the latest version.

    From then on every new signal is scored as it passes. References of other equipment are kept.
    """
    with _worker() as worker:
        since, until = parse_range(start, end)
        trained = models.train(worker, equipment=equipment or None, start=since, end=until)
    version = trained.models.version
    if as_json:
        print_json({"version": version, "windows": trained.windows, "refused": trained.refused})
        return
    out.print(f"model {version} is the latest")
    for name, n in trained.windows.items():
        out.print(f"  {name}: {trained.refused.get(name) or f'{n} windows'}", markup=False)
        reference = trained.models.references.get((name, "stream"))
        if reference is not None and name not in trained.refused:
            out.print(*[f"    {line}" for line in advice(reference)], sep="\n", markup=False)


def advice(reference: Reference) -> list[str]:
    """What a reference did not learn, and what would teach it, in words for whoever chose the recordings."""
    count, dropped = len(reference.recordings), reference.scaler.dropped
    lines = [f"learnt {len(reference.scaler.used)} of {len(reference.scaler.features)} features"]
    if count < MAX_FOLDS:
        lines.append(f"healthy recordings: {count}; give {MAX_FOLDS} or more, from different days and loads")
    if count == 1:
        lines.append("one recording does not show how days differ: the next day may alarm though nothing is wrong")
    why = {
        Dropped.SURPLUS: "left out, because so few recordings do not show how they differ from day to day",
        Dropped.CONSTANT: "left out, because they never change",
        Dropped.MISSING: "left out, because they are missing in too many windows",
    }
    for reason, words in why.items():
        if names := [name for name, found in dropped.items() if found is reason]:
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            lines.append(f"{len(names)} {words}: {shown}")
    return lines


def detect(equipment: Equipment = None, start: From = None, end: To = None, as_json: AsJson = False) -> None:
    """Score stored windows that the `stats` model has not scored yet, outside the stream."""
    with _worker() as worker:
        since, until = parse_range(start, end)
        found = models.detect(worker, equipment=equipment or None, start=since, end=until)
    _show(found, as_json=as_json)


def rescore(
    equipment: Annotated[list[str], typer.Option("--equipment", help="Whose stream; may be repeated.")],
    as_json: AsJson = False,
) -> None:
    """Replay an equipment's stored windows in time order under the latest model: late recordings find their place."""
    with _worker() as worker:
        found = models.rescore(worker, equipment=equipment)
    _show(found, as_json=as_json)


def forecast(equipment: Equipment = None, as_json: AsJson = False) -> None:
    """Forecast the hourly RMS of all equipment with new hours, a day ahead."""
    with _worker() as worker:
        found = forecast_due(worker, equipment=equipment or None)
    if as_json:
        print_json({name: {"issued": list(one.issued), "refused": one.refused} for name, one in found.items()})
        return
    for name, one in found.items():
        out.print(f"{name}: {issued(one)}", markup=False, soft_wrap=True)
    if not found:
        out.print("no equipment has hours that no forecast has seen")


def issued(one: Issued) -> str:
    """The phases that were forecast, and for what reason others were not, each reason once."""
    reasons: dict[str, list[str]] = {}
    for quantity, why in one.told.items():
        reasons.setdefault(why, []).append(quantity)
    parts = [", ".join(one.issued)] if one.issued else []
    return "; ".join(parts + [f"no forecast of {', '.join(names)}: {why}" for why, names in reasons.items()])


proposals_app = typer.Typer(no_args_is_help=True, help="New references that drifted motors propose.")


@proposals_app.command("list")
def list_proposals(as_json: AsJson = False) -> None:
    """What waits for a decision."""
    with _worker() as worker, worker.engine.connect() as conn:
        waiting = open_proposals(conn)
    if as_json:
        print_json([asdict(one) for one in waiting])
        return
    for one in waiting:
        moved = ", ".join(f"{name} {shift:+.1f} sd" for name, shift in one.evidence["largest"][:3])
        out.print(f"{one.id}  {one.equipment}: {moved}, over {one.evidence['windows']} windows", markup=False)
    if not waiting:
        out.print("no motor has drifted")


@proposals_app.command("accept")
def accept_proposal(proposal: int) -> None:
    """The motor is healthy as it is now: train its reference on its latest windows."""
    with _worker() as worker:
        trained = models.accept(worker, proposal)
    out.print(f"model {trained.models.version} is the latest")


@proposals_app.command("dismiss")
def dismiss_proposal(proposal: int) -> None:
    """The motor is not healthy, or the old reference shall stand."""
    with _worker() as worker, worker.engine.begin() as conn:
        decide(conn, proposal, accepted=False)
    out.print(f"proposal {proposal} is dismissed")


def _show(found: dict[str, models.Rescored], *, as_json: bool) -> None:
    if as_json:
        rows: dict[str, Any] = {n: {"windows": r.windows, "anomalies": r.anomalies} for n, r in found.items()}
        print_json(rows)
        return
    for name, one in found.items():
        out.print(f"{name}: {one.windows} windows scored, {one.anomalies} anomalous", markup=False)
