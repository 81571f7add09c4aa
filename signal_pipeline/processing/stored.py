"""What is stored already: the inputs of a run that makes only some assets."""

from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import text

from signal_pipeline.db import claims
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.hours import Hour, hours_of_signals, lock_hours, recompute_hours
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.processing.batch import Batch, Outcome, Outcomes
from signal_pipeline.processing.worker import Worker, retrying

log = structlog.get_logger(__name__)

COUNTS = text("""
    SELECT raw_id, count(*) AS windows, count(DISTINCT date_trunc('hour', window_start, 'UTC')) AS hours
    FROM features WHERE raw_id = ANY(:ids) GROUP BY raw_id
""")


def require_features(worker: Worker, signal_ids: Sequence[UUID]) -> Outcomes:
    """Which of `signal_ids` have stored features, and how many windows; the others cannot be worked on."""
    counts = retrying(lambda: _counts(worker, signal_ids))
    missing = Failure(
        FailureReason.INSUFFICIENT_DATA, Stage.LOAD, "no features are stored; materialize `features` first"
    )
    return Outcomes(
        done={i: Outcome(counts[i]) for i in signal_ids if i in counts},
        failed={i: missing for i in signal_ids if i not in counts},
    )


def count_stored(worker: Worker, signal_ids: Sequence[UUID]) -> dict[UUID, Outcome]:
    """How many windows of each signal are stored, and how many hours they touch; 0 for one that owns no window."""
    counts = retrying(lambda: _counts(worker, signal_ids))
    return {i: Outcome(counts.get(i, {"windows": 0, "hours": 0})) for i in signal_ids}


def summarize_stored(worker: Worker, batch: Batch, signal_ids: Sequence[UUID]) -> Outcomes:
    """Recompute the hours of those of `signal_ids` whose features are stored. Raises `ClaimLost`."""
    outcomes = require_features(worker, signal_ids)
    ids = list(outcomes.done)

    def transaction() -> tuple[Hour, ...]:
        with worker.engine.begin() as conn:
            claims.fence(conn, batch.token, ids)
            hours = lock_hours(conn, hours_of_signals(conn, ids))
            recompute_hours(conn, hours)
        return hours

    hours = retrying(transaction)
    log.info("hours.recomputed", claim=str(batch.token), hours=len(hours))
    return outcomes


def _counts(worker: Worker, signal_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    with worker.engine.connect() as conn:
        rows = conn.execute(COUNTS, {"ids": list(signal_ids)})
        return {row.raw_id: {"windows": row.windows, "hours": row.hours} for row in rows}
