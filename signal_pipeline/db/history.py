"""Stored windows of an equipment over a range of time, in stream order: what is scored afterwards, or again.

Unlike `streams`, nothing here has to wait for anything: all of it is final.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import Connection, text

from signal_pipeline.db.streams import Position, StreamKey, Windows
from signal_pipeline.domain import MAX_AHEAD

EQUIPMENT = text(
    "SELECT id, name FROM equipment WHERE CAST(:names AS text[]) IS NULL OR name = ANY(:names) ORDER BY name"
)

# The equipment is the same on both sides; said twice, a motor's signals are found by their index, too.
_WINDOWS = """
    SELECT f.id, f.raw_id, f.window_start, {columns}
    FROM features AS f JOIN raw_signals AS r ON r.id = f.raw_id AND r.equipment_id = f.equipment_id
    WHERE f.equipment_id = :equipment_id AND f.feature_version = :feature_version
      AND f.window_start <= now() + :ahead
      AND (CAST(:start AS timestamptz) IS NULL OR f.window_start >= :start)
      AND (CAST(:end AS timestamptz) IS NULL OR f.window_start < :end)
      AND (CAST(:after AS timestamptz) IS NULL
           OR (f.window_start >= :after
               AND (f.window_start, f.raw_id) > (CAST(:after AS timestamptz), CAST(:after_id AS uuid))))
      {which}
    ORDER BY f.window_start, f.raw_id LIMIT :limit
"""
_COMPLETED = "AND r.processing_status = 'completed'"
_UNSCORED = """
      AND r.processing_status = 'completed'
      AND NOT EXISTS (SELECT 1 FROM anomaly_scores AS s
                      WHERE s.feature_id = f.id AND s.model_kind = :model_kind AND s.model_version = :model_version)
"""

# What a stream has learnt, or would learn next: of signals in any state. One that is being finished has brought its
# windows, and one whose re-run failed has kept them.
_LEARNABLE = """
      AND (CAST(:barrier AS timestamptz) IS NULL OR f.window_start < :barrier OR f.window_start <= :learnt)
"""

# Scores, events and state of one stream: a replay begins with none of them.
FORGET = (
    text("""
        DELETE FROM anomaly_scores WHERE equipment_id = :equipment_id AND model_kind = :model_kind
                                     AND model_version = :model_version
    """),
    text("""
        DELETE FROM anomaly_events WHERE equipment_id = :equipment_id AND model_kind = :model_kind
                                     AND model_version = :model_version
    """),
    text("""
        DELETE FROM anomaly_states WHERE equipment_id = :equipment_id AND model_kind = :model_kind
                                     AND model_version = :model_version
    """),
)

MOVED_AT = text("""
    SELECT updated_at FROM anomaly_states
    WHERE equipment_id = :equipment_id AND model_kind = :model_kind AND model_version = :model_version
""")

# When the stream was last moved is what its successor is found by (`stream_sql.PREDECESSOR`).
DATE_BACK = text("""
    UPDATE anomaly_states SET updated_at = :moved_at
    WHERE equipment_id = :equipment_id AND model_kind = :model_kind AND model_version = :model_version
""")

ANOMALIES = text("""
    SELECT count(*) FROM anomaly_scores
    WHERE equipment_id = :equipment_id AND model_kind = :model_kind AND model_version = :model_version AND is_anomaly
""")


@dataclass(frozen=True, slots=True)
class Range:
    """Windows of `columns`, computed by `feature_version`, that begin in [start, end); None: no bound."""

    columns: Sequence[str]
    feature_version: str
    start: datetime | None = None
    end: datetime | None = None


def find_equipment(conn: Connection, names: Sequence[str] | None) -> dict[str, UUID]:
    """Ids by name; all equipment for None. Raises `ValueError` naming those that are not there."""
    found = {row.name: row.id for row in conn.execute(EQUIPMENT, {"names": None if names is None else list(names)})}
    if missing := sorted(set(names or ()) - set(found)):
        raise ValueError(f"no such equipment: {', '.join(missing)}")
    return found


def read_windows(
    conn: Connection, equipment_id: UUID, wanted: Range, *, after: Position | None = None, limit: int
) -> Windows:
    """Up to `limit` windows of completed signals, in (window_start, raw_id) order."""
    return _read(conn, equipment_id, wanted, after, limit=limit, which=_COMPLETED, parameters={})


def unscored_windows(
    conn: Connection, key: StreamKey, wanted: Range, *, after: Position | None = None, limit: int
) -> Windows:
    """The same, of those that the model of `key` has not scored."""
    return _read(conn, key.equipment_id, wanted, after, limit=limit, which=_UNSCORED, parameters=key.as_dict())


def learnable_windows(
    conn: Connection,
    equipment_id: UUID,
    wanted: Range,
    *,
    after: Position | None = None,
    barrier: datetime | None,
    learnt: datetime | None,
    limit: int,
) -> Windows:
    """Up to `limit` windows of signals in any state: those before `barrier`, or learnt already (up to `learnt`)."""
    bounds = {"barrier": barrier, "learnt": learnt}
    return _read(conn, equipment_id, wanted, after, limit=limit, which=_LEARNABLE, parameters=bounds)


def _read(
    conn: Connection,
    equipment_id: UUID,
    wanted: Range,
    after: Position | None,
    *,
    limit: int,
    which: str,
    parameters: dict[str, Any],
) -> Windows:
    statement = text(_WINDOWS.format(columns=", ".join(f"f.{name}" for name in wanted.columns), which=which))
    where = {
        "equipment_id": equipment_id,
        "feature_version": wanted.feature_version,
        "start": wanted.start,
        "end": wanted.end,
        "after": None if after is None else after.window_start,
        "after_id": None if after is None else after.raw_id,
        "limit": limit,
        "ahead": MAX_AHEAD,
    }
    rows = conn.execute(statement, parameters | where).all()
    values = np.array([row[3:] for row in rows], dtype=np.float64).reshape(len(rows), len(wanted.columns))
    return Windows(tuple(r[0] for r in rows), tuple(r[1] for r in rows), tuple(r[2] for r in rows), values)


def count_anomalies(conn: Connection, key: StreamKey) -> int:
    """How many windows the stream calls anomalous."""
    return int(conn.execute(ANOMALIES, key.as_dict()).scalar_one())


def moved_at(conn: Connection, key: StreamKey) -> datetime | None:
    """When the stream was last moved; None if it has not begun."""
    return conn.execute(MOVED_AT, key.as_dict()).scalar_one_or_none()


def date_back(conn: Connection, key: StreamKey, when: datetime) -> None:
    """Say that the stream was last moved at `when`. The caller holds its lock."""
    conn.execute(DATE_BACK, key.as_dict() | {"moved_at": when})


def forget_stream(conn: Connection, key: StreamKey) -> None:
    """Delete what a stream has written. The caller holds its lock and replays it in the same transaction."""
    for statement in FORGET:
        conn.execute(statement, key.as_dict())
