"""Where the queue stands: signals by status, how long they wait, who holds them, and when the last of them came.

For status, metrics and checks alike. Every statement goes by a partial index, however many rows there are. Not here:
claiming (`claims`), and whether what is stored can be believed (`quality`).
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from signal_pipeline.domain import Status

# Each status by the index on it; a GROUP BY would be free to read the whole table instead.
SIGNALS = text("SELECT count(*) FROM raw_signals WHERE processing_status = :status")

# `finalized_at IS NOT NULL` because the index on what is final says so. Without the CASE an empty queue would have
# waited 0 s: greatest() passes over NULL.
QUEUE = text("""
    SELECT oldest.created_at AS oldest_pending,
           CASE WHEN oldest.created_at IS NOT NULL
                THEN CAST(extract(epoch FROM greatest(now() - oldest.created_at, interval '0')) AS double precision)
           END AS waited,
           (SELECT max(finalized_at) FROM raw_signals
            WHERE processing_status = 'completed' AND finalized_at IS NOT NULL) AS last_completed,
           (SELECT count(*) FROM raw_signals WHERE lease_expires_at >= now()) AS live,
           (SELECT count(*) FROM raw_signals WHERE lease_expires_at < now()) AS expired
    FROM (SELECT min(created_at) AS created_at FROM raw_signals
          WHERE (processing_status = 'pending') IS TRUE) AS oldest
""")

RECENT = text("""
    SELECT count(*) FROM raw_signals
    WHERE processing_status = :status AND finalized_at >= now() - make_interval(secs => :seconds)
""")

HOLDERS = text("""
    SELECT claimed_by, count(*) AS signals, min(lease_expires_at) AS lease_expires_at FROM raw_signals
    WHERE lease_expires_at IS NOT NULL GROUP BY claimed_by ORDER BY claimed_by
""")

EXPIRED_HOLDERS = text("""
    SELECT claimed_by, count(*) AS signals, min(lease_expires_at) AS lease_expires_at FROM raw_signals
    WHERE lease_expires_at < now() - make_interval(secs => :seconds) GROUP BY claimed_by ORDER BY claimed_by
""")

# When the last recording came, whatever time it claims: an archive that is loaded today is fresh, and one of the future
# hides nobody's silence. A row that claims to come later still does not count. One step down each of two indexes
# for each equipment: of what is finished, and of what is not (see the model).
ARRIVALS = text("""
    SELECT e.name, newest.created_at,
           CAST(extract(epoch FROM now() - newest.created_at) AS double precision) AS seconds
    FROM (SELECT id, name FROM equipment ORDER BY name LIMIT :n) AS e
    CROSS JOIN LATERAL (
        SELECT max(last.created_at) AS created_at FROM (
            (SELECT created_at FROM raw_signals
             WHERE equipment_id = e.id AND processing_status IN ('completed', 'failed')
               AND created_at <= statement_timestamp() ORDER BY created_at DESC LIMIT 1)
            UNION ALL
            (SELECT created_at FROM raw_signals
             WHERE equipment_id = e.id AND processing_status IN ('pending', 'processing')
               AND created_at <= statement_timestamp() ORDER BY created_at DESC LIMIT 1)) AS last) AS newest
    WHERE newest.created_at IS NOT NULL
    ORDER BY newest.created_at, e.name
""")


@dataclass(frozen=True, slots=True)
class QueueState:
    """The oldest pending signal (when it came, s waited), the last completion, and claimed signals by their lease."""

    oldest_pending: datetime | None
    oldest_pending_seconds: float | None
    last_completed: datetime | None
    leases_live: int
    leases_expired: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A worker, how many signals it holds, and when the first of its leases ends or ended."""

    name: str
    signals: int
    lease_expires_at: datetime


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a recording of an equipment was last loaded, and how many seconds ago that was."""

    equipment: str
    at: datetime
    seconds: float


def count_signals(conn: Connection) -> dict[str, int]:
    """How many signals there are in each status, 0 included."""
    return {s.value: int(conn.execute(SIGNALS, {"status": s.value}).scalar_one()) for s in Status}


def count_recent(conn: Connection, status: Status, *, seconds: float) -> int:
    """How many signals became `status`, a final one, within the last `seconds`."""
    return int(conn.execute(RECENT, {"status": status.value, "seconds": seconds}).scalar_one())


def state(conn: Connection) -> QueueState:
    """Where the queue stands at this moment."""
    row = conn.execute(QUEUE).one()
    return QueueState(row.oldest_pending, row.waited, row.last_completed, row.live, row.expired)


def holders(conn: Connection) -> list[Holder]:
    """Everybody who holds signals, by name, those whose lease has ended included."""
    return [Holder(*row) for row in conn.execute(HOLDERS)]


def expired_holders(conn: Connection, *, seconds: float) -> list[Holder]:
    """Whose leases ran out more than `seconds` ago, with the signals of those leases only."""
    return [Holder(*row) for row in conn.execute(EXPIRED_HOLDERS, {"seconds": seconds})]


def arrivals(conn: Connection, *, limit: int | None = None) -> list[Arrival]:
    """Of each equipment that ever sent one, or of the first `limit` names; the longest silent first."""
    return [Arrival(*row) for row in conn.execute(ARRIVALS, {"n": limit})]
