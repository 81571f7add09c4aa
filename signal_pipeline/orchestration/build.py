"""Puts the parts together. A function that takes overrides, so that a test swaps a part without monkeypatching."""

from dagster import Definitions, in_process_executor, mem_io_manager

from signal_pipeline.orchestration.assets import build_signal_assets
from signal_pipeline.orchestration.checks import CHECKS
from signal_pipeline.orchestration.jobs import process_signals
from signal_pipeline.orchestration.models import (
    anomaly_model,
    detected_anomalies,
    forecasts,
    rescore_equipment,
)
from signal_pipeline.orchestration.resources import WorkerFactory, worker_factory, worker_resource
from signal_pipeline.orchestration.retention import retention, retention_hourly
from signal_pipeline.orchestration.schedules import (
    check_hourly,
    check_job,
    detect_job,
    forecast_hourly,
    forecast_job,
    train_job,
)
from signal_pipeline.orchestration.sensors import claim_pending_signals
from signal_pipeline.settings import Settings


def build_definitions(settings: Settings, *, make_worker: WorkerFactory | None = None) -> Definitions:
    """All of Dagster's definitions on `settings`; `make_worker` replaces how workers are made."""
    return Definitions(
        assets=[
            build_signal_assets(signals_a_run=settings.claims.claim_batch_size),
            anomaly_model,
            detected_anomalies,
            forecasts,
        ],
        jobs=[process_signals, detect_job, rescore_equipment, forecast_job, check_job, train_job, retention],
        sensors=[claim_pending_signals],
        schedules=[forecast_hourly, check_hourly, retention_hourly],
        asset_checks=CHECKS,
        resources={
            "worker": worker_resource(make_worker or worker_factory(settings)),
            # What ops hand on is small and never leaves the run's process.
            "io_manager": mem_io_manager,
        },
        executor=in_process_executor,
    )
