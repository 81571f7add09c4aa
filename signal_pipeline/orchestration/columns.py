"""The tables behind the assets as Dagster shows them: each column's type, unit and meaning.

Features come from the catalogue, types from the models. Not here: what an asset is (`assets`).
"""

from typing import Any

from dagster import MarkdownMetadataValue, MetadataValue, TableColumn, TableSchema
from sqlalchemy import ColumnElement
from sqlalchemy.dialects import postgresql

from signal_pipeline.catalogue import as_markdown, column_info
from signal_pipeline.db.models import (
    DIAGNOSED,
    AnomalyScore,
    Base,
    Feature,
    Forecast,
    HourlyFeatureSummary,
    RawSignal,
    SignalDiagnostic,
)
from signal_pipeline.domain import PHASE_NAMES, PHASES
from signal_pipeline.dsp.diagnosis.findings import UNITS, Quantity

Meaning = tuple[str, str]
"""Unit, and what the column says."""

IDENTITY: dict[str, Meaning] = {
    "id": ("", "identity of the row"),
    "raw_id": ("", "the signal, which is the partition"),
    "equipment_id": ("", "the motor, a row of `equipment`"),
    "window_start": ("", "time of the window's first sample, UTC"),
    "hour_start": ("", "start of the hour, UTC"),
    "recorded_at": ("", "time of the file's first sample, UTC"),
    "created_at": ("", "when the row was written, on the database's clock"),
    "updated_at": ("", "when the row was last written, on the database's clock"),
    "meta": ("", "JSON; what is in it, docs/architecture.md says"),
}

RAW: dict[str, Meaning] = {
    "source_id": ("", "the CSV that it was loaded from, a row of `sources`"),
    "file_name": ("", "the CSV's name"),
    "file_hash": ("", "SHA-256 of the CSV; on batch 0 of a split file only"),
    "sample_rate_hz": ("Hz", "sample rate"),
    "first_row": ("1", "the file's row of the first new sample"),
    "lead_in": ("1", "earlier samples stored before it, so that each window is whole"),
    "samples_count": ("1", "samples stored per phase, lead-in included"),
    **{f"phase_{p}": ("A", f"current {n}, compressed float32") for p, n in zip(PHASES, PHASE_NAMES, strict=True)},
    **{f"crc32_{p}": ("", f"checksum of phase_{p}") for p in PHASES},
    "processing_status": ("", "pending, processing, completed or failed"),
    "claim_token": ("", "the claim under which a worker holds it"),
    "claimed_by": ("", "who holds it"),
    "claimed_at": ("", "since when"),
    "lease_expires_at": ("", "until when; afterwards anybody may claim it again"),
    "work_started_at": ("", "when its own work began, and has not ended"),
    "attempts": ("1", "how often its own work began"),
    "finalized_at": ("", "when it was completed or failed"),
}

HOURS: dict[str, Meaning] = {
    "windows": ("1", "windows in the hour"),
    **{
        f"rms_{p}_{stat}": ("A", f"{word} of the windows' RMS of current {n}")
        for p, n in zip(PHASES, PHASE_NAMES, strict=True)
        for stat, word in (("mean", "mean"), ("min", "smallest"), ("max", "largest"), ("std", "standard deviation"))
    },
}

DIAGNOSES: dict[str, Meaning] = {
    "severity": ("", "the worst of all findings: healthy, incipient, moderate, severe; NULL: none could be judged"),
    "analysed_seconds": ("s", "length of the gapless stretch that was looked at"),
    **{name: (UNITS[Quantity(name)], f"{name.replace('_', ' ')}; NULL: its status says why") for name in DIAGNOSED},
    **{f"{name}_status": ("", "ok, or why there is no value") for name in DIAGNOSED},
    "findings": ("", "JSON: value, unit, status, severity and evidence of each quantity"),
    "motor": ("", "JSON: the plate that it was diagnosed with"),
    "diagnosis_version": ("", "hash of the code and the severity bands"),
}

SCORES: dict[str, Meaning] = {
    "feature_id": ("", "the window, a row of `features`"),
    "model_kind": ("", "stream (as the window passed) or stats (the detect pass)"),
    "model_version": ("", "version of the manifest"),
    "score": ("1", "T² + Q, high is anomalous"),
    "threshold": ("1", "the calibrated threshold, or ANOMALY_THRESHOLD for stream"),
    "is_anomaly": ("", "score at or above the threshold, and not warming up"),
}

FORECASTS: dict[str, Meaning] = {
    "quantity": ("", "which phase's RMS"),
    "issued_at": ("", "the end of the last hour that it knew, UTC"),
    "model": ("", "the model that was chosen"),
    "mean": ("A", "expected hourly RMS"),
    **{f"{side}_{p}": ("A", f"{side} end of the {p} % interval") for p in (80, 95) for side in ("lower", "upper")},
    "limit_value": ("A", "FORECAST_LIMIT_PCT of the rated current"),
    "exceedance_probability": ("1", "probability of passing the limit"),
}

FEATURE_ROWS: dict[str, Meaning] = {
    "feature_version": ("", "hash of code version, window, overlap and bands"),
    "null_reasons": ("", "JSON: why columns are NULL, by column, phase or group"),
    "embedding": ("1", "the window's place in the embedding, where there is a manifest"),
    **{c.name: (c.unit, c.meaning) for c in column_info()},
}

TABLES: dict[str, tuple[type[Base], dict[str, Meaning]]] = {
    "raw_signals": (RawSignal, RAW),
    "features": (Feature, FEATURE_ROWS),
    "hourly_feature_summary": (HourlyFeatureSummary, HOURS),
    "signal_diagnostics": (SignalDiagnostic, DIAGNOSES),
    "anomaly_scores": (AnomalyScore, SCORES),
    "forecasts": (Forecast, FORECASTS),
}
"""Asset -> its table, and what its columns mean."""


ORDER = {
    "raw_signals": "created_at",
    "features": "window_start",
    "hourly_feature_summary": "hour_start",
    "signal_diagnostics": "recorded_at",
    "anomaly_scores": "window_start",
    "forecasts": "issued_at",
}


def column_schema(asset: str) -> TableSchema:
    """The columns of an asset's table in the table's order, each with type, meaning and unit."""
    model, meanings = TABLES[asset]
    known = IDENTITY | meanings
    return TableSchema([_column(column, *known[column.name]) for column in model.__table__.columns])


def page(path: str) -> MarkdownMetadataValue:
    """A page of the documentation, as a person finds it: there is no public address that a link could lead to."""
    site = f"{path.removeprefix('docs/').removesuffix('.md')}/"
    return MetadataValue.md(f"`{path}` in the project's folder; after `make docs`, `{site}` of the site")


def table_metadata(asset: str, *, docs: str, where: str = "") -> dict[str, Any]:
    """What the asset's page shows of its table: name, columns, a query to begin with, and the page that explains it.

    `where`: which rows are the asset's, if they are not all of the table's.
    """
    rows = f"{asset} WHERE {where}" if where else asset
    query = f"SELECT * FROM {rows} ORDER BY {ORDER[asset]} DESC LIMIT 100;"  # noqa: S608  for people to read
    shown: dict[str, Any] = {
        "dagster/table_name": f"public.{asset}",
        "dagster/column_schema": MetadataValue.table_schema(column_schema(asset)),
        "docs": page(docs),
        "query": MetadataValue.md(f"`signal-pipeline db run -- psql`\n\n```sql\n{query}\n```"),
    }
    if asset == "features":
        shown["catalogue"] = MetadataValue.md(as_markdown())
    return shown


def _column(column: ColumnElement[Any], unit: str, meaning: str) -> TableColumn:
    kind = column.type.compile(dialect=postgresql.dialect()).lower()  # type: ignore[no-untyped-call]
    described = f"{meaning} [{unit}]" if unit else meaning
    return TableColumn(str(column.key), kind, description=described, tags={"unit": unit} if unit else {})
