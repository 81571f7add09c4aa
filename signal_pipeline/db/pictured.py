"""What is stored of a signal or an equipment, as arrays for people to look at: pictures in Dagster's UI.

Small reads by index, newest first where there is much. Not here: a notebook's frames (`read`), and drawing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from signal_pipeline.db.forecasts import QUANTITIES

F8 = NDArray[np.float64]

PLACES = text("""
    SELECT r.id, r.equipment_id, e.name AS equipment, e.rated_current_a,
           r.file_name, r.recorded_at, r.first_row, r.lead_in, r.sample_rate_hz
    FROM raw_signals AS r JOIN equipment AS e ON e.id = r.equipment_id WHERE r.id = ANY(:ids)
""")

_FEATURES = "SELECT window_start, {columns} FROM features WHERE raw_id = :id ORDER BY window_start LIMIT 2000"

SCORES = text("""
    SELECT window_start, score, threshold, meta FROM anomaly_scores
    WHERE raw_id = :id AND model_kind = 'stream' AND model_version = :version ORDER BY window_start LIMIT 2000
""")

DIAGNOSIS = text("""
    SELECT line_frequency, slip, slip_status, motor, severity FROM signal_diagnostics WHERE raw_id = :id
""")

_MEANS = ", ".join(f"{q}_mean, {q}_min, {q}_max" for q in QUANTITIES)
HOURS = text(f"""
    SELECT hour_start, {_MEANS} FROM hourly_feature_summary
    WHERE equipment_id = :id AND hour_start > CAST(:newest AS timestamptz) - make_interval(days => :days)
      AND hour_start <= :newest ORDER BY hour_start
""")  # noqa: S608  column names are ours

NEWEST_HOUR = text("SELECT max(hour_start) FROM hourly_feature_summary WHERE equipment_id = :id")

FORECAST = text("""
    SELECT quantity, hour_start, mean, lower_80, upper_80, limit_value FROM forecasts
    WHERE equipment_id = :id AND issued_at = (SELECT max(issued_at) FROM forecasts WHERE equipment_id = :id)
    ORDER BY quantity, hour_start
""")


@dataclass(frozen=True, slots=True)
class Place:
    """Whose a signal is, and where its samples lie in the file's time."""

    id: UUID
    equipment_id: UUID
    equipment: str
    rated_current_a: float | None
    file_name: str | None
    recorded_at: datetime
    first_row: int
    lead_in: int
    sample_rate_hz: float | None

    @property
    def starts_at(self) -> datetime:
        """Time of the first stored sample, lead-in included."""
        rows = self.first_row - self.lead_in
        return self.recorded_at + timedelta(seconds=rows / self.sample_rate_hz if self.sample_rate_hz else 0.0)


def places(conn: Connection, signal_ids: Sequence[UUID]) -> dict[UUID, Place]:
    """Each signal's place."""
    return {row.id: Place(**row._mapping) for row in conn.execute(PLACES, {"ids": list(signal_ids)})}


def stored_windows(conn: Connection, signal_id: UUID, columns: Sequence[str]) -> tuple[list[datetime], F8]:
    """Starts of the signal's windows, at most 2000, and `columns` of each, float64 (n, len(columns)), NaN for NULL."""
    statement = text(_FEATURES.format(columns=", ".join(columns)))
    rows = conn.execute(statement, {"id": signal_id}).all()
    values = np.array([row[1:] for row in rows], dtype=np.float64).reshape(len(rows), len(columns))
    return [row[0] for row in rows], values


def stored_scores(conn: Connection, signal_id: UUID, version: str) -> list[Any]:
    """Rows (window_start, score, threshold, meta) of the stream's model `version`."""
    return list(conn.execute(SCORES, {"id": signal_id, "version": version}))


def stored_diagnosis(conn: Connection, signal_id: UUID) -> Any | None:
    """The row (line_frequency in Hz, slip in pu, slip_status, motor, severity); None where there is none."""
    return conn.execute(DIAGNOSIS, {"id": signal_id}).one_or_none()


def stored_hours(conn: Connection, equipment_id: UUID, *, days: int) -> tuple[list[datetime], F8]:
    """The newest `days` of hours: starts, and mean, lowest and highest RMS (A) of each phase, float64 (n, 3, 3)."""
    newest = conn.execute(NEWEST_HOUR, {"id": equipment_id}).scalar_one()
    if newest is None:
        return [], np.empty((0, 3, 3))
    rows = conn.execute(HOURS, {"id": equipment_id, "newest": newest, "days": days}).all()
    return [row[0] for row in rows], np.array([row[1:] for row in rows], dtype=np.float64).reshape(len(rows), 3, 3)


def newest_forecast(conn: Connection, equipment_id: UUID) -> list[Any]:
    """Rows (quantity, hour_start, mean, lower_80, upper_80, limit_value) of the last issue."""
    return list(conn.execute(FORECAST, {"id": equipment_id}))
