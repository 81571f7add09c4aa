"""The sensor that claims pending signals and starts runs. A thin caller: `dispatch` decides, `claims` claims.

On by default: it is the pipeline's heart. An error of the database fails the tick loudly; a failed read is not an
empty queue.
"""

from collections.abc import Iterable
from uuid import UUID

import structlog
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from signal_pipeline.db import claims
from signal_pipeline.db.claims import Claim
from signal_pipeline.orchestration.dispatch import RunStage, plan
from signal_pipeline.orchestration.fetch import fetch_for
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.partitions import RANGE_END, RANGE_START, Stretch, place_keys, stretches
from signal_pipeline.orchestration.retention import KEYS_A_LOCK, prune_keys, refresh_status
from signal_pipeline.orchestration.run_state import CLAIM_TAG
from signal_pipeline.processing.finalize import cancel_batch
from signal_pipeline.processing.worker import Worker

log = structlog.get_logger(__name__)

TICK_SECONDS = 1
"""At each turn of Dagster's sensor loop, which has a floor of 5 s; hence several batches a tick.

At 5 s every second turn comes a few milliseconds too early and is skipped.
"""

DUE = 2 / 3
"""Share of a lease below which a waiting claim is renewed: as often as a heartbeat, not at every tick."""

PRUNED_ABOVE = 1.1
"""Times PARTITION_KEYS_KEPT: below, keys wait for the hourly retention."""

REFRESHED_EVERY = 2000
"""Keys after which what Dagster shows of them is brought up to date: a thousandth of what their signals cost."""

STAGES = {
    DagsterRunStatus.QUEUED: RunStage.WAITING,
    DagsterRunStatus.NOT_STARTED: RunStage.WAITING,
    DagsterRunStatus.STARTING: RunStage.WAITING,
    DagsterRunStatus.MANAGED: RunStage.WAITING,
    DagsterRunStatus.STARTED: RunStage.RUNNING,
    DagsterRunStatus.SUSPENDED: RunStage.RUNNING,
    DagsterRunStatus.CANCELING: RunStage.RUNNING,
    DagsterRunStatus.CANCELED: RunStage.CANCELLED,
    DagsterRunStatus.SUCCESS: RunStage.OVER,
    DagsterRunStatus.FAILURE: RunStage.OVER,
}
PRECEDENCE = (RunStage.WAITING, RunStage.RUNNING, RunStage.CANCELLED, RunStage.OVER)


@sensor(
    job_name=PROCESS_SIGNALS,
    minimum_interval_seconds=TICK_SECONDS,
    default_status=DefaultSensorStatus.RUNNING,
    required_resource_keys={"worker"},
    description="Claims pending signals, and those whose worker died, and starts one run a batch. On by default: it is "
    "the pipeline's heart.",
)
def claim_pending_signals(context: SensorEvaluationContext) -> SensorResult | SkipReason:
    worker: Worker = context.resources.worker
    requests = tick(context.instance, worker)
    return (
        SensorResult(run_requests=requests) if requests else SkipReason("no signal is pending, or all slots are taken")
    )


def tick(instance: DagsterInstance, worker: Worker) -> list[RunRequest]:
    """One look at the queue: care for our own claims, then claim what there is room for."""
    settings = worker.settings.claims
    lease = settings.claim_lease_seconds
    own = claims.own_claims(worker.engine, claimed_by=worker.instance, due_below=lease * DUE)
    todo = plan(own, run_stages(instance, [c.claim.token for c in own]), max_runs=settings.claim_max_runs)
    for token in todo.keep_alive:
        claims.renew(worker.engine, token, lease_seconds=lease)
    for token in todo.cancel:
        cancel_batch(worker, token, "its run was cancelled by a person before it had finished")
    fresh = _claim(worker, todo.new_batches)
    wanted = [*todo.ask_again, *fresh]
    if not wanted:
        return []
    keys = place_keys(instance, worker.engine, [i for claim in wanted for i in claim.signal_ids])
    _prune(instance, worker, len(keys))
    if len(keys) // REFRESHED_EVERY > (len(keys) - sum(len(claim.signal_ids) for claim in wanted)) // REFRESHED_EVERY:
        refresh_status(instance)
    return [request for claim in wanted for request in requests_for(claim, keys)]


def _prune(instance: DagsterInstance, worker: Worker, keys: int) -> None:
    """Under a load that adds keys faster than the hourly retention takes them, each tick takes a share.

    The signals of the claims just made are not final, so their stretches stay whole.
    """
    kept = worker.settings.retention.partition_keys_kept
    if keys > kept * PRUNED_ABOVE:
        pruned = prune_keys(instance, worker.engine, kept=kept, at_most=KEYS_A_LOCK)
        log.info("partition_keys.pruned", keys=pruned.keys, left=pruned.left, reason=pruned.reason)


def _claim(worker: Worker, batches: int) -> list[Claim]:
    """Up to `batches` fetches; one that finds poison brings claims of single signals besides its batch."""
    taken = [claim for got in fetch_for(worker, runs=batches) for claim in got.claims]
    for claim in taken:
        log.info("signals.claimed", by=worker.name, claim=str(claim.token), signals=len(claim.signal_ids))
    return taken


def requests_for(claim: Claim, keys: list[str]) -> list[RunRequest]:
    """One run for each stretch of keys that holds only this claim's signals."""
    return [_request(claim, stretch) for stretch in stretches((str(i) for i in claim.signal_ids), keys)]


def _request(claim: Claim, stretch: Stretch) -> RunRequest:
    return RunRequest(run_key=f"{claim.token}:{stretch.first}", tags=range_tags(claim.token, stretch))


def range_tags(token: UUID, stretch: Stretch) -> dict[str, str]:
    """The tags that make a run take a range of partitions, under a claim."""
    return {CLAIM_TAG: str(token), RANGE_START: stretch.first, RANGE_END: stretch.last}


def run_stages(instance: DagsterInstance, tokens: Iterable[UUID]) -> dict[UUID, RunStage]:
    """How far the runs of each token have come; a token without runs has no entry.

    A re-execution carries its parent's tag until it has made a claim of its own; it says nothing about the parent's.
    """
    stages: dict[UUID, RunStage] = {}
    for token in tokens:
        runs = instance.get_runs(RunsFilter(tags={CLAIM_TAG: str(token)}))
        run_ids = {run.run_id for run in runs}
        found = {STAGES[run.status] for run in runs if run.parent_run_id not in run_ids}
        if found:
            stages[token] = min(found, key=PRECEDENCE.index)
    return stages
