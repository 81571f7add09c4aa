"""The whole work on a claim, without Dagster: what the ops do one after the other.

For benchmarks, tests and anyone who wants to embed the pipeline elsewhere. The Dagster job does the same through
the same functions, and adds only what people see.
"""

from structlog.contextvars import bound_contextvars

from signal_pipeline.processing.batch import Batch, Outcomes
from signal_pipeline.processing.diagnose import diagnose_batch
from signal_pipeline.processing.extract import extract_batch
from signal_pipeline.processing.finalize import complete_batch
from signal_pipeline.processing.heartbeat import Heartbeat
from signal_pipeline.processing.score import score_batch
from signal_pipeline.processing.worker import Worker


def run_batch(worker: Worker, batch: Batch) -> Outcomes:
    """Extract, diagnose, score and finalize; returns what became of each signal."""
    heartbeat = Heartbeat(worker.engine, batch.token, lease_seconds=worker.settings.claims.claim_lease_seconds)
    with bound_contextvars(claim=str(batch.token)), heartbeat:
        extracted = extract_batch(worker, batch, True)
        diagnosed = diagnose_batch(worker, batch, list(extracted.done), extracted.diagnosed)
        scored = score_batch(worker, batch, list(diagnosed.done))
        failed = complete_batch(worker, batch, list(scored.done))
    done = {signal_id: outcome for signal_id, outcome in scored.done.items() if signal_id not in failed}
    return Outcomes(done=done, failed=extracted.failed | diagnosed.failed | scored.failed | failed)
