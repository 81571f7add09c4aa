"""What Dagster shows of partitions, carried over when keys come and go instead of read again from all events.

Dagster keeps, for each asset, which partitions were made, failed or are under way, and throws that away whenever the
keys are not those it was made for: where signals come all the time, at every look. The next answer then reads every
event that the asset ever had. What is known of a key does not depend on other keys, so keys that went are dropped here,
and the storage is asked only about those that are new or not known to be made. Not here: what happened since, which
Dagster adds itself. It leans on Dagster's private API: where that has changed, Dagster's own way is taken.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import structlog
from dagster import (
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    DynamicPartitionsDefinition,
    PartitionsDefinition,
    RunsFilter,
)
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.instance.types import CachingDynamicPartitionsLoader
from dagster._core.loader import LoadingContext
from dagster._core.storage import partition_status_cache
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorageTable
from dagster._core.storage.event_log.base import AssetRecord
from dagster._core.storage.partition_status_cache import AssetStatusCacheValue
from dagster._utils.aiodataloader import BlockingDataLoader, DataLoader
from dagster_postgres import PostgresEventLogStorage
from sqlalchemy import func, select

log = structlog.get_logger(__name__)

ASKED_AT_MOST: Final = 5000
"""Keys that are asked about; of more, reading all events is the cheaper way."""

RUNS_A_QUERY: Final = 100

MADE, PLANNED = DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED

Attempts = Mapping[str, tuple[str, int]]
"""By partition: the run of its latest attempt, and the event that planned it."""


class StatusKeepingStorage(PostgresEventLogStorage):
    """Answers what became of partitions from what was known before, also after a change of the keys."""

    def get_asset_status_cache_values(
        self, partitions_defs_by_key: Iterable[tuple[AssetKey, PartitionsDefinition | None]], context: LoadingContext
    ) -> Sequence[AssetStatusCacheValue | None]:
        """The same values as Dagster's. All that shows partitions asks here."""
        pairs = list(partitions_defs_by_key)
        AssetRecord.prepare(context, [asset_key for asset_key, _ in pairs])
        return [self._status(asset_key, definition, context) for asset_key, definition in pairs]

    def _status(
        self, asset_key: AssetKey, definition: PartitionsDefinition | None, context: LoadingContext
    ) -> AssetStatusCacheValue | None:
        record = AssetRecord.blocking_get(context, asset_key)
        known = record.asset_entry.cached_status if record is not None else None
        build = getattr(partition_status_cache, "_build_status_cache", None)
        if known is not None and build is not None and isinstance(definition, DynamicPartitionsDefinition):
            instance = context.instance
            with partition_loading_context(None, getattr(context, "dynamic_partitions_loader", instance)):
                carried = self._carried_over(instance, asset_key, definition, known)
                if carried is not None:
                    now: AssetStatusCacheValue = build(instance, asset_key, definition, carried, record)
                    self.update_asset_cached_status_data(asset_key, now)
                    return now
        return super().get_asset_status_cache_values([(asset_key, definition)], context)[0]

    def _carried_over(
        self,
        instance: DagsterInstance,
        asset_key: AssetKey,
        definition: DynamicPartitionsDefinition,
        known: AssetStatusCacheValue,
    ) -> AssetStatusCacheValue | None:
        """`known` as it would be with the keys of now; None if they are the same, or too many are to be asked about."""
        identity = definition.get_serializable_unique_identifier()
        if known.partitions_def_id in {None, identity}:
            return None
        keys = set(definition.get_partition_keys())
        made = keys.intersection(known.deserialize_materialized_partition_subsets(definition).get_partition_keys())
        under_way = keys.intersection(known.deserialize_in_progress_partition_subsets(definition).get_partition_keys())
        failed = keys.intersection(known.deserialize_failed_partition_subsets(definition).get_partition_keys())
        # Failed ones are asked about, too: they may have been started again since, and cancelled.
        asked = (keys - made - under_way) | failed
        if len(asked) > ASKED_AT_MOST:
            return None
        open_ = self.attempts_without_materialization(asset_key, partitions=sorted(asked)) if asked else {}
        failed, unfinished = _ended(instance, open_)
        if known.earliest_in_progress_materialization_event_id is not None:
            unfinished.add(known.earliest_in_progress_materialization_event_id)
        if asked:
            made |= self.get_latest_storage_id_by_partition(asset_key, MADE, partitions=asked).keys()
        nothing = definition.empty_subset()
        return known._replace(
            partitions_def_id=identity,
            serialized_materialized_partition_subset=nothing.with_partition_keys(made).serialize(),
            serialized_failed_partition_subset=nothing.with_partition_keys(failed).serialize(),
            serialized_in_progress_partition_subset=nothing.with_partition_keys(under_way).serialize(),
            earliest_in_progress_materialization_event_id=min(unfinished, default=None),
        )

    def get_latest_asset_partition_materialization_attempts_without_materializations(
        self, asset_key: AssetKey, after_storage_id: int | None = None
    ) -> Attempts:
        """The same answer as Dagster's, from one query that brings only the partitions it is about.

        Dagster fetches the latest planned event and the latest materialization of every partition, after every change
        of the keys, to find the few that failed or are under way.
        """
        return self.attempts_without_materialization(asset_key, after_storage_id=after_storage_id)

    def attempts_without_materialization(
        self, asset_key: AssetKey, *, after_storage_id: int | None = None, partitions: Sequence[str] | None = None
    ) -> Attempts:
        """The latest attempts, of these partitions or of all, that no materialization came after."""
        latest = self._latest_event_ids_by_partition_subquery(
            asset_key, [MADE, PLANNED], asset_partitions=partitions, after_cursor=after_storage_id
        ).c
        made, planned = (
            func.max(latest.id).filter(latest.dagster_event_type == kind.value) for kind in (MADE, PLANNED)
        )
        open_ = (
            select(latest.partition, planned.label("id"))
            .group_by(latest.partition)
            .having(planned > func.coalesce(made, 0))
            .subquery()
        )
        events = SqlEventLogStorageTable.c
        query = select(open_.c.partition, events.run_id, events.id).join_from(
            open_, SqlEventLogStorageTable, events.id == open_.c.id
        )
        with self.index_connection() as conn:
            return {row.partition: (row.run_id, row.id) for row in conn.execute(query)}

    def delete_events(self, run_id: str) -> None:
        """What is known of an asset goes with events of partitions that it shows; Dagster itself shows them on."""
        assets = self._assets_that_show(run_id)
        super().delete_events(run_id)
        for asset_key in assets:
            self.wipe_asset_cached_status(asset_key)

    def _assets_that_show(self, run_id: str) -> list[AssetKey]:
        """The assets of which something is known that one of the run's events said."""
        events = SqlEventLogStorageTable.c
        query = select(events.asset_key, func.array_agg(events.partition)).where(
            events.run_id == run_id,
            events.dagster_event_type.in_([MADE.value, PLANNED.value]),
            events.partition.is_not(None),
        )
        with self.index_connection() as conn:
            told = {key: set(partitions) for key, partitions in conn.execute(query.group_by(events.asset_key))}
        entries = [record.asset_entry for record in self.get_asset_records([_key(key) for key in told])] if told else []
        return [e.asset_key for e in entries if not told[e.asset_key.to_string()].isdisjoint(_known(e.cached_status))]


def _key(serialized: str) -> AssetKey:
    found = AssetKey.from_db_string(serialized)
    if found is None:
        raise ValueError(f"{serialized!r} is no asset key")
    return found


def _known(status: AssetStatusCacheValue | None) -> Iterator[str]:
    """The keys of which `status` says anything."""
    if status is not None:
        anything = DynamicPartitionsDefinition(name="any")
        yield from status.deserialize_materialized_partition_subsets(anything).get_partition_keys()
        yield from status.deserialize_failed_partition_subsets(anything).get_partition_keys()
        yield from status.deserialize_in_progress_partition_subsets(anything).get_partition_keys()


def _ended(instance: DagsterInstance, attempts: Attempts) -> tuple[set[str], set[int]]:
    """The partitions whose run failed, and the planned events of runs that have not ended."""
    run_ids = sorted({run_id for run_id, _ in attempts.values()})
    states: dict[str, DagsterRunStatus] = {}
    for start in range(0, len(run_ids), RUNS_A_QUERY):
        runs = instance.get_runs(RunsFilter(run_ids=run_ids[start : start + RUNS_A_QUERY]))
        states |= {run.run_id: run.status for run in runs}
    failed = {key for key, (run_id, _) in attempts.items() if states.get(run_id) is DagsterRunStatus.FAILURE}
    going_on = {run_id for run_id, state in states.items() if state not in FINISHED_STATUSES}
    return failed, {event for run_id, event in attempts.values() if run_id in going_on}


class InstanceContext(LoadingContext):
    """What Dagster needs to look up assets outside of its web server."""

    def __init__(self, instance: DagsterInstance) -> None:
        self._instance = instance
        self.dynamic_partitions_loader = CachingDynamicPartitionsLoader(instance)
        self._loaders: dict[type, tuple[DataLoader[Any, Any], BlockingDataLoader[Any, Any]]] = {}

    @property
    def instance(self) -> DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> dict[type, tuple[DataLoader[Any, Any], BlockingDataLoader[Any, Any]]]:
        return self._loaders
