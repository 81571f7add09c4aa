"""Hours in, forecasts out: the hourly summary as series, and each issue of a forecast as rows that are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert as upsert

from signal_pipeline.db.json_values import clean_json
from signal_pipeline.db.models import Forecast
from signal_pipeline.domain import MAX_AHEAD

# Equipment whose newest hour has come since its last issue, with what its plate says. Hours and issues of the future,
# which an earlier version may have stored, do not count: nothing would be issued any more until then.
DUE = text("""
    SELECT e.id, e.name, e.rated_current_a, max(h.hour_start) AS newest
    FROM equipment AS e JOIN hourly_feature_summary AS h ON h.equipment_id = e.id
    WHERE (CAST(:names AS text[]) IS NULL OR e.name = ANY(:names)) AND h.hour_start <= now() + :ahead
    GROUP BY e.id, e.name, e.rated_current_a
    HAVING max(h.hour_start) + interval '1 hour'
           > coalesce((SELECT max(f.issued_at) FROM forecasts AS f WHERE f.equipment_id = e.id
                             AND f.issued_at <= now() + :ahead + interval '1 hour'), '-infinity')
    ORDER BY e.name
""")

HOURS = text("""
    SELECT hour_start, rms_a_mean AS rms_a, rms_b_mean AS rms_b, rms_c_mean AS rms_c FROM hourly_feature_summary
    WHERE equipment_id = :equipment_id AND hour_start > :since AND hour_start <= :newest ORDER BY hour_start
""")

QUANTITIES = ("rms_a", "rms_b", "rms_c")


@dataclass(frozen=True, slots=True)
class Due:
    """One equipment to forecast for: its newest hour, and its rated current (A) if its plate is known."""

    equipment_id: UUID
    name: str
    rated_current_a: float | None
    newest: datetime


def due(conn: Connection, names: Sequence[str] | None = None) -> list[Due]:
    """The equipment with hours that no forecast has seen."""
    rows = conn.execute(DUE, {"names": None if names is None else list(names), "ahead": MAX_AHEAD})
    return [Due(row.id, row.name, row.rated_current_a, row.newest) for row in rows]


def read_hours(conn: Connection, one: Due, *, since: datetime) -> list[tuple[datetime, dict[str, float | None]]]:
    """The equipment's hours after `since`, with the mean RMS (A) of each phase."""
    rows = conn.execute(HOURS, {"equipment_id": one.equipment_id, "since": since, "newest": one.newest})
    return [(row.hour_start, {q: getattr(row, q) for q in QUANTITIES}) for row in rows]


def store_forecast(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Keep one issue; the same issue again replaces its numbers (the last hour may have been filled up since)."""
    if not rows:
        return
    statement = upsert(Forecast).values([row | {"meta": clean_json(row["meta"])} for row in rows])
    key = ("equipment_id", "quantity", "issued_at", "hour_start")
    changed = {name: statement.excluded[name] for name in rows[0] if name not in key}
    conn.execute(statement.on_conflict_do_update(index_elements=key, set_=changed))
