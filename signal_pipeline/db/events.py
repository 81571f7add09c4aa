"""Events of scores that are stored already: from where they have to be joined anew, and the windows to join.

Not here: events of a stream as it moves, which are written with its scores (`streams`), and the rule
(`anomaly.events`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from signal_pipeline.db.streams import Position, StreamKey

# The last n windows before a new one are what the rule remembers of quiet times; an event that reaches into them is
# remembered, too, and nothing before its first window is.
BEGIN = text("""
    WITH back AS (
        SELECT coalesce(min(window_start), :first) AS at
        FROM (SELECT window_start FROM anomaly_scores
              WHERE equipment_id = :equipment_id AND model_kind = :model_kind AND model_version = :model_version
                AND window_start < :first
              ORDER BY window_start DESC LIMIT :n) AS last)
    SELECT least(back.at, (SELECT min(started_at) FROM anomaly_events
                           WHERE equipment_id = :equipment_id AND model_kind = :model_kind
                             AND model_version = :model_version AND started_at < :first AND ended_at >= back.at))
    FROM back
""")

SCORED = text("""
    SELECT raw_id, window_start, score, threshold, CAST(meta ->> 'warming' AS boolean) AS warming, meta -> 'top' AS top
    FROM anomaly_scores
    WHERE equipment_id = :equipment_id AND model_kind = :model_kind AND model_version = :model_version
      AND window_start >= :begin
      AND (CAST(:after AS timestamptz) IS NULL
           OR (window_start >= :after
               AND (window_start, raw_id) > (CAST(:after AS timestamptz), CAST(:after_id AS uuid))))
    ORDER BY window_start, raw_id LIMIT :limit
""")

FORGET = text("""
    DELETE FROM anomaly_events
    WHERE equipment_id = :equipment_id AND model_kind = :model_kind AND model_version = :model_version
      AND started_at >= :begin
""")


def forget_events_touched(conn: Connection, key: StreamKey, *, first: datetime, n: int) -> datetime:
    """Delete the events that a new window at `first` may change, and return from when on they are to be joined anew.

    `n`: how many windows the rule looks back. The caller holds the stream's lock.
    """
    begin: datetime = conn.execute(BEGIN, key.as_dict() | {"first": first, "n": n}).scalar_one()
    conn.execute(FORGET, key.as_dict() | {"begin": begin})
    return begin


def scored_windows(
    conn: Connection, key: StreamKey, *, begin: datetime, after: Position | None, limit: int
) -> Sequence[Any]:
    """Up to `limit` stored scores from `begin` on, in (window_start, raw_id) order."""
    where = {
        "begin": begin,
        "after": None if after is None else after.window_start,
        "after_id": None if after is None else after.raw_id,
        "limit": limit,
    }
    return conn.execute(SCORED, key.as_dict() | where).all()
