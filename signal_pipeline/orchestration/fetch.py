"""Fetches from the queue: as many signals as make a run last, for the sensor and for `drain` alike.

How many, is decided in `dispatch`; how they are claimed, in `db.claims`.
"""

from collections.abc import Iterator, Sequence

import structlog
from sqlalchemy import text

from signal_pipeline.db import claims
from signal_pipeline.db.claims import Claimed
from signal_pipeline.orchestration.dispatch import signals_a_run
from signal_pipeline.processing.worker import Worker

log = structlog.get_logger(__name__)

# The order of the claim, and its indexes. A hint only: another worker may take these first. A signal whose samples are
# still in their CSV may be as long as a batch of it.
WAITING = text("""
    (SELECT coalesce(samples_count, :unknown) FROM raw_signals
     WHERE (processing_status = 'processing') IS TRUE AND lease_expires_at < now() ORDER BY lease_expires_at LIMIT :n)
    UNION ALL
    (SELECT coalesce(samples_count, :unknown) FROM raw_signals
     WHERE (processing_status = 'pending') IS TRUE ORDER BY created_at, id LIMIT :n)
    LIMIT :n
""")


def fetch(worker: Worker) -> Claimed:
    """Claim for one run up to CLAIM_BATCH_SIZE signals, fewer where they are long. Poison that was met is logged."""
    return next(fetch_for(worker, runs=1), Claimed((), ()))


def fetch_for(worker: Worker, *, runs: int) -> Iterator[Claimed]:
    """The same for up to `runs` runs, which share what waits; it is looked at once. Ends when nothing is left."""
    at_most = worker.settings.claims.claim_batch_size
    samples = _waiting(worker, at_most * runs)
    for left in range(runs, 0, -1):
        limit = signals_a_run(samples, runs=left, at_most=at_most)
        got = claims.claim_pending(worker.engine, settings=worker.settings.claims, claimed_by=worker.name, limit=limit)
        for signal_id in got.crash_looped:
            log.error("signal.crash_loop", signal=str(signal_id))
        if not got.claims:
            return
        samples = samples[limit:]
        yield got


def _waiting(worker: Worker, n: int) -> Sequence[int]:
    """Samples per phase of the next `n` signals, in the order of the claim."""
    parameters = {"n": n, "unknown": worker.settings.ingest.csv_batch_size}
    with worker.engine.connect() as conn:
        return conn.execute(WAITING, parameters).scalars().all()
