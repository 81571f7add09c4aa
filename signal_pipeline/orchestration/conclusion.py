"""How a run ends: well, with some signals failed, cancelled, stopped, robbed of its claim, or broken.

Whatever happens, no signal is left in limbo: what this run still holds is completed, failed, given back, or left to
its lease when the database itself is away.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from dagster import DagsterExecutionInterruptedError, DagsterRunStatus, Failure, OpExecutionContext

from signal_pipeline.db import claims
from signal_pipeline.db.engine import is_transient
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.errors import ClaimLost
from signal_pipeline.orchestration.run_state import RunState
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.finalize import cancel_batch, fail_unfinished
from signal_pipeline.processing.worker import Worker

log = structlog.get_logger(__name__)


@contextmanager
def concluding(context: OpExecutionContext, worker: Worker, batch: Batch) -> Iterator[Callable[[RunState], None]]:
    """Around a step: turns each way of ending into the right state of the signals.

    Yields the function that the last op calls; it raises `Failure` if any signal failed or was refused.
    """

    def conclude(state: RunState) -> None:
        if not batch.whole:
            claims.give_back(worker.engine, batch.token)
        if not state.is_clean:
            raise Failure(state.complaint(), allow_retries=False)

    try:
        yield conclude
    except Failure:
        raise
    except DagsterExecutionInterruptedError:
        _interrupted(context, worker, batch)
        raise
    except ClaimLost as error:
        log.warning("claim.lost", claim=str(batch.token), run=context.run_id, error=str(error))
        if not batch.whole:
            claims.give_back(worker.engine, batch.token)
        raise Failure(f"The claim was lost, and nothing more was written: {error}", allow_retries=False) from error
    except Exception as error:
        if is_transient(error):
            log.warning("database.away", claim=str(batch.token), run=context.run_id, error=str(error))
        else:
            _broken(worker, batch, error)
        raise


def _interrupted(context: OpExecutionContext, worker: Worker, batch: Batch) -> None:
    """A person who cancels wants the signals not to start by themselves again; a host that stops wants just that."""
    if not batch.whole:
        claims.give_back(worker.engine, batch.token)
        return
    run = context.instance.get_run_by_id(context.run_id)
    if run is not None and run.status in (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED):
        message = f"run {context.run_id} was cancelled by a person"
        cancel_batch(worker, batch.token, message, signal_ids=batch.signal_ids)
    else:
        released = claims.let_go(worker.engine, batch.token, signal_ids=batch.signal_ids)
        log.warning("claim.released", claim=str(batch.token), run=context.run_id, signals=len(released))


def _broken(worker: Worker, batch: Batch, error: Exception) -> None:
    """An error nobody foresaw, outside any one signal's own work: the unfinished signals fail with it."""
    log.exception("batch.internal_error", claim=str(batch.token))
    if not batch.whole:
        claims.give_back(worker.engine, batch.token)
        return
    failure = claims.Failure(FailureReason.INTERNAL_ERROR, Stage.FINALIZE, f"{type(error).__name__}: {error}")
    fail_unfinished(worker, batch.token, failure, signal_ids=batch.signal_ids)
