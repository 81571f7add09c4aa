"""Our storage against dagster-postgres's own: the same rows and the same answers, with fewer connections and writes.

Each test has a Dagster instance in a database of its own, made from the project's `dagster.yaml`.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest
import structlog
from dagster import AssetKey, DagsterEventType, DagsterInstance, Definitions
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster_postgres import PostgresEventLogStorage
from sqlalchemy import Engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.pool import Pool

from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.ops import PER_SIGNAL
from signal_pipeline.orchestration.partitions import PARTITIONS_NAME, RANGE_END, RANGE_START, SIGNALS, delete_keys
from signal_pipeline.orchestration.storage import BatchingEventLogStorage, PooledPostgresStorage, shared_engine
from signal_pipeline_tests.signals import insert_signals


@pytest.fixture
def stock(server_url: str, tmp_path: Path) -> Iterator[tuple[DagsterInstance, str]]:
    """An instance on dagster-postgres as it comes, and the URL of its own database."""
    name = f"dagster_stock_{uuid4().hex}"
    url = make_url(server_url).set(drivername="postgresql+psycopg2", database=name).render_as_string(False)
    home = tmp_path / "stock"
    home.mkdir()
    (home / "dagster.yaml").write_text(json.dumps({"storage": {"postgres": {"postgres_url": url}}}))
    with psycopg.connect(plain(server_url), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")
        with DagsterInstance.from_config(str(home)) as instance:
            assert type(instance.event_log_storage) is PostgresEventLogStorage
            yield instance, url
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


def process(definitions: Definitions, instance: DagsterInstance, keys: Sequence[str]) -> bool:
    """A run of all assets of `keys`, as a person starts it."""
    instance.add_dynamic_partitions(PARTITIONS_NAME, list(keys))
    job = definitions.resolve_job_def(PROCESS_SIGNALS)
    tags = {RANGE_START: keys[0], RANGE_END: keys[-1]}
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False).success


def partly_bad(engine: Engine) -> tuple[set[str], set[str]]:
    """Keys of four good signals and two with impossible samples."""
    good = insert_signals(engine, 4, equipment="good")
    bad = insert_signals(engine, 2, equipment="bad", phases=np.full((3, 2000), np.inf, dtype=np.float32))
    return {str(i) for i in good}, {str(i) for i in bad}


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """What is executed on `engine` meanwhile."""
    seen: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def written(url: str) -> tuple[Counter[tuple[Any, ...]], set[tuple[Any, ...]]]:
    """What Dagster's tables say of a run: its events about assets (how many of each), and the assets' rows."""
    with psycopg.connect(plain(url)) as conn:
        rows = conn.execute("SELECT dagster_event_type, step_key, asset_key, partition FROM event_logs").fetchall()
        assets = conn.execute(
            """
            SELECT a.asset_key, a.last_materialization IS NOT NULL, a.last_run_id = r.run_id,
                   e.partition IS NOT NULL, a.last_materialization_timestamp = e.timestamp
            FROM asset_keys AS a CROSS JOIN runs AS r
            LEFT JOIN event_logs AS e ON e.id = (CAST(a.last_materialization AS jsonb) ->> 'storage_id')::bigint
            """
        ).fetchall()
    return Counter(rows), set(assets)


def test_failed_partitions_are_exactly_the_failed_signals(
    engine: Engine, stored: DagsterInstance, definitions: Definitions
) -> None:
    good, bad = partly_bad(engine)
    assert not process(definitions, stored, [*good, *bad])
    for key in PER_SIGNAL:
        assert stored.get_materialized_partitions(key) == good
        shown = get_and_update_asset_status_cache_value(stored, key, SIGNALS)
        assert shown is not None
        assert set(shown.deserialize_materialized_partition_subsets(SIGNALS).get_partition_keys()) == good
        assert set(shown.deserialize_failed_partition_subsets(SIGNALS).get_partition_keys()) == bad


def test_a_run_writes_the_same_events_and_assets_as_with_dagster_postgres(
    engine: Engine,
    stored: DagsterInstance,
    definitions: Definitions,
    dagster_url: str,
    stock: tuple[DagsterInstance, str],
) -> None:
    good, bad = partly_bad(engine)
    keys = sorted(good | bad)
    process(definitions, stored, keys)
    stock_instance, stock_url = stock
    process(definitions, stock_instance, keys)
    expected = written(stock_url)
    assert written(dagster_url) == expected
    planned, made = DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_MATERIALIZATION
    by_type = Counter(row[0] for row in expected[0].elements())
    assert (by_type[planned.value], by_type[made.value]) == (len(PER_SIGNAL) * 6, len(PER_SIGNAL) * 4)


def plain(url: str, database: str | None = None) -> str:
    """As psycopg itself takes it."""
    return make_url(url).set(drivername="postgresql", database=database).render_as_string(hide_password=False)


def rows_of(insert: str) -> int:
    """How many events an INSERT writes."""
    return len(re.findall(r"%\(event(__\d+)?\)s", insert))


def test_planned_events_take_one_write_and_materializations_one_an_asset(
    engine: Engine, stored: DagsterInstance, definitions: Definitions, dagster_url: str
) -> None:
    keys = [str(i) for i in insert_signals(engine, 12)]
    with statements(shared_engine(dagster_url)) as seen:
        process(definitions, stored, keys)
    inserts = [s for s in seen if s.startswith("INSERT INTO event_logs")]
    rows = Counter(rows_of(s) for s in inserts)
    assert rows[len(PER_SIGNAL) * 12] == 1
    assert rows[12] == len(PER_SIGNAL)
    assert set(rows) == {1, 12, len(PER_SIGNAL) * 12}


def test_a_batch_that_cannot_be_stored_is_stored_one_by_one_and_nothing_twice(
    engine: Engine,
    stored: DagsterInstance,
    definitions: Definitions,
    dagster_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store_tags, failed = BatchingEventLogStorage._store_asset_event_tags, []

    def fails_for_several(self: BatchingEventLogStorage, conn: Any, events: Sequence[Any], ids: Sequence[int]) -> None:
        if len(events) > 1:
            failed.append(len(events))
            raise RuntimeError("the second statement of a batch fails")
        store_tags(self, conn, events, ids)

    monkeypatch.setattr(BatchingEventLogStorage, "_store_asset_event_tags", fails_for_several)
    keys = [str(i) for i in insert_signals(engine, 3)]
    assert process(definitions, stored, keys)
    assert sorted(failed) == [3] * len(PER_SIGNAL) + [3 * len(PER_SIGNAL)]
    events, _ = written(dagster_url)
    told = {row: n for row, n in events.items() if row[2] is not None}
    assert len(told) == len(PER_SIGNAL) * 3 * 2
    assert set(told.values()) == {1}


def test_all_instances_of_a_process_share_one_pool_and_open_no_connections(
    stored: DagsterInstance, dagster_url: str
) -> None:
    stored.get_runs()
    opened: list[Any] = []

    def note(connection: Any, _record: Any) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", note)
    try:
        for _ in range(3):
            with DagsterInstance.from_ref(stored.get_ref()) as instance:
                parts = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
                assert {getattr(part, "_engine", None) for part in parts} == {shared_engine(dagster_url)}
                instance.get_runs()
    finally:
        event.remove(Pool, "connect", note)
    assert opened == []


# The pause stands between looking for a table and making it: where two processes met once in many starts.
MAKE_TABLES = """
import sys, time
from sqlalchemy import Engine, event
from signal_pipeline.orchestration.storage import PooledPostgresStorage
event.listen(Engine, "before_cursor_execute", lambda *a: time.sleep(0.1) if "CREATE TABLE" in a[2] else None)
print("imported", flush=True)
sys.stdin.readline()
print(PooledPostgresStorage(sys.argv[1]).run_storage.get_run_ids())
"""


def test_processes_that_start_at_once_on_an_empty_database_make_its_tables_together(dagster_url: str) -> None:
    """Two workers of a new deployment: PostgreSQL's CREATE TABLE is no match for another one at the same moment."""
    command = [sys.executable, "-c", MAKE_TABLES, dagster_url]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "imported\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=120) for process in started]
    assert [(process.returncode, out) for process, (out, _) in zip(started, ended, strict=True)] == [(0, "[]\n")] * 2, (
        ended
    )


def test_connections_that_the_server_closed_are_replaced(stored: DagsterInstance, dagster_url: str) -> None:
    stored.get_runs()
    with psycopg.connect(plain(dagster_url, database="postgres"), autocommit=True) as conn:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        assert conn.execute(query, (make_url(dagster_url).database,)).fetchall() == [(True,)]
    assert stored.get_runs() == []


FORKING = """
import os, sys
from sqlalchemy import text
from signal_pipeline.orchestration.storage import shared_engine

def backend():
    with shared_engine(sys.argv[1]).connect() as conn:
        return conn.execute(text("SELECT pg_backend_pid()")).scalar_one()

mine = backend()
child = os.fork()
if child == 0:
    os._exit(0 if backend() != mine else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, "the child used its parent's connection"
assert backend() == mine, "the child closed its parent's connection"
"""


def test_a_forked_child_leaves_its_parents_connections_alone(dagster_url: str) -> None:
    subprocess.run([sys.executable, "-c", FORKING, dagster_url], check=True)


def test_a_storage_without_the_private_attribute_works_unpooled_and_is_named(
    dagster_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = PooledPostgresStorage(dagster_url)
    other = SimpleNamespace()
    monkeypatch.setattr(storage, "_schedule_storage", other)
    with structlog.testing.capture_logs() as logs:
        storage._share_engine(shared_engine(dagster_url))
    assert [(entry["event"], entry["storage"]) for entry in logs] == [("dagster.storage_not_pooled", "SimpleNamespace")]
    assert not hasattr(other, "_engine")
    shared_engine(dagster_url).dispose()


def test_batching_that_a_person_has_switched_off_stays_off(
    engine: Engine,
    stored: DagsterInstance,
    definitions: Definitions,
    dagster_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
    PooledPostgresStorage(dagster_url)
    keys = [str(i) for i in insert_signals(engine, 2)]
    with statements(shared_engine(dagster_url)) as seen:
        assert process(definitions, stored, keys)
    assert {rows_of(s) for s in seen if s.startswith("INSERT INTO event_logs")} == {1}
    assert stored.get_materialized_partitions(AssetKey("features")) == set(keys)


def test_partitions_that_failed_or_are_under_way_are_found_as_dagster_finds_them(
    engine: Engine, definitions: Definitions, stored: DagsterInstance
) -> None:
    good, bad = partly_bad(engine)
    process(definitions, stored, [*good, *bad])
    more = [str(i) for i in insert_signals(engine, 2, equipment="waiting")]
    stored.add_dynamic_partitions(PARTITIONS_NAME, more)
    waiting = stored.create_run_for_job(
        definitions.resolve_job_def(PROCESS_SIGNALS), tags={RANGE_START: more[0], RANGE_END: more[1]}
    )
    storage, features = stored.event_log_storage, AssetKey("features")
    assert isinstance(storage, BatchingEventLogStorage)
    ask = "get_latest_asset_partition_materialization_attempts_without_materializations"
    whole = getattr(storage, ask)(features)
    assert set(whole) == {*bad, *more}
    assert {whole[key][0] for key in more} == {waiting.run_id}
    for after in (
        None,
        min(event_id for _, event_id in whole.values()),
        max(event_id for _, event_id in whole.values()),
    ):
        assert getattr(storage, ask)(features, after) == getattr(PostgresEventLogStorage, ask)(storage, features, after)


@pytest.mark.parametrize("limit", [0, 1000])
def test_keys_are_found_and_deleted_together(
    stored: DagsterInstance, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("signal_pipeline.orchestration.storage.KEYS_ASKED_ONE_BY_ONE", limit)
    stored.add_dynamic_partitions(PARTITIONS_NAME, ["a", "b", "c"])
    stored.add_dynamic_partitions("another", ["a"])
    storage = stored.event_log_storage
    assert isinstance(storage, BatchingEventLogStorage)
    assert storage.get_existing_dynamic_partitions(PARTITIONS_NAME, ["c", "x", "a"]) == {"a", "c"}
    delete_keys(stored, ["a", "c", "x"])
    assert (list(stored.get_dynamic_partitions(PARTITIONS_NAME)), list(stored.get_dynamic_partitions("another"))) == (
        ["b"],
        ["a"],
    )
    delete_keys(stored, [])
    assert list(stored.get_dynamic_partitions(PARTITIONS_NAME)) == ["b"]
