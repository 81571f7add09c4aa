"""From claims to ranges of partition keys: as a pure function, and on a real instance with keys that are in use."""

from collections.abc import Sequence
from itertools import pairwise
from uuid import UUID

import pytest
from dagster import DagsterInstance, DagsterRunStatus, Definitions
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.partitions import (
    PARTITIONS_NAME,
    RANGE_END,
    RANGE_START,
    place_keys,
    stretches,
)

IDS = [UUID(int=n) for n in range(1, 9)]
KEYS = [str(i) for i in IDS]


@pytest.mark.parametrize(
    ("wanted", "keys", "expected"),
    [
        ("", "abc", []),
        ("b", "", []),
        ("x", "abc", []),
        ("abc", "abc", ["abc"]),
        ("ba", "abc", ["ab"]),
        ("ac", "abc", ["a", "c"]),
        ("abde", "abcde", ["ab", "de"]),
        ("bx", "abc", ["b"]),
    ],
)
def test_wanted_keys_fall_into_stretches_of_neighbours(wanted: str, keys: str, expected: list[str]) -> None:
    assert ["".join(stretch.keys) for stretch in stretches(wanted, list(keys))] == expected


@given(st.lists(st.integers(0, 30), unique=True), st.sets(st.integers(0, 30)))
def test_stretches_hold_each_wanted_key_once_and_no_other(keys: list[int], wanted: set[int]) -> None:
    names = [str(key) for key in keys]
    found = stretches({str(key) for key in wanted}, names)
    assert [key for stretch in found for key in stretch.keys] == [name for name in names if int(name) in wanted]
    positions = {name: n for n, name in enumerate(names)}
    spans = [(positions[stretch.first], positions[stretch.last]) for stretch in found]
    assert all(last - first + 1 == len(s.keys) for (first, last), s in zip(spans, found, strict=True))
    gaps = [following[0] - span[1] for span, following in pairwise(spans)]
    assert all(gap > 1 for gap in gaps), "two stretches that touch are one"


def names(keys: Sequence[str]) -> str:
    return "".join(str(KEYS.index(key) + 1) for key in keys)


def test_new_signals_become_keys_in_order(engine: Engine, instance: DagsterInstance) -> None:
    assert names(place_keys(instance, engine, IDS[:3])) == "123"
    assert names(place_keys(instance, engine, IDS[3:5])) == "12345"


def test_old_keys_are_moved_next_to_the_new_ones(engine: Engine, instance: DagsterInstance) -> None:
    place_keys(instance, engine, IDS[:5])
    assert names(place_keys(instance, engine, [IDS[1], IDS[3], IDS[6]])) == "135247"


def test_keys_that_stand_together_in_order_are_left_where_they_are(engine: Engine, instance: DagsterInstance) -> None:
    place_keys(instance, engine, IDS[:5])
    assert names(place_keys(instance, engine, IDS[1:4])) == "12345"
    assert names(place_keys(instance, engine, [IDS[2]])) == "12345"
    assert names(place_keys(instance, engine, [IDS[1], IDS[3], IDS[2]])) == "15243"


def test_keys_in_the_range_of_an_unfinished_run_are_not_moved(
    engine: Engine, instance: DagsterInstance, definitions: Definitions
) -> None:
    place_keys(instance, engine, IDS[:6])
    job = definitions.resolve_job_def(PROCESS_SIGNALS)
    tags = {RANGE_START: KEYS[1], RANGE_END: KEYS[3]}
    run = instance.create_run_for_job(job, tags=tags, status=DagsterRunStatus.NOT_STARTED)
    assert names(place_keys(instance, engine, [IDS[0], IDS[2]])) == "234561"
    instance.report_run_canceled(run)
    assert names(place_keys(instance, engine, [IDS[0], IDS[2]])) == "245613"


@pytest.mark.parametrize(
    ("status", "order"),
    [
        (BulkActionStatus.REQUESTED, "12345"),
        (BulkActionStatus.CANCELING, "12345"),
        (BulkActionStatus.COMPLETED_SUCCESS, "24513"),
    ],
)
def test_no_key_is_moved_while_a_backfill_is_under_way(
    engine: Engine, instance: DagsterInstance, status: BulkActionStatus, order: str
) -> None:
    place_keys(instance, engine, IDS[:5])
    instance.add_backfill(
        PartitionBackfill(
            backfill_id="one", status=status, from_failure=False, tags=None, backfill_timestamp=1_700_000_000.0
        )
    )
    assert names(place_keys(instance, engine, [IDS[0], IDS[2]])) == order
    assert set(instance.get_dynamic_partitions(PARTITIONS_NAME)) == set(KEYS[:5])
