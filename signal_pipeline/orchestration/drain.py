"""Draining the queue without the daemon: claim, run the same Dagster job in this process, until nothing is left.

Runs that finish nothing are tried a few times and then are an error: no attempt of a signal counts them.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from time import sleep
from uuid import UUID

import structlog
from dagster import DagsterEventType, DagsterInstance, ExecuteInProcessResult, JobDefinition
from dagster._core.events import RunFailureReason
from sqlalchemy import text

from signal_pipeline.db import claims
from signal_pipeline.db.claims import Claim
from signal_pipeline.errors import FruitlessRuns
from signal_pipeline.orchestration.fetch import fetch
from signal_pipeline.orchestration.partitions import Stretch, place_keys, stretches
from signal_pipeline.orchestration.sensors import range_tags
from signal_pipeline.processing.finalize import clear_left_over
from signal_pipeline.processing.heartbeat import Heartbeat
from signal_pipeline.processing.worker import Worker, retrying

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run configuration: Dagster's events go to its storage; on the terminal our own lines are enough."""

FRUITLESS_RUNS = 3
"""So many in a row end the draining."""

# Signals that a run has left as it got them. One at whose work it ended has had its attempt.
UNTOUCHED = text("""
    SELECT count(*) FROM raw_signals
    WHERE id = ANY(:ids) AND claim_token = :token AND processing_status = 'processing' AND work_started_at IS NULL
""")

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

    Returns how many signals went through this process. `on_batch` hears of each batch's size when it is done. Raises
    `FruitlessRuns` when several runs in a row have ended before they finished anything.
    """
    processed = 0
    fruitless = Fruitless(worker)
    while True:
        got = retrying(lambda: fetch(worker))
        if got.claims:
            processed += _run(job, instance, fruitless, got.claims, on_batch)
        elif wait and _unfinished(worker):
            sleep(POLL_SECONDS)
        else:
            clear_left_over(worker)
            return processed


@dataclass(slots=True)
class Fruitless:
    """Counts the runs in a row that finished nothing."""

    worker: Worker
    runs: int = 0

    def judge(self, result: ExecuteInProcessResult, token: UUID, stretch: Stretch) -> int:
        """How many signals of the run it has done something with. Those of a fruitless one can be claimed again."""
        ids = [UUID(key) for key in stretch.keys]
        if result.success or retrying(lambda: self._untouched(token, ids)) < len(ids):
            self.runs = 0
            return len(ids)
        self.runs += 1
        retrying(lambda: claims.let_go(self.worker.engine, token, signal_ids=ids))
        log.error("run.fruitless", run=result.run_id, claim=str(token), signals=len(ids), error=_why(result))
        if self.runs == FRUITLESS_RUNS:
            raise FruitlessRuns(
                f"{self.runs} runs in a row ended before they finished a signal, the last one with: {_why(result)}. No "
                "signal is to blame, and all can be claimed again: mend that, and start anew."
            )
        return 0

    def _untouched(self, token: UUID, ids: list[UUID]) -> int:
        with self.worker.engine.connect() as conn:
            return int(conn.execute(UNTOUCHED, {"token": token, "ids": ids}).scalar_one())


def _why(result: ExecuteInProcessResult) -> str:
    """The first cause of a run's failure, in one line."""
    errors = [event.event_specific_data.error for event in result.filter_events(lambda event: event.is_failure)]  # type: ignore[union-attr]
    error = next((error for error in errors if error is not None), None)
    while error is not None and error.cause is not None:
        error = error.cause
    return "no error of its own" if error is None else error.message.strip().partition("\n")[0]


def _run(
    job: JobDefinition,
    instance: DagsterInstance,
    fruitless: Fruitless,
    fetched: tuple[Claim, ...],
    on_batch: Callable[[int], None] | None,
) -> int:
    """Run the claims one after the other; those that wait their turn are kept alive, and let go if we are stopped."""
    tokens: list[UUID] = [claim.token for claim in fetched]
    worker, processed = fruitless.worker, 0
    lease = worker.settings.claims.claim_lease_seconds
    try:
        keys = place_keys(instance, worker.engine, [i for claim in fetched for i in claim.signal_ids])
        with ExitStack() as waiting:
            for token in tokens[1:]:
                waiting.enter_context(Heartbeat(worker.engine, token, lease_seconds=lease))
            for claim in fetched:
                done = 0
                for stretch in stretches((str(i) for i in claim.signal_ids), keys):
                    tags = range_tags(claim.token, stretch)
                    result = job.execute_in_process(QUIET, instance=instance, tags=tags, raise_on_error=False)
                    stop_if_interrupted(result)
                    done += fruitless.judge(result, claim.token, stretch)
                processed += done
                if on_batch is not None and done:
                    on_batch(done)
    except BaseException:
        for token in tokens:
            claims.let_go(worker.engine, token)
        raise
    return processed


def stop_if_interrupted(result: ExecuteInProcessResult) -> None:
    """Dagster records Ctrl-C and SIGTERM as the end of one run; it was meant for all of them."""
    for event in result.filter_events(lambda event: event.event_type is DagsterEventType.RUN_FAILURE):
        if event.job_failure_data.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION:
            raise KeyboardInterrupt


def _unfinished(worker: Worker) -> bool:
    with worker.engine.connect() as conn:
        return bool(conn.execute(UNFINISHED).scalar_one())
