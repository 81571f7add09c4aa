"""What the metrics say, read from the database in one consistent look.

Every statement goes by an index or reads a small table, however many features there are (a test explains them). Not
here: names and types of metrics (`metrics`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, text

from signal_pipeline.db import counters, queue
from signal_pipeline.db.engine import wrapped
from signal_pipeline.ingest.sources import printable

EQUIPMENT = text("SELECT count(*) FROM equipment")

# Of the streams: an event of the detect pass stays open until the next pass, which nobody has to start.
OPEN_EVENTS = text("SELECT count(*) FROM anomaly_events WHERE is_open AND model_kind = 'stream'")

DATABASE_BYTES = text("SELECT pg_database_size(current_database())")

# Dagster's own table, read without Dagster: the body is JSON with seconds since 1970, on whatever clock the column is.
HEARTBEATS = text("""
    SELECT daemon_type, CAST(CAST(body AS jsonb) ->> 'timestamp' AS double precision) AS at
    FROM daemon_heartbeats ORDER BY daemon_type
""")


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the domain database. Times in seconds since 1970, durations in seconds."""

    signals: Mapping[str, int]
    oldest_pending_seconds: float
    last_success: float | None
    leases_expired: int
    leases_live: int
    open_events: int
    database_bytes: int
    totals: Mapping[str, int]
    durations: Mapping[str, Mapping[float, tuple[int, int]]]
    equipment_total: int
    equipment: Mapping[str, float]


def read(engine: Engine, *, max_equipment: int) -> Reading:
    """Everything as of one moment, changing nothing. Raises `DatabaseUnavailable`."""
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with wrapped(engine), engine.connect().execution_options(**options) as conn:
        state = queue.state(conn)
        return Reading(
            signals=queue.count_signals(conn),
            oldest_pending_seconds=state.oldest_pending_seconds or 0.0,
            last_success=state.last_completed.timestamp() if state.last_completed else None,
            leases_expired=state.leases_expired,
            leases_live=state.leases_live,
            open_events=conn.execute(OPEN_EVENTS).scalar_one(),
            database_bytes=conn.execute(DATABASE_BYTES).scalar_one(),
            totals=counters.totals(conn),
            durations=counters.durations(conn),
            equipment_total=conn.execute(EQUIPMENT).scalar_one(),
            equipment={
                printable(newest.equipment, limit=100): newest.at.timestamp()
                for newest in queue.arrivals(conn, limit=max_equipment)
            },
        )


def read_heartbeats(dagster: Engine) -> dict[str, float]:
    """When each of Dagster's daemons last beat, in seconds since 1970. Raises `DatabaseUnavailable`."""
    with wrapped(dagster), dagster.connect().execution_options(postgresql_readonly=True) as conn:
        return {row.daemon_type: row.at for row in conn.execute(HEARTBEATS)}
