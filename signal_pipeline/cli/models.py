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
from signal_pipeline.counted import counted
from signal_pipeline.errors import SettingsError
from signal_pipeline.ingest.recorded_at import parse_range
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.processing import models, training
from signal_pipeline.processing.forecasting import Issued, forecast_due
from signal_pipeline.processing.worker import Worker, worker_name
from signal_pipeline.settings import load_settings

Equipment = Annotated[list[str] | None, typer.Option("--equipment", help="Only this one; may be repeated.")]
From = Annotated[str | None, typer.Option("--from", help="Windows from this time on (ISO 8601, UTC).")]
To = Annotated[str | None, typer.Option("--to", help="Windows before this time.")]


@contextmanager
def worker_here() -> Iterator[Worker]:
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

    From then on every new signal is scored as it passes. References of other equipment are kept, and so are their
    streams; where the settings compute other features now, they are dropped, and named.
    """
    with worker_here() as worker:
        since, until = parse_range(start, end)
        trained = training.train(worker, equipment=equipment or None, start=since, end=until)
    show_trained(trained, as_json=as_json)


def show_trained(trained: training.Trained, *, as_json: bool = False) -> None:
    """The new version, and a paragraph for each equipment that was trained."""
    version = trained.models.version
    if as_json:
        told = {"windows": trained.windows, "left_out": trained.left_out, "refused": trained.refused}
        print_json({"version": version} | told | {"notes": trained.notes, "references": _thresholds(trained)})
        return
    out.print(f"model {version} is the latest")
    for name, n in trained.windows.items():
        out.print(f"  {name}: {trained.refused.get(name) or f'{n} windows'}", markup=False, soft_wrap=True)
        reference = trained.models.references.get((name, "stream"))
        if reference is not None and name not in trained.refused:
            lines = [calibrated(reference), *advice(reference)]
            if left := trained.left_out.get(name):
                lines.append(
                    f"{counted(left, 'more window of this range was', 'more windows of this range were')} left out, "
                    "evenly over the recordings"
                )
            out.print(*[f"    {line}" for line in lines], sep="\n", markup=False, soft_wrap=True)
    for name, why in trained.refused.items():
        if name not in trained.windows:
            out.print(f"  {name}: {why}", markup=False, soft_wrap=True)
    for note in trained.notes:
        out.print(f"  {note}", markup=False, soft_wrap=True)


def _thresholds(trained: training.Trained) -> dict[str, Any]:
    """What was calibrated for each equipment that was trained, and each kind of model."""
    found: dict[str, Any] = {}
    for (name, kind), reference in trained.models.references.items():
        if name in trained.windows and name not in trained.refused:
            found.setdefault(name, {})[kind] = asdict(reference.calibration)
    return found


def calibrated(reference: Reference) -> str:
    """The threshold, and the false events that were asked for and that came where it was calibrated."""
    told = reference.calibration
    return (
        f"threshold {told.threshold:.1f}; false events in 1000 windows: asked {told.target_false_events_per_1000:g}, "
        f"seen {told.achieved_false_events_per_1000:.2f}"
    )


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
    with worker_here() as worker:
        since, until = parse_range(start, end)
        found = models.detect(worker, equipment=equipment or None, start=since, end=until)
    _show(found, as_json=as_json)


def rescore(
    equipment: Annotated[list[str], typer.Option("--equipment", help="Whose stream; may be repeated.")],
    model_version: Annotated[str | None, typer.Option(help="Under this version; default: the latest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay an equipment's stored windows in time order under a model: late recordings find their place."""
    with worker_here() as worker:
        found = models.rescore(worker, equipment=equipment, version=model_version)
    _show(found, as_json=as_json)


def forecast(equipment: Equipment = None, as_json: AsJson = False) -> None:
    """Forecast the hourly RMS of all equipment with new hours, a day ahead."""
    with worker_here() as worker:
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


def _show(found: dict[str, models.Rescored], *, as_json: bool) -> None:
    if as_json:
        print_json({name: asdict(one) for name, one in found.items()})
        return
    for name, one in found.items():
        out.print(f"{name}: {one}", markup=False, soft_wrap=True)
