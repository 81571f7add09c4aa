"""What Dagster shows of partitions after their keys have changed: the same as if it had read all events again."""

import time
from collections.abc import Iterable
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from dagster import AssetKey, AssetMaterialization, DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.storage import partition_status_cache
from dagster._core.storage.dagster_run import DagsterRun
from dagster_postgres import PostgresEventLogStorage

from signal_pipeline.orchestration import status_cache
from signal_pipeline.orchestration.ops import PER_SIGNAL
from signal_pipeline.orchestration.partitions import PARTITIONS_NAME, SIGNALS
from signal_pipeline.orchestration.retention import refresh_status
from signal_pipeline.orchestration.status_cache import InstanceContext

ASSET = PER_SIGNAL[1]

Shown = tuple[set[str], set[str], set[str]]
"""Keys that are made, that failed, and that are under way."""


def subsets(value: Any) -> Shown:
    if value is None:
        return set(), set(), set()
    made = value.deserialize_materialized_partition_subsets(SIGNALS)
    failed = value.deserialize_failed_partition_subsets(SIGNALS)
    under_way = value.deserialize_in_progress_partition_subsets(SIGNALS)
    return set(made.get_partition_keys()), set(failed.get_partition_keys()), set(under_way.get_partition_keys())


def shown(instance: DagsterInstance) -> Shown:
    """As the web server asks for it."""
    storage = instance.event_log_storage
    return subsets(storage.get_asset_status_cache_values([(ASSET, SIGNALS)], InstanceContext(instance))[0])


def read_again(instance: DagsterInstance) -> Shown:
    """Dagster's own answer from all events; nothing is kept of it."""
    record = next(iter(instance.get_asset_records([ASSET])), None)
    with partition_loading_context(None, instance):
        return subsets(partition_status_cache._build_status_cache(instance, ASSET, SIGNALS, None, record))


class Plant:
    """Keys come and go, and runs plan and make them."""

    def __init__(self, instance: DagsterInstance) -> None:
        self.instance = instance
        self.runs: dict[str, list[str]] = {}

    def add(self, *keys: str) -> None:
        self.instance.add_dynamic_partitions(PARTITIONS_NAME, list(keys))

    def remove(self, *keys: str) -> None:
        for key in keys:
            self.instance.delete_dynamic_partition(PARTITIONS_NAME, key)

    def keys(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions(PARTITIONS_NAME))

    def start(self, *keys: str) -> str:
        run_id = str(uuid4())
        self.instance.run_storage.add_run(DagsterRun("process", run_id=run_id, status=DagsterRunStatus.STARTED))
        planned = [AssetMaterializationPlannedData(asset_key=ASSET, partition=key) for key in keys]
        self._store(run_id, DagsterEventType.ASSET_MATERIALIZATION_PLANNED, planned)
        self.runs[run_id] = list(keys)
        return run_id

    def make(self, run_id: str, *keys: str) -> None:
        made = [StepMaterializationData(AssetMaterialization(asset_key=ASSET, partition=key)) for key in keys]
        self._store(run_id, DagsterEventType.ASSET_MATERIALIZATION, made)

    def end(self, run_id: str, kind: DagsterEventType = DagsterEventType.RUN_FAILURE) -> None:
        self.runs.pop(run_id, None)
        event = DagsterEvent(event_type_value=kind.value, job_name="process")
        self.instance.run_storage.handle_run_event(run_id, event)

    def run(self, *keys: str) -> str:
        """A run that made all of its keys."""
        run_id = self.start(*keys)
        self.make(run_id, *keys)
        self.end(run_id, DagsterEventType.RUN_SUCCESS)
        return run_id

    def _store(self, run_id: str, kind: DagsterEventType, data: Iterable[Any]) -> None:
        entry: Any = EventLogEntry
        now = time.time()
        events = [DagsterEvent(event_type_value=kind.value, job_name="process", event_specific_data=d) for d in data]
        self.instance.event_log_storage.store_event_batch(
            [entry(None, 20, "", run_id, now, dagster_event=event) for event in events]
        )


@pytest.fixture
def plant(stored: DagsterInstance) -> Plant:
    return Plant(stored)


@pytest.fixture
def known(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """A plant of three made keys, one that failed and one under way, that was looked at. Nobody may read all again."""
    plant.add("a", "b", "c", "bad", "slow")
    plant.run("a", "b", "c")
    plant.end(plant.start("bad"))
    plant.start("slow")
    assert shown(plant.instance) == ({"a", "b", "c"}, {"bad"}, {"slow"})
    real = PostgresEventLogStorage.get_materialized_partitions

    def only_new(self: Any, asset_key: AssetKey, before_cursor: Any = None, after_cursor: Any = None) -> set[str]:
        assert after_cursor is not None, "all events of the asset were read"
        return real(self, asset_key, before_cursor, after_cursor)

    monkeypatch.setattr(PostgresEventLogStorage, "get_materialized_partitions", only_new)
    return plant


def test_new_keys_are_missing_until_they_are_made(known: Plant) -> None:
    known.add("new", "newer")
    assert shown(known.instance) == ({"a", "b", "c"}, {"bad"}, {"slow"})
    known.add("newest")
    known.run("new")
    assert shown(known.instance) == ({"a", "b", "c", "new"}, {"bad"}, {"slow"})


def test_keys_that_went_are_not_shown_and_come_back_as_what_they_were(known: Plant) -> None:
    known.remove("a", "bad", "slow")
    assert shown(known.instance) == ({"b", "c"}, set(), set())
    known.add("a", "bad", "slow")
    assert shown(known.instance) == ({"a", "b", "c"}, {"bad"}, {"slow"})


def test_a_failed_key_that_is_made_after_all_is_no_longer_failed(known: Plant) -> None:
    known.run("bad")
    known.add("new")
    assert shown(known.instance) == ({"a", "b", "c", "bad"}, set(), {"slow"})


def test_a_failed_key_whose_next_run_was_cancelled_is_missing(known: Plant) -> None:
    known.end(known.start("bad"), DagsterEventType.RUN_CANCELED)
    known.add("new")
    assert shown(known.instance) == ({"a", "b", "c"}, set(), {"slow"})


def test_a_run_that_fails_after_the_keys_have_changed_is_noticed(known: Plant) -> None:
    known.add("new")
    assert shown(known.instance) == ({"a", "b", "c"}, {"bad"}, {"slow"})
    (run_id,) = known.runs
    known.end(run_id)
    known.remove("a")
    assert shown(known.instance) == ({"b", "c"}, {"bad", "slow"}, set())


def test_a_key_that_failed_in_a_later_run_is_both_made_and_failed_as_dagster_has_it(known: Plant) -> None:
    known.end(known.start("a"))
    known.add("new")
    assert shown(known.instance) == ({"a", "b", "c"}, {"a", "bad"}, {"slow"})


def test_what_a_refresh_found_is_what_the_next_look_starts_from(known: Plant) -> None:
    known.add(*(f"key {n}" for n in range(20)))
    known.run(*(f"key {n}" for n in range(20)))
    refresh_status(known.instance)
    (record,) = known.instance.get_asset_records([ASSET])
    kept = record.asset_entry.cached_status
    assert kept is not None
    assert kept.partitions_def_id == SIGNALS.get_serializable_unique_identifier(known.instance)
    assert subsets(kept) == ({"a", "b", "c", *(f"key {n}" for n in range(20))}, {"bad"}, {"slow"})


def test_partitions_whose_run_was_deleted_are_missing_at_once(plant: Plant) -> None:
    plant.add("a", "b")
    plant.run("a")
    run_id = plant.run("b")
    assert shown(plant.instance) == ({"a", "b"}, set(), set())
    plant.instance.delete_run(run_id)
    assert shown(plant.instance) == ({"a"}, set(), set())


def test_a_deleted_run_of_keys_that_went_leaves_what_is_known(known: Plant) -> None:
    known.add("old")
    run_id = known.run("old")
    known.remove("old")
    shown(known.instance)
    known.instance.delete_run(run_id)
    known.add("new")
    assert shown(known.instance) == ({"a", "b", "c"}, {"bad"}, {"slow"})


def test_with_too_many_keys_to_ask_about_all_events_are_read(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_cache, "ASKED_AT_MOST", 3)
    plant.add("a", "b")
    plant.run("a", "b")
    shown(plant.instance)
    plant.add("c", "d", "e", "f")
    plant.run("c", "d", "f")
    assert shown(plant.instance) == ({"a", "b", "c", "d", "f"}, set(), set())


def test_a_key_whose_run_was_deleted_while_it_was_none_comes_back_as_missing(plant: Plant) -> None:
    plant.add("a", "b")
    plant.run("a")
    run_id = plant.run("b")
    assert shown(plant.instance) == ({"a", "b"}, set(), set())
    plant.remove("b")
    plant.instance.delete_run(run_id)
    plant.add("b", "new")
    assert shown(plant.instance) == ({"a"}, set(), set())


HAPPENS = ["add", "add", "remove", "start", "make", "make", "end", "end", "run", "delete", "wipe"]
ENDINGS = [DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_CANCELED]


def happen(plant: Plant, random: Random, names: list[str]) -> None:
    """Something of what a plant does, or a person."""
    some, what = random.sample(names, 3), random.choice(HAPPENS)
    under_way = random.choice(sorted(plant.runs)) if plant.runs else None
    if what == "add":
        plant.add(*some)
    elif what == "remove":
        plant.remove(*some[:2])
    elif what == "run":
        plant.run(*some)
    elif what == "make" and under_way:
        plant.make(under_way, *random.sample(plant.runs[under_way], 2))
    elif what == "end" and under_way:
        plant.end(under_way, random.choice(ENDINGS))
    elif what == "start":
        plant.start(*some)
    else:
        take_away(plant, random)


def take_away(plant: Plant, random: Random) -> None:
    ended = [run_id for run_id in plant.instance.get_run_ids() if run_id not in plant.runs]
    if random.random() < 0.2:
        plant.instance.wipe_assets([ASSET])
    elif ended:
        plant.instance.delete_run(random.choice(ended))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_it_is_as_if_all_events_were_read(plant: Plant, seed: int) -> None:
    random, names = Random(seed), [f"key {n}" for n in range(12)]
    for step in range(60):
        happen(plant, random, names)
        if random.random() < 0.6:
            plant.add(f"at step {step}")  # where keys stand still, Dagster itself shows a failure too long
            assert shown(plant.instance) == read_again(plant.instance), step
