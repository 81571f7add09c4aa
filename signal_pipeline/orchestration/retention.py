"""What Dagster keeps: partition keys up to a limit, and finished runs with their events for some days.

No row of the domain goes. A pruned signal is there as before, and `signal-pipeline partitions add` makes it a partition
again. What Dagster shows of the keys that are kept must not change: it is read from the events of runs, so a run stays
as long as one of its partitions is a key, however old it is (docs/decisions/0071). With RETAIN_RAW_SIGNALS=false the
samples go that a dead worker should have cleared (0118). Not here: how they are cleared (`processing.finalize`), and
ticks (`retention:` in dagster.yaml).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DefaultScheduleStatus,
    In,
    Nothing,
    OpExecutionContext,
    RunsFilter,
    ScheduleDefinition,
    job,
    op,
)
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.tags import BACKFILL_ID_TAG
from sqlalchemy import Connection, Engine, text

from signal_pipeline.orchestration.ops import PER_SIGNAL
from signal_pipeline.orchestration.partitions import (
    PARTITIONS_NAME,
    SIGNALS,
    delete_keys,
    keys_in_use,
    lock_keys,
    run_keys,
    unfinished_backfills,
)
from signal_pipeline.orchestration.status_cache import InstanceContext
from signal_pipeline.processing.finalize import clear_left_over
from signal_pipeline.processing.worker import Worker

log = structlog.get_logger(__name__)

KEYS_A_LOCK = 5000
"""Deleted under one lock, within a second: the sensor waits for it when it adds keys."""

RUNS_A_QUERY = 100

PLACED = {DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED}

# A signal that is not final, or that a person's run has borrowed, keeps its key; one that was deleted does not.
STATES = text("""
    SELECT id, processing_status = 'failed' AS failed,
           processing_status IN ('completed', 'failed')
               AND (lease_expires_at IS NULL OR lease_expires_at < now()) AS final
    FROM raw_signals WHERE id = ANY(:ids)
""")


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many keys went, how many are left, and why it stopped above the limit, if it did."""

    keys: int
    left: int
    reason: str | None = None


def prune_keys(instance: DagsterInstance, engine: Engine, *, kept: int, at_most: int | None = None) -> Pruned:
    """Delete the keys of final signals, oldest first and failed ones last, until `kept` keys are left.

    With `at_most` no more than about so many; the rest is left to the next call. Never the key of a signal that is not
    final, nor one that an unfinished run was asked for; and none at all while a backfill is under way, which may still
    ask for any.
    """
    pruned = 0
    while True:
        with engine.begin() as conn:
            lock_keys(conn, instance)
            keys = list(instance.get_dynamic_partitions(PARTITIONS_NAME))
            excess = len(keys) - kept
            if excess <= 0:
                return Pruned(pruned, len(keys))
            if unfinished_backfills(instance):
                return Pruned(pruned, len(keys), "a backfill is under way")
            in_use = keys_in_use(instance, keys)
            chosen = choose(conn, [key for key in keys if key not in in_use], min(excess, KEYS_A_LOCK))
            delete_keys(instance, chosen)
        if not chosen:
            return Pruned(pruned, len(keys), "the others are not final, or in use")
        pruned += len(chosen)
        if at_most is not None and pruned >= at_most:
            return Pruned(pruned, len(keys) - len(chosen), "the others go next time")


def choose(conn: Connection, keys: Sequence[str], n: int) -> list[str]:
    """Up to `n` of `keys` (oldest first) that may go: first those of completed signals, then those of failed ones."""
    done: list[str] = []
    failed: list[str] = []
    for start in range(0, len(keys), KEYS_A_LOCK):
        ids = {key: signal_id for key in keys[start : start + KEYS_A_LOCK] if (signal_id := _as_id(key))}
        states = {row.id: row for row in conn.execute(STATES, {"ids": list(ids.values())})}
        for key, signal_id in ids.items():
            state = states.get(signal_id)
            if state is None or state.final:
                (failed if state is not None and state.failed else done).append(key)
        if len(done) >= n:
            break
    return [*done, *failed][:n]


def _as_id(key: str) -> UUID | None:
    """The signal of a key; None for one that a person invented in the UI, which is left alone."""
    try:
        return UUID(key)
    except ValueError:
        return None


def prune_runs(instance: DagsterInstance, *, days: float, now: datetime | None = None) -> int:
    """Delete runs that ended more than `days` days ago, with their events; returns how many.

    A run stays that was the last for an asset, that materialized (or failed) a partition whose key is still there, or
    that belongs to a backfill under way.
    """
    before = (now or datetime.now(UTC)) - timedelta(days=days)
    ended = instance.get_run_ids(RunsFilter(statuses=list(FINISHED_STATUSES), updated_before=before))
    keys = set(instance.get_dynamic_partitions(PARTITIONS_NAME))
    spoken_for = _latest(instance)
    backfills = {backfill.backfill_id for backfill in unfinished_backfills(instance)}
    deleted = 0
    for runs in _runs(instance, ended):
        free = [run for run in runs if run.run_id not in spoken_for and run.tags.get(BACKFILL_ID_TAG) not in backfills]
        shown = _shown(instance, free, keys)
        for run in free:
            if run.run_id not in shown:
                instance.delete_run(run.run_id)
                deleted += 1
    return deleted


def _latest(instance: DagsterInstance) -> set[str]:
    """The runs that were the last to be asked for an asset, and the last to make one."""
    entries = [record.asset_entry for record in instance.get_asset_records()]
    made = {e.last_materialization_record.run_id for e in entries if e.last_materialization_record is not None}
    return made | {e.last_run_id for e in entries if e.last_run_id is not None}


def _runs(instance: DagsterInstance, run_ids: Sequence[str]) -> Iterator[Sequence[DagsterRun]]:
    for start in range(0, len(run_ids), RUNS_A_QUERY):
        yield instance.get_runs(RunsFilter(run_ids=list(run_ids[start : start + RUNS_A_QUERY])))


def _shown(instance: DagsterInstance, runs: Sequence[DagsterRun], keys: set[str]) -> set[str]:
    """The runs whose events are what Dagster shows of one of `keys`. Their tags mostly say so at once.

    The others are looked up by one query where our storage is in use, else event by event.
    """
    shown = {run.run_id for run in runs if not keys.isdisjoint(run_keys(run))}
    others = [run for run in runs if run.run_id not in shown]
    together = getattr(instance.event_log_storage, "runs_with_keys", None)
    if together is not None:
        return shown | set(together(PARTITIONS_NAME, [run.run_id for run in others]))
    return shown | {run.run_id for run in others if _placed(instance, run, keys)}


def _placed(instance: DagsterInstance, run: DagsterRun, keys: set[str]) -> bool:
    """Whether one of the run's events is about one of `keys`."""
    events = (entry.dagster_event for entry in instance.all_logs(run.run_id, of_type=PLACED))
    return any(event is not None and event.partition in keys for event in events)


def refresh_status(instance: DagsterInstance) -> None:
    """Bring up to date what Dagster shows of the keys: the next person who looks waits for the latest ones only."""
    pairs = [(asset_key, SIGNALS) for asset_key in PER_SIGNAL]
    instance.event_log_storage.get_asset_status_cache_values(pairs, InstanceContext(instance))


@op(required_resource_keys={"worker"}, description="Deletes the oldest partition keys of final signals above a limit.")
def prune_partition_keys(context: OpExecutionContext) -> None:
    worker: Worker = context.resources.worker
    pruned = prune_keys(context.instance, worker.engine, kept=worker.settings.retention.partition_keys_kept)
    if pruned.keys or pruned.reason:
        log.info("partition_keys.pruned", keys=pruned.keys, left=pruned.left, reason=pruned.reason)
    context.add_output_metadata(
        {"pruned": pruned.keys, "left": pruned.left, "stopped": pruned.reason or "at the limit"}
    )


@op(
    ins={"keys_pruned": In(Nothing)},
    required_resource_keys={"worker"},
    description="Deletes old finished runs and their events, except those that say what became of a partition key.",
)
def prune_old_runs(context: OpExecutionContext) -> None:
    worker: Worker = context.resources.worker
    deleted = prune_runs(context.instance, days=worker.settings.retention.dagster_runs_kept_days)
    refresh_status(context.instance)
    if deleted:
        log.info("dagster_runs.pruned", runs=deleted)
    context.add_output_metadata({"deleted": deleted})


@op(
    required_resource_keys={"worker"},
    description="With RETAIN_RAW_SIGNALS=false: clears samples of completed signals that a dead worker has left.",
)
def clear_samples_left_over(context: OpExecutionContext) -> None:
    context.add_output_metadata({"cleared": clear_left_over(context.resources.worker)})


@job(
    description="Keeps Dagster's own storage in bounds: partition keys, and old runs with their events. Clears the "
    "samples that RETAIN_RAW_SIGNALS=false should have cleared before. Nothing else."
)
def retention() -> None:
    prune_old_runs(prune_partition_keys())
    clear_samples_left_over()


# On by default: without it the UI slows down with every signal, unnoticed until it no longer answers. Nothing is lost
# that cannot be had again, and no row of the domain goes.
retention_hourly = ScheduleDefinition(
    name="retention_hourly",
    job=retention,
    cron_schedule="35 * * * *",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Prunes partition keys above PARTITION_KEYS_KEPT, and runs older than DAGSTER_RUNS_KEPT_DAYS. On by "
    "default: without it the UI slows down with every signal.",
)
