"""The hourly summary: recomputed whole from `features`, never updated by differences.

Two writers of one hour must not overtake each other: without the advisory lock the slower one would put back an
older view. Locks are taken in sorted order (unsorted they deadlock) and end with the transaction. The reading
statement comes after the lock, so under READ COMMITTED it sees what the writer before us committed.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from signal_pipeline.domain import PHASES

Hour = tuple[UUID, datetime]
"""(equipment_id, start of the hour, UTC)"""

LOCK_HOURS = text("""
    SELECT pg_advisory_xact_lock(key)
    FROM (SELECT DISTINCT
                 hashtextextended('hour:' || w.equipment_id || ':' || extract(epoch FROM w.hour_start), 0) AS key
          FROM unnest(CAST(:equipment AS uuid[]), CAST(:hours AS timestamptz[])) AS w (equipment_id, hour_start)
          ORDER BY key) AS sorted
""")

_STATS = ", ".join(
    f"avg(rms_{p} ORDER BY f.window_start, f.raw_id) AS rms_{p}_mean, min(rms_{p}) AS rms_{p}_min, "
    f"max(rms_{p}) AS rms_{p}_max, stddev_pop(rms_{p} ORDER BY f.window_start, f.raw_id) AS rms_{p}_std"
    for p in PHASES
)
_COLUMNS = [f"rms_{p}_{stat}" for p in PHASES for stat in ("mean", "min", "max", "std")]

# Sums are taken in one order, so that the same windows give the same bits whoever stored them. LATERAL, one hour after
# the other by the index: as one join the planner takes the hours for a ninth of the table, and reads all of it.
RECOMPUTE = text(f"""
    INSERT INTO hourly_feature_summary (equipment_id, hour_start, windows, {", ".join(_COLUMNS)}, updated_at)
    SELECT w.equipment_id, w.hour_start, s.windows, {", ".join(f"s.{c}" for c in _COLUMNS)}, clock_timestamp()
    FROM unnest(CAST(:equipment AS uuid[]), CAST(:hours AS timestamptz[])) AS w (equipment_id, hour_start)
    CROSS JOIN LATERAL (
        SELECT count(*) AS windows, {_STATS}
        FROM features AS f
        WHERE f.equipment_id = w.equipment_id
          AND f.window_start >= w.hour_start AND f.window_start < w.hour_start + interval '1 hour'
    ) AS s
    WHERE s.windows > 0
    ON CONFLICT (equipment_id, hour_start) DO UPDATE
    SET windows = excluded.windows, updated_at = excluded.updated_at,
        {", ".join(f"{c} = excluded.{c}" for c in _COLUMNS)}
""")  # noqa: S608  column names are ours

# An hour whose last feature was replaced away has nothing left to say.
DROP_EMPTY = text("""
    DELETE FROM hourly_feature_summary AS h
    USING unnest(CAST(:equipment AS uuid[]), CAST(:hours AS timestamptz[])) AS w (equipment_id, hour_start)
    WHERE h.equipment_id = w.equipment_id AND h.hour_start = w.hour_start AND NOT EXISTS (
        SELECT 1 FROM features AS f WHERE f.equipment_id = h.equipment_id
          AND f.window_start >= h.hour_start AND f.window_start < h.hour_start + interval '1 hour')
""")

HOURS_OF_SIGNALS = text("""
    SELECT DISTINCT equipment_id, date_trunc('hour', window_start, 'UTC') AS hour_start
    FROM features WHERE raw_id = ANY(:ids)
""")


def hour_of(moment: datetime) -> datetime:
    """The start of the UTC hour that `moment` lies in."""
    utc = moment.astimezone(UTC)
    return utc - timedelta(minutes=utc.minute, seconds=utc.second, microseconds=utc.microsecond)


def lock_hours(conn: Connection, hours: Iterable[Hour]) -> tuple[Hour, ...]:
    """Lock `hours` until the transaction ends; returns them sorted."""
    wanted = tuple(sorted(set(hours)))
    if wanted:
        conn.execute(LOCK_HOURS, _arrays(wanted)).all()
    return wanted


def recompute_hours(conn: Connection, hours: Sequence[Hour]) -> None:
    """Recompute `hours`, locked by `lock_hours` in the same transaction, from all stored features."""
    if hours:
        conn.execute(RECOMPUTE, _arrays(hours))
        conn.execute(DROP_EMPTY, _arrays(hours))


def hours_of_signals(conn: Connection, signal_ids: Sequence[UUID]) -> tuple[Hour, ...]:
    """The hours that the stored windows of these signals lie in."""
    rows = conn.execute(HOURS_OF_SIGNALS, {"ids": list(signal_ids)})
    return tuple(sorted((row.equipment_id, row.hour_start) for row in rows))


def _arrays(hours: Sequence[Hour]) -> dict[str, list[UUID] | list[datetime]]:
    return {"equipment": [h[0] for h in hours], "hours": [h[1] for h in hours]}
