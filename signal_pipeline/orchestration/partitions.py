"""One partition a signal, named by its id; and how a claim becomes ranges of partitions.

A run is asked for by a *range* of keys, and ranges follow insertion order. Every unmaterialized key inside a range is
shown as planned, so a range may hold only keys of its own claim: hence stretches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from dagster import DagsterInstance, DagsterRun, DynamicPartitionsDefinition, RunsFilter
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG
from sqlalchemy import Connection, Engine, text

from signal_pipeline.orchestration.identity import instance_id

if TYPE_CHECKING:
    from dagster._core.execution.backfill import PartitionBackfill

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
"""Run tags by which a run takes a range of partitions."""

PARTITIONS_NAME = "signal"
SIGNALS = DynamicPartitionsDefinition(name=PARTITIONS_NAME)

# Two processes that add keys at the same moment would interleave them, and each claim would fall into many stretches.
# Of one Dagster storage only: another host's keys are other keys, and it may be cut off while it holds its lock.
LOCK_KEYS = text("SELECT pg_advisory_xact_lock(hashtextextended('signal_pipeline:partition_keys:' || :instance, 0))")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Partition keys that stand next to each other, and all belong to one claim."""

    keys: tuple[str, ...]

    @property
    def first(self) -> str:
        return self.keys[0]

    @property
    def last(self) -> str:
        return self.keys[-1]


def stretches(wanted: Iterable[str], keys: Sequence[str]) -> tuple[Stretch, ...]:
    """`wanted` as runs of neighbours in `keys` (all partition keys, in order). Keys that are not there are left out."""
    wanted_set = set(wanted)
    found: list[Stretch] = []
    current: list[str] = []
    for key in keys:
        if key in wanted_set:
            current.append(key)
        elif current:
            found.append(Stretch(tuple(current)))
            current = []
    if current:
        found.append(Stretch(tuple(current)))
    return tuple(found)


def lock_keys(conn: Connection, instance: DagsterInstance) -> None:
    """Until the end of the transaction nobody else adds or deletes keys of this Dagster storage."""
    conn.execute(LOCK_KEYS, {"instance": instance_id(instance)})


def place_keys(instance: DagsterInstance, engine: Engine, signal_ids: Sequence[UUID]) -> list[str]:
    """Make each signal a partition; returns all keys in order, read back after adding.

    Signals that were partitions before (retried, reclaimed) stand scattered among old keys. They are moved to the
    end, next to the others, except those that a run or a backfill under way was asked for.
    """
    wanted = [str(i) for i in signal_ids]
    with engine.begin() as conn:
        lock_keys(conn, instance)
        keys = list(instance.get_dynamic_partitions(PARTITIONS_NAME))
        delete_keys(instance, _to_move(instance, wanted, keys))
        instance.add_dynamic_partitions(PARTITIONS_NAME, wanted)
        return list(instance.get_dynamic_partitions(PARTITIONS_NAME))


def _to_move(instance: DagsterInstance, wanted: list[str], keys: list[str]) -> list[str]:
    first = keys.index(wanted[0]) if wanted and wanted[0] in keys else len(keys)
    in_place = wanted == keys[first : first + len(wanted)]
    if in_place or set(wanted).isdisjoint(keys) or unfinished_backfills(instance, limit=1):
        return []
    movable = set(keys) - keys_in_use(instance, keys)
    return [key for key in wanted if key in movable]


def delete_keys(instance: DagsterInstance, keys: Sequence[str]) -> None:
    """Together where our storage is in use; Dagster's own commits each by itself, milliseconds apiece."""
    together = getattr(instance.event_log_storage, "delete_dynamic_partitions", None)
    if together is not None:
        together(PARTITIONS_NAME, keys)
        return
    for key in keys:
        instance.delete_dynamic_partition(PARTITIONS_NAME, key)


def keys_in_use(instance: DagsterInstance, keys: list[str]) -> set[str]:
    """Those of `keys` (all, in order) that an unfinished run was asked for, as a range or alone.

    If one of a range moved or went, that run would take other signals than it was asked for.
    """
    position = {key: n for n, key in enumerate(keys)}
    in_use: set[str] = set()
    for run in instance.get_runs(RunsFilter(statuses=NOT_FINISHED_STATUSES)):
        places = [position[key] for key in run_keys(run) if key in position]
        if places:
            in_use.update(keys[min(places) : max(places) + 1])
    return in_use


def run_keys(run: DagsterRun) -> list[str]:
    """The key that a run was asked for, or the first and the last of its range."""
    return [run.tags[tag] for tag in (RANGE_START, RANGE_END, PARTITION_NAME_TAG) if tag in run.tags]


def unfinished_backfills(instance: DagsterInstance, *, limit: int | None = None) -> Sequence["PartitionBackfill"]:
    """Backfills that may still ask for keys."""
    from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionsFilter, BulkActionStatus

    unfinished = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
    return instance.get_backfills(filters=BulkActionsFilter(statuses=unfinished), limit=limit)
