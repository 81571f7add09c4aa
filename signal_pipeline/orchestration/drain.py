"""Draining the queue without the daemon: claim, run the same Dagster job in this process, until nothing is left."""

from collections.abc import Callable
from contextlib import ExitStack
from time import sleep
from uuid import UUID

import structlog
from dagster import DagsterEventType, DagsterInstance, ExecuteInProcessResult, JobDefinition
from dagster._core.events import RunFailureReason
from sqlalchemy import text

from signal_pipeline.db import claims
from signal_pipeline.db.claims import Claim
from signal_pipeline.orchestration.fetch import fetch
from signal_pipeline.orchestration.partitions import place_keys, stretches
from signal_pipeline.orchestration.sensors import range_tags
from signal_pipeline.processing.heartbeat import Heartbeat
from signal_pipeline.processing.worker import Worker, retrying

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run configuration: Dagster's events go to its storage; on the terminal our own lines are enough."""

UNFINISHED = text("""
    SELECT count(*) FROM raw_signals WHERE processing_status IN ('pending', 'processing')
""")


def drain(
    job: JobDefinition,
    instance: DagsterInstance,
    worker: Worker,
    *,
    wait: bool = False,
    on_batch: Callable[[int], None] | None = None,
) -> int:
    """Process what is pending or expired; with `wait` also what live workers hold, should they die.

    Returns how many signals went through this process. `on_batch` hears of each batch's size when it is done.
    """
    processed = 0
    while True:
        got = retrying(lambda: fetch(worker))
        if got.claims:
            processed += _run(job, instance, worker, got.claims, on_batch)
        elif wait and _unfinished(worker):
            sleep(POLL_SECONDS)
        else:
            return processed


def _run(
    job: JobDefinition,
    instance: DagsterInstance,
    worker: Worker,
    fetched: tuple[Claim, ...],
    on_batch: Callable[[int], None] | None,
) -> int:
    """Run the claims one after the other; those that wait their turn are kept alive, and let go if we are stopped."""
    tokens: list[UUID] = [claim.token for claim in fetched]
    lease = worker.settings.claims.claim_lease_seconds
    try:
        keys = place_keys(instance, worker.engine, [i for claim in fetched for i in claim.signal_ids])
        with ExitStack() as waiting:
            for token in tokens[1:]:
                waiting.enter_context(Heartbeat(worker.engine, token, lease_seconds=lease))
            for claim in fetched:
                for stretch in stretches((str(i) for i in claim.signal_ids), keys):
                    tags = range_tags(claim.token, stretch)
                    result = job.execute_in_process(QUIET, instance=instance, tags=tags, raise_on_error=False)
                    stop_if_interrupted(result)
                if on_batch is not None:
                    on_batch(len(claim.signal_ids))
    except BaseException:
        for token in tokens:
            claims.let_go(worker.engine, token)
        raise
    return sum(len(claim.signal_ids) for claim in fetched)


def stop_if_interrupted(result: ExecuteInProcessResult) -> None:
    """Dagster records Ctrl-C and SIGTERM as the end of one run; it was meant for all of them."""
    for event in result.filter_events(lambda event: event.event_type is DagsterEventType.RUN_FAILURE):
        if event.job_failure_data.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION:
            raise KeyboardInterrupt


def _unfinished(worker: Worker) -> bool:
    with worker.engine.connect() as conn:
        return bool(conn.execute(UNFINISHED).scalar_one())
