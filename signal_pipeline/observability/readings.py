"""What the metrics say, read from the database in one consistent look.

Every statement goes by an index or reads a small table, however many features there are (a test explains them). Not
here: names and types of metrics (`metrics`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from signal_pipeline.db import counters
from signal_pipeline.db.engine import wrapped
from signal_pipeline.domain import Status
from signal_pipeline.ingest.sources import printable

# Each status by the index on it; a GROUP BY would be free to read the whole table instead.
SIGNALS = text("SELECT count(*) FROM raw_signals WHERE processing_status = :status")

QUEUE = text("""
    SELECT (SELECT CAST(extract(epoch FROM now() - min(created_at)) AS double precision) FROM raw_signals
            WHERE processing_status = 'pending') AS oldest_pending_seconds,
           (SELECT CAST(extract(epoch FROM max(finalized_at)) AS double precision) FROM raw_signals
            WHERE processing_status = 'completed' AND finalized_at IS NOT NULL) AS last_success,
           (SELECT count(*) FROM raw_signals WHERE lease_expires_at < now()) AS expired,
           (SELECT count(*) FROM raw_signals WHERE lease_expires_at >= now()) AS live,
           (SELECT count(*) FROM anomaly_events WHERE is_open) AS open_events,
           pg_database_size(current_database()) AS database_bytes
""")

# When the newest recording of each equipment was loaded: one step down an index for each.
EQUIPMENT = text("""
    SELECT e.name, CAST(extract(epoch FROM newest.created_at) AS double precision) AS loaded
    FROM (SELECT id, name FROM equipment ORDER BY name LIMIT :n) AS e
    CROSS JOIN LATERAL (SELECT r.created_at FROM raw_signals AS r WHERE r.equipment_id = e.id
                        ORDER BY r.recorded_at DESC LIMIT 1) AS newest
""")

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
    equipment: Mapping[str, float]


def read(engine: Engine, *, max_equipment: int) -> Reading:
    """Everything as of one moment, changing nothing. Raises `DatabaseUnavailable`."""
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with wrapped(engine), engine.connect().execution_options(**options) as conn:
        queue = conn.execute(QUEUE).one()
        return Reading(
            signals=count_signals(conn),
            oldest_pending_seconds=max(0.0, queue.oldest_pending_seconds or 0.0),
            last_success=queue.last_success,
            leases_expired=queue.expired,
            leases_live=queue.live,
            open_events=queue.open_events,
            database_bytes=queue.database_bytes,
            totals=counters.totals(conn),
            durations=counters.durations(conn),
            equipment={
                printable(row.name, limit=100): row.loaded for row in conn.execute(EQUIPMENT, {"n": max_equipment})
            },
        )


def count_signals(conn: Connection) -> dict[str, int]:
    """How many signals there are in each status, 0 included."""
    return {s.value: int(conn.execute(SIGNALS, {"status": s.value}).scalar_one()) for s in Status}


def read_heartbeats(dagster: Engine) -> dict[str, float]:
    """When each of Dagster's daemons last beat, in seconds since 1970. Raises `DatabaseUnavailable`."""
    with wrapped(dagster), dagster.connect().execution_options(postgresql_readonly=True) as conn:
        return {row.daemon_type: row.at for row in conn.execute(HEARTBEATS)}
