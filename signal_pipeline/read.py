"""A notebook's door: what the pipeline has stored, as pandas frames.

    from signal_pipeline.read import load_features
    frame = load_features(equipment="pump-1", start="2025-08-25")

Each function reads DATABASE_URL (environment or `.env`), or joins the embedded database for the time of the call;
`engine=` takes an engine of yours instead. Nothing here writes. Times are UTC; `end` is exclusive.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime, Double, Engine, Select, Text, select
from sqlalchemy.exc import ProgrammingError

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.db.engine import create_engine, wrapped
from signal_pipeline.db.models import (
    AnomalyEvent,
    AnomalyScore,
    Equipment,
    Feature,
    Forecast,
    HourlyFeatureSummary,
    RawSignal,
    SignalDiagnostic,
)
from signal_pipeline.db.urls import domain_url
from signal_pipeline.domain import Status
from signal_pipeline.errors import SettingsError
from signal_pipeline.settings import load_settings

if TYPE_CHECKING:
    import pandas as pd

Moment = datetime | str | None
"""A time: aware, or naive and then UTC, or ISO 8601 text."""

DTYPES: dict[type, str] = {Double: "float64", DateTime: "datetime64[us, UTC]", Text: "str"}
"""What pandas would guess from the values, and cannot where all of them are NULL or no row was found."""

_features = Feature.__table__
_hours = HourlyFeatureSummary.__table__
_diagnostics = SignalDiagnostic.__table__
_events = AnomalyEvent.__table__


def load_features(
    *,
    equipment: str | Sequence[str] | None = None,
    start: Moment = None,
    end: Moment = None,
    columns: Sequence[str] | None = None,
    embedding: bool = False,
    engine: Engine | None = None,
) -> "pd.DataFrame":
    """One row a window, in time order: equipment, raw_id, window_start, feature_version, and the features.

    `columns` picks features (default: all of `signal_pipeline.catalogue.COLUMNS`; an unknown name raises
    `ValueError`). NaN where the window could not say; the column `null_reasons` has why. With `embedding`, a column of
    that name: the window's vector as a list of floats, None where there was no manifest.
    """
    unknown = sorted(set(columns or ()) - set(COLUMNS))
    if unknown:
        raise ValueError(f"no such features: {', '.join(unknown)}. signal_pipeline.catalogue.COLUMNS lists them.")
    wanted = [_features.c[name] for name in (COLUMNS if columns is None else columns)]
    if embedding:
        wanted.append(_features.c.embedding)
    keys = (_features.c.raw_id, _features.c.window_start, _features.c.feature_version, _features.c.null_reasons)
    query = (
        select(Equipment.name.label("equipment"), *keys, *wanted)
        .join(Equipment, Equipment.id == _features.c.equipment_id)
        .order_by(_features.c.window_start, _features.c.raw_id)
    )
    return _load(_between(query, _features.c.window_start, equipment, start, end), engine)


def load_signals(
    *,
    equipment: str | Sequence[str] | None = None,
    start: Moment = None,
    end: Moment = None,
    status: Status | str | None = None,
    engine: Engine | None = None,
) -> "pd.DataFrame":
    """One row a signal, in time order, without samples: equipment, file, rate, state, `meta` (validation, failure)."""
    query = (
        select(
            Equipment.name.label("equipment"),
            RawSignal.id,
            RawSignal.file_name,
            RawSignal.recorded_at,
            RawSignal.sample_rate_hz,
            RawSignal.first_row,
            RawSignal.samples_count,
            RawSignal.processing_status,
            RawSignal.attempts,
            RawSignal.finalized_at,
            RawSignal.meta,
        )
        .join(Equipment, Equipment.id == RawSignal.equipment_id)
        .order_by(RawSignal.recorded_at, RawSignal.first_row, RawSignal.id)
    )
    if status is not None:
        query = query.where(RawSignal.processing_status == Status(status).value)
    return _load(_between(query, RawSignal.recorded_at, equipment, start, end), engine)


def load_hours(
    *,
    equipment: str | Sequence[str] | None = None,
    start: Moment = None,
    end: Moment = None,
    engine: Engine | None = None,
) -> "pd.DataFrame":
    """One row an equipment and hour: windows, and mean, min, max, std of each phase's RMS (A)."""
    wanted = [column for column in _hours.c if column.name != "equipment_id"]
    query = (
        select(Equipment.name.label("equipment"), *wanted)
        .join(Equipment, Equipment.id == _hours.c.equipment_id)
        .order_by(Equipment.name, _hours.c.hour_start)
    )
    return _load(_between(query, _hours.c.hour_start, equipment, start, end), engine)


def load_scores(
    *,
    equipment: str | Sequence[str] | None = None,
    start: Moment = None,
    end: Moment = None,
    model_kind: str | None = None,
    engine: Engine | None = None,
) -> "pd.DataFrame":
    """One row a window and model, in time order: score, threshold, is_anomaly, and `meta` (contributions, flags)."""
    query = (
        select(
            Equipment.name.label("equipment"),
            AnomalyScore.raw_id,
            AnomalyScore.window_start,
            AnomalyScore.model_kind,
            AnomalyScore.model_version,
            AnomalyScore.score,
            AnomalyScore.threshold,
            AnomalyScore.is_anomaly,
            AnomalyScore.meta,
        )
        .join(Equipment, Equipment.id == AnomalyScore.equipment_id)
        .order_by(AnomalyScore.window_start, AnomalyScore.raw_id, AnomalyScore.model_kind, AnomalyScore.model_version)
    )
    if model_kind is not None:
        query = query.where(AnomalyScore.model_kind == model_kind)
    return _load(_between(query, AnomalyScore.window_start, equipment, start, end), engine)


def load_events(
    *,
    equipment: str | Sequence[str] | None = None,
    start: Moment = None,
    end: Moment = None,
    model_kind: str | None = None,
    model_version: str | None = None,
    engine: Engine | None = None,
) -> "pd.DataFrame":
    """One row an anomaly event, by its start: end, when it was raised, peak score, threshold, windows, main features.

    `is_open`: it had not ended by the last window scored. `features` is a list of [name, share of the score], the
    largest first. Each model version has its own events: with several in the database, pick one.
    """
    wanted = [column for column in _events.c if column.name not in ("id", "equipment_id")]
    query = (
        select(Equipment.name.label("equipment"), *wanted)
        .join(Equipment, Equipment.id == _events.c.equipment_id)
        .order_by(_events.c.started_at, _events.c.id)
    )
    if model_kind is not None:
        query = query.where(_events.c.model_kind == model_kind)
    if model_version is not None:
        query = query.where(_events.c.model_version == model_version)
    return _load(_between(query, _events.c.started_at, equipment, start, end), engine)


def load_diagnoses(
    *,
    equipment: str | Sequence[str] | None = None,
    start: Moment = None,
    end: Moment = None,
    engine: Engine | None = None,
) -> "pd.DataFrame":
    """One row a recording, in time order: severity, each quantity with its status, and `findings` with the evidence."""
    wanted = [column for column in _diagnostics.c if column.name != "equipment_id"]
    query = (
        select(Equipment.name.label("equipment"), *wanted)
        .join(Equipment, Equipment.id == _diagnostics.c.equipment_id)
        .order_by(_diagnostics.c.recorded_at, _diagnostics.c.raw_id)
    )
    return _load(_between(query, _diagnostics.c.recorded_at, equipment, start, end), engine)


def load_forecasts(
    *,
    equipment: str | Sequence[str] | None = None,
    start: Moment = None,
    end: Moment = None,
    engine: Engine | None = None,
) -> "pd.DataFrame":
    """One row a forecast hour of each issue: mean, intervals and the probability of passing the limit."""
    query = (
        select(Equipment.name.label("equipment"), *Forecast.__table__.c)
        .join(Equipment, Equipment.id == Forecast.equipment_id)
        .order_by(Forecast.issued_at, Forecast.hour_start)
    )
    return _load(_between(query, Forecast.hour_start, equipment, start, end), engine)


def _between(
    query: Select[tuple[object, ...]],
    column: Any,
    equipment: str | Sequence[str] | None,
    start: Moment,
    end: Moment,
) -> Select[tuple[object, ...]]:
    import pandas as pd

    if equipment is not None:
        query = query.where(Equipment.name.in_([equipment] if isinstance(equipment, str) else list(equipment)))
    if start is not None:
        query = query.where(column >= pd.to_datetime(start, utc=True).to_pydatetime())
    if end is not None:
        query = query.where(column < pd.to_datetime(end, utc=True).to_pydatetime())
    return query


def _load(query: Select[tuple[object, ...]], engine: Engine | None) -> "pd.DataFrame":
    import pandas as pd

    with _engine(engine) as found, wrapped(found), found.connect() as conn:
        try:
            rows = conn.execute(query)
        except ProgrammingError as error:
            raise SettingsError(
                f"the database has not the tables that are read here ({str(error.orig).splitlines()[0]}): "
                "run `signal-pipeline db upgrade` first"
            ) from error
        frame = pd.DataFrame(rows.all(), columns=list(rows.keys()))
    return frame.astype({c.name: DTYPES[type(c.type)] for c in query.selected_columns if type(c.type) in DTYPES})


@contextmanager
def _engine(engine: Engine | None) -> Iterator[Engine]:
    if engine is not None:
        yield engine
        return
    settings = load_settings()
    if settings.database.database_url is not None:
        own = create_engine(domain_url(settings.database.database_url.get_secret_value()), settings.database)
        try:
            yield own
        finally:
            own.dispose()
        return
    home = settings.app.signal_pipeline_home
    if not home.is_dir():
        raise SettingsError(f"DATABASE_URL is not set, and there is no embedded database at {home.resolve()}")
    with embedded_server(home) as url:
        own = create_engine(url, settings.database)
        try:
            yield own
        finally:
            own.dispose()
