"""One partition a signal, named by its id; and how a claim becomes ranges of partitions.

A run is asked for by a *range* of keys, and ranges follow insertion order. Every unmaterialized key inside a range is
shown as planned, so a range may hold only keys of its own claim: hence stretches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from dagster import DagsterInstance, DynamicPartitionsDefinition
from sqlalchemy import Engine, text

PARTITIONS_NAME = "signal"
SIGNALS = DynamicPartitionsDefinition(name=PARTITIONS_NAME)

# Two processes that add keys at the same moment would interleave them, and each claim would fall into many stretches.
LOCK_KEYS = text("SELECT pg_advisory_xact_lock(hashtextextended('signal_pipeline:partition_keys', 0))")


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


def place_keys(instance: DagsterInstance, engine: Engine, signal_ids: Sequence[UUID]) -> list[str]:
    """Make each signal a partition; returns all keys in order, read back after adding.

    Signals that were partitions before (retried, reclaimed) stand scattered among old keys. They are moved to the
    end, next to the others, unless a backfill is under way, which may be holding them.
    """
    wanted = [str(i) for i in signal_ids]
    with engine.begin() as conn:
        conn.execute(LOCK_KEYS)
        known = set(instance.get_dynamic_partitions(PARTITIONS_NAME))
        old = [key for key in wanted if key in known]
        if old and len(wanted) > 1 and not _backfill_under_way(instance):
            for key in old:
                instance.delete_dynamic_partition(PARTITIONS_NAME, key)
        instance.add_dynamic_partitions(PARTITIONS_NAME, wanted)
        return list(instance.get_dynamic_partitions(PARTITIONS_NAME))


def _backfill_under_way(instance: DagsterInstance) -> bool:
    from dagster._core.execution.backfill import BulkActionStatus

    return bool(instance.get_backfills(status=BulkActionStatus.REQUESTED, limit=1))
