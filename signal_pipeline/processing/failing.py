"""Marking one signal FAILED, the moment it is known."""

from uuid import UUID

import structlog

from signal_pipeline.db import claims, counters
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.finalizing import Finalizing
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.worker import Worker, retrying

log = structlog.get_logger(__name__)


def mark_failed(worker: Worker, batch: Batch, signal_id: UUID, failure: Failure) -> None:
    """FAILED at once, so that it is known even if this run dies later. A subset run changes no status."""
    log.warning("signal.failed", signal=str(signal_id), claim=str(batch.token), **failure.as_dict())
    if not batch.whole:
        return

    finalizing = Finalizing()

    def transaction() -> None:
        with worker.engine.begin() as conn:
            if claims.fail(conn, batch.token, [signal_id], failure, finalizing):
                counters.add(conn, {counters.failed(failure.stage, failure.reason): 1})

    retrying(transaction)
