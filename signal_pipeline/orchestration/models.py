"""Models in Dagster: what training, forecasting and the detect pass make as assets, and replaying a stream as a job.

They belong to all signals, so they have no partitions. Run by hand or on a schedule of yours: which recordings are
healthy is for a person to say.
"""

from datetime import datetime
from time import perf_counter
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetExecutionContext,
    Config,
    Failure,
    MaterializeResult,
    OpExecutionContext,
    asset,
    asset_check,
    job,
    op,
)
from pydantic import Field

from signal_pipeline.anomaly.stream import STATE_SCHEMA
from signal_pipeline.errors import ManifestError
from signal_pipeline.orchestration import ops
from signal_pipeline.orchestration.columns import page, table_metadata
from signal_pipeline.orchestration.plots import forecast_pictures, model_picture
from signal_pipeline.processing import models
from signal_pipeline.processing.forecasting import forecast_due
from signal_pipeline.processing.proposals import waiting_proposals
from signal_pipeline.processing.training import train
from signal_pipeline.processing.worker import Worker


class RangeConfig(Config):
    """Whose windows, and from when to when (ISO 8601; naive is UTC)."""

    equipment: list[str] = Field(default=[], description="names; empty: all")
    start: str = Field(default="", description="windows from this time on; empty: no bound")
    end: str = Field(default="", description="windows before this time; empty: no bound")

    @property
    def names(self) -> list[str] | None:
        return self.equipment or None

    def times(self) -> dict[str, datetime | None]:
        """Both bounds. Raises `Failure` for a time that is none, and where nothing lies between the two."""
        from signal_pipeline.errors import SettingsError
        from signal_pipeline.ingest.recorded_at import parse_range

        try:
            since, until = parse_range(self.start or None, self.end or None, places=("start", "end"))
            return {"start": since, "end": until}
        except SettingsError as error:
            raise Failure(str(error), allow_retries=False) from error


class RescoreConfig(Config):
    """Whose streams are replayed, and under which model."""

    equipment: list[str] = Field(description="names")
    model_version: str = Field(default="", description="a version below MODELS_DIR; empty: the latest")


@asset(
    deps=[ops.FEATURES],
    group_name="models",
    kinds={"numpy"},
    owners=["team:signal-pipeline"],
    required_resource_keys={"worker"},
    description="The anomaly model that scores new signals: a reference for each equipment, and a default of two "
    "or more together, fitted on the stored windows of recordings that a person calls healthy.",
    code_version=str(STATE_SCHEMA),
    metadata={"docs": page("docs/models.md"), "place": "MODELS_DIR/anomaly_detection/latest"},
)
def anomaly_model(context: AssetExecutionContext, config: RangeConfig) -> MaterializeResult[None]:
    worker: Worker = context.resources.worker
    times, began = config.times(), perf_counter()
    try:
        trained = train(worker, equipment=config.names, **times)
    except (ManifestError, ValueError) as error:
        raise Failure(str(error), allow_retries=False) from error
    return MaterializeResult(
        metadata={
            "version": trained.models.version,
            "windows": trained.windows,
            "left_out": trained.left_out,
            "refused": trained.refused,
            "notes": trained.notes,
            "thresholds": {
                name or "(fleet)": {
                    "threshold": reference.threshold,
                    "false_events_per_1000_asked": reference.calibration.target_false_events_per_1000,
                    "false_events_per_1000_achieved": reference.calibration.achieved_false_events_per_1000,
                }
                for (name, kind), reference in trained.models.references.items()
                if kind == "stream"
            },
            "parent": trained.models.parent or "none",
            "seconds": round(perf_counter() - began, 3),
            **model_picture(worker, trained.models, list(trained.windows), **times),
        }
    )


@asset_check(
    asset=anomaly_model,
    required_resource_keys={"worker"},
    description="No motor has moved away from its reference. A person accepts or dismisses what is proposed.",
)
def no_drift_is_waiting(context: AssetCheckExecutionContext) -> AssetCheckResult:
    worker: Worker = context.resources.worker
    waiting = waiting_proposals(worker)
    return AssetCheckResult(
        passed=not waiting,
        severity=AssetCheckSeverity.WARN,
        metadata={f"{one.id} {one.equipment}": one.evidence for one in waiting},
    )


@asset(
    deps=[ops.HOURLY],
    group_name="models",
    kinds={"postgres", "numpy"},
    owners=["team:signal-pipeline"],
    required_resource_keys={"worker"},
    description="Each equipment's hourly RMS a day ahead, with 80 and 95 % intervals and the probability of passing a "
    "share of the rated current. Best effort: one series that cannot be forecast keeps no other from it.",
    code_version="1",
    metadata=table_metadata("forecasts", docs="docs/models.md"),
)
def forecasts(context: AssetExecutionContext) -> MaterializeResult[None]:
    worker, began = context.resources.worker, perf_counter()
    found = forecast_due(worker)
    issued = [name for name, one in found.items() if one.issued]
    return MaterializeResult(
        metadata={
            "equipment": len(found),
            "issued": sum(len(one.issued) for one in found.values()),
            "refused": {name: one.refused for name, one in found.items() if one.refused},
            "seconds": round(perf_counter() - began, 3),
            **forecast_pictures(worker, issued),
        }
    )


@asset(
    deps=[ops.FEATURES, anomaly_model],
    group_name="models",
    kinds={"postgres", "numpy", "numba"},
    owners=["team:signal-pipeline"],
    required_resource_keys={"worker"},
    description="The detect pass: scores by `stats` (frozen PCA, T² + Q) of stored windows that it has not scored yet, "
    "and the events that they join to. Outside the stream; a second pass adds nothing.",
    code_version=str(STATE_SCHEMA),
    metadata=table_metadata("anomaly_scores", docs="docs/models.md", where="model_kind = 'stats'"),
)
def detected_anomalies(context: AssetExecutionContext, config: RangeConfig) -> MaterializeResult[None]:
    worker, times, began = context.resources.worker, config.times(), perf_counter()
    try:
        found = models.detect(worker, equipment=config.names, **times)
    except (ManifestError, ValueError) as error:
        raise Failure(str(error), allow_retries=False) from error
    return MaterializeResult(
        metadata={
            "windows": sum(one.windows for one in found.values()),
            "anomalous": sum(one.anomalies for one in found.values()),
            "equipment": {name: _passed(one) for name, one in found.items()},
            "seconds": round(perf_counter() - began, 3),
        }
    )


def _passed(one: models.Rescored) -> dict[str, Any]:
    counts: dict[str, Any] = {"windows": one.windows, "anomalous": one.anomalies}
    return counts if one.refused is None else counts | {"refused": one.refused}


@op(required_resource_keys={"worker"}, description="Replays stored windows in time order under a model.")
def rescore_op(context: OpExecutionContext, config: RescoreConfig) -> None:
    try:
        found = models.rescore(
            context.resources.worker, equipment=config.equipment, version=config.model_version or None
        )
    except (ManifestError, ValueError) as error:
        raise Failure(str(error), allow_retries=False) from error
    context.add_output_metadata({name: str(one) for name, one in found.items()})


@job(description="Gives late recordings their place: an equipment's stream is replayed from the beginning.")
def rescore_equipment() -> None:
    rescore_op()
