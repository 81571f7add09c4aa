"""What the demo shows besides features: a motor of many days, its reference, its scores, its forecast, its report.

All of it is computed by the pipeline from the simulated samples, by the jobs that Dagster's UI offers, too. Not here:
the demo's other motors, and its course (`demo`).
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signal_pipeline.anomaly.models import load_latest
from signal_pipeline.cli.environment import Surroundings
from signal_pipeline.cli.report import file_name
from signal_pipeline.db import forecasts, reported
from signal_pipeline.db.pictured import newest_forecast
from signal_pipeline.errors import ManifestError, SettingsError, SignalPipelineError
from signal_pipeline.processing import models
from signal_pipeline.processing.signal_work import current_version
from signal_pipeline.processing.worker import Worker, worker_name
from signal_pipeline.report import build_report, words
from signal_pipeline.settings import Settings

if TYPE_CHECKING:
    from signal_pipeline.synthetic import HistoryTruth

EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))


def with_own_models(settings: Settings) -> Settings:
    """The settings with a folder of models beside the demo's data.

    A model of simulated motors would otherwise score the person's own recordings, as the fleet's default.
    """
    place = settings.app.signal_pipeline_home / "demo-models"
    return settings.model_copy(update={"models": settings.models.model_copy(update={"models_dir": place})})


def learn(here: Surroundings, truth: "HistoryTruth") -> None:
    """Train on the healthy days unless that was done, score all days, and forecast. Again, it adds nothing.

    Raises `SignalPipelineError` if a job of Dagster's did not succeed.
    """
    worker = Worker(here.engine, here.settings, worker_name())
    if not _is_trained(here.settings, truth.equipment):
        config = {"equipment": [truth.equipment], "end": truth.fault_from.isoformat()}
        _run(here, worker, "train_model", {"ops": {"anomaly_model": {"config": config}}})
    models.rescore(worker, equipment=[truth.equipment])
    with here.engine.connect() as conn:
        waiting = forecasts.due(conn, [truth.equipment])
    if waiting:
        _run(here, worker, "forecast_hours", {})


def _is_trained(settings: Settings, equipment: str) -> bool:
    """Whether a reference of this motor is there that can score today's features; a broken one is made anew."""
    try:
        found = load_latest(settings.models.models_dir)
    except ManifestError:
        return False
    if found is None or found.feature_version != current_version(settings.features):
        return False
    return (equipment, "stream") in found.references


def _run(here: Surroundings, worker: Worker, job: str, config: dict[str, Any]) -> None:
    """Run a job of Dagster's in this process. Raises `SignalPipelineError` if it did not succeed."""
    from signal_pipeline.cli.dagster_work import run_job

    found = run_job(here, worker, job, config)
    if not found.success:
        raise SignalPipelineError(f"Dagster's job {job} did not succeed: run {found.run_id} in the UI says why")


def write_report(here: Surroundings, equipment: str) -> str:
    """Write the motor's page beside the demo's data; returns its path, or what is missing to make it."""
    target: Path = here.settings.app.signal_pipeline_home / f"report-{file_name(equipment)}.html"
    try:
        target.write_text(build_report(here.engine, here.settings.ingest, equipment), encoding="utf-8")
    except SettingsError as error:
        return str(error)
    return str(target)


def findings(here: Surroundings, truth: "HistoryTruth") -> list[str]:
    """What is known of the motor, a sentence each: its anomaly, its diagnosis, its next day."""
    with here.engine.connect() as conn:
        found = reported.find(conn, truth.equipment)
        if found is None:
            raise SignalPipelineError(f"{truth.equipment} was loaded and is gone: was the database emptied?")
        told = reported.tell(conn, found, start=EVER[0], end=EVER[1])
        hours = newest_forecast(conn, found.id)
    return [
        _anomaly(truth, [event for event in told.events if event.is_open]),
        f"Diagnosis: {words.summary(told)[0]}",
        _next_day(hours),
    ]


def _anomaly(truth: "HistoryTruth", events: list[Any]) -> str:
    began = words.moment(truth.fault_from)
    if not events:
        return f"{truth.equipment} is not anomalous, though its simulated fault began {began}."
    first = min(events, key=lambda event: event.started_at)
    return (
        f"{truth.equipment} is anomalous since {words.moment(first.started_at)}: score up to {first.peak_score:.0f}, "
        f"threshold {first.threshold:.0f}. Its simulated fault grows from {began} on."
    )


def _next_day(hours: list[Any]) -> str:
    if not hours:
        return "Forecast: none; it takes 240 hours of recordings."
    highest = max(hours, key=lambda hour: hour.mean)
    text = (
        f"Forecast: up to {highest.mean:.2f} A (80 %: {highest.lower_80:.2f} to {highest.upper_80:.2f} A) in phase "
        f"{highest.quantity[-1].upper()}, {words.moment(highest.hour_start)}"
    )
    return f"{text}." if highest.limit_value is None else f"{text}; the limit is {highest.limit_value:.2f} A."
