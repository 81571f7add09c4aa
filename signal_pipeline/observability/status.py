"""What the pipeline is doing, read from the database in one look."""

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from signal_pipeline.db import counters, queue
from signal_pipeline.db.engine import wrapped
from signal_pipeline.domain import Status
from signal_pipeline.ingest.sources import printable

FAILURES = text("""
    SELECT meta -> 'failure' ->> 'reason' AS reason, count(*) AS n FROM raw_signals
    WHERE processing_status = 'failed' GROUP BY 1 ORDER BY 2 DESC, 1
""")

RECENT_SECONDS = 3600

ENDS = (Status.COMPLETED, Status.FAILED)

FAILED = text("""
    SELECT id, file_name, meta -> 'failure' AS failure FROM raw_signals WHERE processing_status = 'failed'
    ORDER BY created_at DESC LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class FailedSignal:
    """One failed signal, as a person wants to read of it; all texts are printable."""

    name: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """Signals by state, why some failed, how old the queue is, who holds what, and totals that only grow.

    `last_hour`: how many signals were completed and how many failed within it, those that were put back left out.
    """

    signals: dict[str, int]
    failures: dict[str, int]
    features_total: int
    oldest_pending: datetime | None
    oldest_pending_seconds: float | None
    leases: dict[str, int]
    workers: list[queue.Holder]
    last_completed: datetime | None
    last_hour: dict[str, int]
    totals: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; times are ISO 8601 in UTC."""
        fields = asdict(self)
        fields["oldest_pending"] = _iso(self.oldest_pending)
        fields["last_completed"] = _iso(self.last_completed)
        fields["workers"] = [asdict(w) | {"lease_expires_at": w.lease_expires_at.isoformat()} for w in self.workers]
        fields["per_minute"] = {name: self.per_minute(name) for name in self.last_hour}
        return fields

    def per_minute(self, name: str) -> float:
        """The mean rate of the last hour."""
        return round(self.last_hour[name] * 60 / RECENT_SECONDS, 2)

    @property
    def unfinished(self) -> int:
        return self.signals[Status.PENDING] + self.signals[Status.PROCESSING]


def read_status(engine: Engine) -> PipelineStatus:
    """One look, at one moment: a batch that ends meanwhile is in all figures or none. Raises `DatabaseUnavailable`."""
    with wrapped(engine), engine.connect() as conn:
        conn.execution_options(isolation_level="REPEATABLE READ")
        state = queue.state(conn)
        totals = counters.totals(conn)
        return PipelineStatus(
            signals=queue.count_signals(conn),
            failures={row.reason or "unknown": row.n for row in conn.execute(FAILURES)},
            features_total=totals.get("features_total", 0),
            oldest_pending=state.oldest_pending,
            oldest_pending_seconds=state.oldest_pending_seconds,
            leases={"live": state.leases_live, "expired": state.leases_expired},
            workers=queue.holders(conn),
            last_completed=state.last_completed,
            last_hour={s.value: queue.count_recent(conn, s, seconds=RECENT_SECONDS) for s in ENDS},
            totals=totals,
        )


def read_failures(engine: Engine, *, limit: int) -> list[FailedSignal]:
    """The latest failures, newest first."""
    with wrapped(engine), engine.connect() as conn:
        rows = conn.execute(FAILED, {"limit": limit}).all()
    return [_failed(row.id, row.file_name, row.failure or {}) for row in rows]


def _failed(signal_id: UUID, file_name: str | None, failure: dict[str, str]) -> FailedSignal:
    if file_name is None:
        name, message = str(signal_id), failure.get("message", "")
    else:  # with its folder: recorders call their files alike; and once, though the message names it for other readers
        path = Path(file_name)
        name = printable("/".join(path.parts[-2:]).lstrip("/"))
        message = failure.get("message", "").removeprefix(f"{printable(path.name)}: ")
    return FailedSignal(name, failure.get("reason", "unknown"), printable(message, limit=400))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
