"""Dagster's storage in Postgres, with one pool of connections a process and with events written in batches.

`dagster.yaml` names `PooledPostgresStorage`. It is dagster-postgres's storage, whose tables and queries stay as they
are; only two things differ. dagster-postgres opens a connection for every query, and writes a planned event for each
signal and asset of a run one by one; both together were most of what Dagster cost (docs/decisions/0002). Both changes
lean on Dagster's private API: where that has changed, the storage says so and works as dagster-postgres does. Not here:
which events are emitted (`events`).
"""

import atexit
import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from itertools import groupby
from typing import Any, cast

import structlog
from dagster import Any as AnyConfig
from dagster import DagsterEventType, Field
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.config import pg_config
from dagster._core.storage.event_log import SqlEventLogStorageTable
from dagster._core.storage.event_log.schema import DynamicPartitionsTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config
from sqlalchemy import Engine, create_engine, delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.pool import NullPool

from signal_pipeline.db.urls import with_limits
from signal_pipeline.errors import SettingsError
from signal_pipeline.orchestration.look_only import LookOnlyStorage
from signal_pipeline.orchestration.status_cache import StatusKeepingStorage

log = structlog.get_logger(__name__)

EVENTS_A_BATCH = "1000"
"""Of one INSERT at most: the planned events of a run of 200 signals and five assets, about a megabyte."""

# Rows apart from the statement, so that it is compiled once: a quarter of the time of a VALUES list of 800 rows.
INSERT_EVENTS = insert(SqlEventLogStorageTable).returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)

BATCHED = frozenset({DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_MATERIALIZATION})

KEYS_ASKED_ONE_BY_ONE = 1000
"""Up to here Dagster's own question, for these keys alone, is the cheaper one."""

LOCK_TABLES = text("SELECT pg_advisory_lock(hashtextextended('signal_pipeline:dagster_tables', 0))")

LOOKED_AT: set[str] = set()
"""URLs at which this process has found, or made, Dagster's tables."""


class BatchingEventLogStorage(StatusKeepingStorage):
    """Writes planned events and materializations of a batch with one INSERT; deletes and looks up keys together."""

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store `events` in their order; types other than `BATCHED` as dagster-postgres does."""
        for kind, group in groupby(events, key=lambda event: event.get_dagster_event().event_type):
            if kind in BATCHED:
                self._store_together(list(group))
            else:
                super().store_event_batch(list(group))

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        """All keys, oldest first, as one array: a row for each of 20,000 takes five times as long to read."""
        self._check_partitions_table()
        table = DynamicPartitionsTable.c
        keys = func.array_agg(aggregate_order_by(table.partition, table.id))
        query = select(keys).where(table.partitions_def_name == partitions_def_name)
        with self.index_connection() as conn:
            return conn.execute(query).scalar_one() or []

    def get_existing_dynamic_partitions(
        self, partitions_def_name: str, partition_keys: Sequence[str]
    ) -> AbstractSet[str]:
        """Those that are keys; of many by one list of all keys, where Dagster asks for each thousand."""
        if len(partition_keys) <= KEYS_ASKED_ONE_BY_ONE:
            return super().get_existing_dynamic_partitions(partitions_def_name, partition_keys)
        return set(partition_keys) & set(self.get_dynamic_partitions(partitions_def_name))

    def delete_dynamic_partitions(self, partitions_def_name: str, partition_keys: Sequence[str]) -> None:
        """Delete many keys in one transaction; Dagster itself has one commit for each."""
        self._check_partitions_table()
        table = DynamicPartitionsTable.c
        mine = (table.partitions_def_name == partitions_def_name) & table.partition.in_(list(partition_keys))
        with self.index_connection() as conn:
            conn.execute(delete(DynamicPartitionsTable).where(mine))

    def runs_with_keys(self, partitions_def_name: str, run_ids: Sequence[str]) -> set[str]:
        """Those of `run_ids` that planned or made a partition whose key is still there, by one query.

        Dagster itself can only hand out all events of a run, thousands of them, each to be read as JSON.
        """
        events, keys = SqlEventLogStorageTable.c, DynamicPartitionsTable.c
        still = select(keys.partition).where(keys.partitions_def_name == partitions_def_name)
        query = select(events.run_id.distinct()).where(
            events.run_id.in_(list(run_ids)),
            events.dagster_event_type.in_([kind.value for kind in BATCHED]),
            events.partition.in_(still),
        )
        with self.index_connection() as conn:
            return set(conn.execute(query).scalars())

    def _store_together(self, events: Sequence[EventLogEntry]) -> None:
        """One transaction: if anything fails, Dagster stores the same events one by one, and none may be there yet."""
        rows = [self._event_to_row(event) for event in events]
        with self.index_transaction() as conn:
            ids = list(conn.execute(INSERT_EVENTS, rows).scalars())
            self._store_asset_event_tags(conn, events, ids)
            # An asset's row shows its latest event only. In the order of keys: two runs at once must not deadlock.
            latest = {event.get_dagster_event().asset_key: (event, i) for event, i in zip(events, ids, strict=True)}
            for key in sorted(latest, key=str):
                self._store_asset_event(conn, *latest[key])


class PooledPostgresStorage(DagsterPostgresStorage):
    """Dagster's storage for `storage: custom:` in `dagster.yaml`. Takes the configuration of `storage: postgres:`."""

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
        token_provider: Any = None,
    ) -> None:
        # Looking whether the tables are there takes three connections, and each tick of a sensor makes an instance.
        autocreate = should_autocreate_tables and postgres_url not in LOOKED_AT
        limited = with_limits(postgres_url)  # for connections that are not of the pool: the web server has its own
        with one_at_a_time(limited) if autocreate and token_provider is None else nullcontext():
            super().__init__(limited, autocreate, inst_data, token_provider)
        LOOKED_AT.add(postgres_url)
        # Dagster batches only where this is set; it is read at each event. Whoever set it means it.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", EVENTS_A_BATCH)
        self._event_log_storage = BatchingEventLogStorage(
            limited, should_autocreate_tables=False, token_provider=token_provider
        )
        if token_provider is None:  # a token belongs to a connection, so those engines are left alone
            self._share_engine(shared_engine(postgres_url))

    def _share_engine(self, engine: Engine) -> None:
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            if not isinstance(getattr(storage, "_engine", None), Engine):
                log.warning("dagster.storage_not_pooled", storage=type(storage).__name__, reason="no attribute _engine")
                continue
            storage._engine = engine

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """dagster-postgres's, but `postgres_url: {env: …}` is resolved by us: unset, it need not be an error."""
        return {**cast("dict[str, Any]", pg_config()), "postgres_url": Field(AnyConfig, is_required=False)}

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> DagsterStorage:
        """Overridden because dagster-postgres's names its own class; `LookOnlyStorage` where nothing is configured.

        Raises `SettingsError` naming the variable if there is a DAGSTER_HOME, but no URL.
        """
        url = config_value.get("postgres_url")
        if isinstance(url, Mapping):
            variable = str(url["env"])
            url = os.environ.get(variable)
            if not url and not os.environ.get("DAGSTER_HOME"):
                return LookOnlyStorage(inst_data)
            if not url:
                raise SettingsError(
                    f"{variable} is not set. Start Dagster with `signal-pipeline dev`, which sets it, or set it."
                )
        config_value = {**config_value, **({"postgres_url": url} if url else {})}
        return cls(
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
            token_provider=get_token_provider_from_config(config_value),
        )


@contextmanager
def one_at_a_time(url: str) -> Iterator[None]:
    """Processes that look whether Dagster's tables are there, and make them, do so one after the other.

    Two workers of a new deployment that start at the same moment would both make them, and one would die of it.
    """
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as conn:
        conn.execute(LOCK_TABLES)  # of the session: it ends with the connection, whatever becomes of the process
        yield


@lru_cache(maxsize=4)
def shared_engine(url: str) -> Engine:
    """The engine of this process for Dagster's storage at `url`, however many instances are made from it.

    A few connections are kept, and as many as needed are opened beyond them, as without a pool: some of Dagster's
    functions take a second connection while they hold one, and would wait for ever at a fixed limit.
    """
    engine = create_engine(
        with_limits(url),
        isolation_level="AUTOCOMMIT",
        pool_size=3,
        max_overflow=-1,
        pool_pre_ping=True,
        connect_args={"application_name": "signal_pipeline_dagster"},
    )
    # A forked child must not speak over its parent's connections, nor close them.
    os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
    atexit.register(engine.dispose)
    return engine
