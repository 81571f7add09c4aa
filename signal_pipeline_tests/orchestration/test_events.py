"""Materializations that are logged together: the same events as one by one, in fewer writes."""

from collections.abc import Sequence

import pytest
import structlog
from dagster import (
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    EventLogEntry,
    ExecuteInProcessResult,
    OpExecutionContext,
    job,
    op,
)

from signal_pipeline.orchestration import events
from signal_pipeline.orchestration.events import can_batch, log_materializations

KEY = AssetKey("features")
MATERIALIZATIONS = [AssetMaterialization(KEY, partition=f"signal-{i}", metadata={"windows": i}) for i in range(5)]


@pytest.fixture
def writes(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many materializations each write to the event log brought."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    storage, sizes = instance.event_log_storage, []
    store_batch, store = storage.store_event_batch, storage.store_event

    def note_batch(entries: Sequence[EventLogEntry]) -> None:
        sizes.append(sum(is_materialization(entry) for entry in entries))
        store_batch(entries)

    def note(entry: EventLogEntry) -> None:
        if is_materialization(entry):
            sizes.append(1)
        store(entry)

    monkeypatch.setattr(storage, "store_event_batch", note_batch)
    monkeypatch.setattr(storage, "store_event", note)
    return sizes


def is_materialization(entry: EventLogEntry) -> bool:
    return entry.dagster_event is not None and entry.dagster_event.is_step_materialization


def run(instance: DagsterInstance, materializations: Sequence[AssetMaterialization]) -> ExecuteInProcessResult:
    @op
    def tell(context: OpExecutionContext) -> None:
        log_materializations(context, materializations)

    @job
    def telling() -> None:
        tell()

    return telling.execute_in_process(instance=instance)


def told(result: ExecuteInProcessResult) -> list[tuple[str | None, object]]:
    found = result.asset_materializations_for_node("tell")
    return [(m.partition, m.metadata["windows"].value) for m in found]


EXPECTED = [(f"signal-{i}", i) for i in range(5)]


def test_all_materializations_of_a_step_are_one_write(instance: DagsterInstance, writes: list[int]) -> None:
    result = run(instance, MATERIALIZATIONS)
    assert told(result) == EXPECTED
    assert writes[0] == 5  # the ephemeral storage then stores them one by one
    assert instance.get_materialized_partitions(KEY) == {f"signal-{i}" for i in range(5)}


def test_a_single_materialization_and_none_are_told_too(instance: DagsterInstance, writes: list[int]) -> None:
    assert told(run(instance, [])) == []
    assert told(run(instance, MATERIALIZATIONS[:1])) == EXPECTED[:1]
    assert writes == [1]


def test_another_private_api_only_costs_speed(
    instance: DagsterInstance, writes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asset_materialization(step_context: object, materialization: object) -> None:
        raise NotImplementedError("as it might be one day")

    monkeypatch.setattr(events, "DagsterEvent", type("Other", (), {"asset_materialization": asset_materialization}))
    with structlog.testing.capture_logs() as logs:
        result = run(instance, MATERIALIZATIONS)
    assert told(result) == EXPECTED
    assert writes == [1, 1, 1, 1, 1]
    assert [entry["event"] for entry in logs] == ["dagster.events_not_batched"]


def test_this_version_of_dagster_can_batch_and_one_without_the_private_class_is_told_apart(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    @op
    def ask(context: OpExecutionContext) -> None:
        found.append(can_batch(context))
        with monkeypatch.context() as changed:
            changed.delattr("dagster._core.events.DagsterEventBatchMetadata")
            found.append(can_batch(context))

    @job
    def asking() -> None:
        ask()

    asking.execute_in_process(instance=instance)
    assert found == [True, False]
