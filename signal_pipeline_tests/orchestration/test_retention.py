"""What Dagster keeps, on real instances: which keys and runs may go, and that what is shown of the others stays."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from dagster import DagsterInstance, DagsterRunStatus, DefaultScheduleStatus, Definitions, RunsFilter
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from sqlalchemy import Engine, text

from signal_pipeline.db.signals import clear_phases
from signal_pipeline.observability import readings
from signal_pipeline.orchestration import ops
from signal_pipeline.orchestration.build import build_definitions
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.partitions import (
    PARTITIONS_NAME,
    RANGE_END,
    RANGE_START,
    SIGNALS,
    place_keys,
)
from signal_pipeline.orchestration.retention import prune_keys, prune_runs
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import IngestSettings, RetentionSettings, Settings
from signal_pipeline_tests.ingest.loading import csv_of, load_one
from signal_pipeline_tests.orchestration.conftest import Materialize, materialized
from signal_pipeline_tests.signals import count, insert_signals, recording, value

MONTHS_LATER = datetime.now(UTC) + timedelta(days=100)


def final(engine: Engine, ids: Sequence[UUID], status: str = "completed") -> None:
    """As if the signals had been processed."""
    with engine.begin() as conn:
        conn.execute(text("SET LOCAL session_replication_role = replica"))
        conn.execute(
            text("UPDATE raw_signals SET processing_status = :status, finalized_at = now() WHERE id = ANY(:ids)"),
            {"ids": list(ids), "status": status},
        )


def keys(instance: DagsterInstance) -> list[str]:
    return list(instance.get_dynamic_partitions(PARTITIONS_NAME))


def numbers(instance: DagsterInstance, ids: Sequence[UUID]) -> list[int]:
    """Which of `ids` are keys, by their place in `ids`."""
    return [ids.index(UUID(key)) for key in keys(instance)]


def six_done(engine: Engine, instance: DagsterInstance) -> list[UUID]:
    """Six completed signals, and their keys."""
    ids = insert_signals(engine, 6)
    final(engine, ids)
    place_keys(instance, engine, ids)
    return ids


@pytest.fixture
def done(engine: Engine, instance: DagsterInstance) -> list[UUID]:
    return six_done(engine, instance)


def test_the_oldest_keys_go_until_the_limit_is_met(engine: Engine, instance: DagsterInstance, done: list[UUID]) -> None:
    pruned = prune_keys(instance, engine, kept=4)
    assert (pruned.keys, pruned.left, pruned.reason) == (2, 4, None)
    assert numbers(instance, done) == [2, 3, 4, 5]
    assert prune_keys(instance, engine, kept=4).keys == 0
    assert count(engine, "raw_signals") == 6


def test_keys_of_failed_signals_go_last(engine: Engine, instance: DagsterInstance, done: list[UUID]) -> None:
    final(engine, done[:3], "failed")
    prune_keys(instance, engine, kept=4)
    assert numbers(instance, done) == [0, 1, 2, 5]
    prune_keys(instance, engine, kept=2)
    assert numbers(instance, done) == [1, 2]


def test_a_signal_that_is_not_final_keeps_its_key(engine: Engine, instance: DagsterInstance) -> None:
    ids = insert_signals(engine, 5)
    place_keys(instance, engine, ids)
    final(engine, ids[3:])
    with engine.begin() as conn:
        conn.execute(
            text(
                "UPDATE raw_signals SET processing_status = 'processing', claim_token = gen_random_uuid(), "
                "claimed_by = 'worker', lease_expires_at = now() - interval '1 hour' WHERE id = :id"
            ),
            {"id": ids[0]},
        )
    pruned = prune_keys(instance, engine, kept=1)
    assert (pruned.keys, pruned.left, pruned.reason) == (2, 3, "the others are not final, or in use")
    assert numbers(instance, ids) == [0, 1, 2]


def test_a_signal_that_a_persons_run_has_borrowed_keeps_its_key(
    engine: Engine, instance: DagsterInstance, done: list[UUID]
) -> None:
    with engine.begin() as conn:
        conn.execute(
            text(
                "UPDATE raw_signals SET claim_token = gen_random_uuid(), claimed_by = 'person', "
                "lease_expires_at = now() + interval '1 hour' WHERE id = :id"
            ),
            {"id": done[0]},
        )
    prune_keys(instance, engine, kept=1)
    assert numbers(instance, done) == [0]


@pytest.mark.parametrize(("asked", "left"), [([1, 3], [1, 2, 3]), ([2], [2, 5])], ids=["in its range", "alone"])
def test_keys_that_an_unfinished_run_was_asked_for_stay(
    instance: DagsterInstance, definitions: Definitions, worker: Worker, asked: list[int], left: list[int]
) -> None:
    engine = worker.engine
    done = six_done(engine, instance)
    names = ["dagster/partition"] if len(asked) == 1 else [RANGE_START, RANGE_END]
    tags = {name: str(done[n]) for name, n in zip(names, asked, strict=True)}
    job = definitions.resolve_job_def(PROCESS_SIGNALS)
    run = instance.create_run_for_job(job, tags=tags, status=DagsterRunStatus.NOT_STARTED)
    prune_keys(instance, engine, kept=len(left))
    assert numbers(instance, done) == left
    instance.report_run_canceled(run)
    prune_keys(instance, engine, kept=1)
    assert len(keys(instance)) == 1


@pytest.mark.parametrize(("status", "left"), [(BulkActionStatus.REQUESTED, 6), (BulkActionStatus.COMPLETED_SUCCESS, 1)])
def test_no_key_goes_while_a_backfill_is_under_way(
    engine: Engine, instance: DagsterInstance, done: list[UUID], status: BulkActionStatus, left: int
) -> None:
    instance.add_backfill(
        PartitionBackfill(backfill_id="one", status=status, from_failure=False, tags=None, backfill_timestamp=1.7e9)
    )
    pruned = prune_keys(instance, engine, kept=1)
    assert (pruned.left, pruned.reason) == (left, "a backfill is under way" if left == 6 else None)
    assert len(keys(instance)) == left == len(set(keys(instance)) & {str(i) for i in done})


def test_a_key_of_a_deleted_signal_goes_and_one_that_a_person_invented_stays(
    engine: Engine, instance: DagsterInstance, done: list[UUID]
) -> None:
    with engine.begin() as conn:
        conn.execute(text("DELETE FROM raw_signals WHERE id = :id"), {"id": done[0]})
    instance.add_dynamic_partitions(PARTITIONS_NAME, ["mine"])
    prune_keys(instance, engine, kept=2)
    assert keys(instance) == [str(done[5]), "mine"]


def test_many_keys_go_in_more_than_one_step(
    engine: Engine, instance: DagsterInstance, done: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal_pipeline.orchestration.retention.KEYS_A_LOCK", 2)
    final(engine, done[:1], "failed")
    assert prune_keys(instance, engine, kept=1).keys == 5
    assert numbers(instance, done) == [0]


def test_a_pruned_signal_can_be_added_again_and_computed(
    engine: Engine, instance: DagsterInstance, materialize: Materialize
) -> None:
    ids = insert_signals(engine, 2)
    assert materialize([str(i) for i in ids]).success
    prune_keys(instance, engine, kept=1)
    assert numbers(instance, ids) == [1]
    place_keys(instance, engine, ids[:1])
    assert materialize([str(ids[0])]).success
    assert numbers(instance, ids) == [1, 0]


def partitions_shown(instance: DagsterInstance) -> dict[str, tuple[list[str], list[str]]]:
    """Materialized and failed partitions of each asset that are keys, as the UI counts them."""
    shown = {}
    existing = set(keys(instance))
    for asset in ops.PER_SIGNAL:
        instance.wipe_asset_cached_status([asset])
        status = get_and_update_asset_status_cache_value(instance, asset, SIGNALS, dynamic_partitions_loader=instance)
        assert status is not None
        good, bad = (
            sorted(existing & set(subset(SIGNALS).get_partition_keys()))
            for subset in (
                status.deserialize_materialized_partition_subsets,
                status.deserialize_failed_partition_subsets,
            )
        )
        shown[asset.to_user_string()] = (good, bad)
    return shown


def process(definitions: Definitions, instance: DagsterInstance, ids: Sequence[UUID]) -> str:
    """A run of these signals, as a person starts it; its id."""
    instance.add_dynamic_partitions(PARTITIONS_NAME, [str(i) for i in ids])
    tags = {RANGE_START: str(ids[0]), RANGE_END: str(ids[-1])}
    job = definitions.resolve_job_def(PROCESS_SIGNALS)
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False).run_id


def run_ids(instance: DagsterInstance) -> set[str]:
    return set(instance.get_run_ids(RunsFilter()))


def test_a_run_goes_with_its_events_when_its_keys_are_gone_and_what_is_shown_of_the_others_stays(
    engine: Engine, stored: DagsterInstance, definitions: Definitions
) -> None:
    """On Postgres, with the project's own storage."""
    infinite = np.full((3, 2000), np.inf, dtype=np.float32)
    first = insert_signals(engine, 2, equipment="first")
    mixed = [*insert_signals(engine, 2, equipment="good"), *insert_signals(engine, 1, equipment="x", phases=infinite)]
    last = insert_signals(engine, 2, equipment="last")
    gone, needed, latest = (process(definitions, stored, ids) for ids in (first, mixed, last))
    assert prune_runs(stored, days=30, now=MONTHS_LATER) == 0, "all of them have keys"
    prune_keys(stored, engine, kept=5)
    shown = partitions_shown(stored)
    assert shown["features"] == (sorted(str(i) for i in (*mixed[:2], *last)), [str(mixed[2])])
    assert prune_runs(stored, days=30) == 0, "none of them is old"
    assert prune_runs(stored, days=30, now=MONTHS_LATER) == 1
    assert run_ids(stored) == {needed, latest}
    assert stored.all_logs(gone) == []
    assert partitions_shown(stored) == shown
    assert count(engine, "raw_signals") == 7


def test_a_run_of_a_range_whose_ends_are_gone_stays_for_a_key_between_them(
    engine: Engine, instance: DagsterInstance, definitions: Definitions
) -> None:
    ids = insert_signals(engine, 3)
    other = insert_signals(engine, 1, equipment="other")
    needed = process(definitions, instance, ids)
    latest = process(definitions, instance, other)
    for key in (ids[0], ids[2]):
        instance.delete_dynamic_partition(PARTITIONS_NAME, str(key))
    assert prune_runs(instance, days=30, now=MONTHS_LATER) == 0
    instance.delete_dynamic_partition(PARTITIONS_NAME, str(ids[1]))
    assert prune_runs(instance, days=30, now=MONTHS_LATER) == 1
    assert run_ids(instance) == {latest} != {needed}


def test_the_run_that_says_the_latest_of_an_asset_stays_without_any_key(
    engine: Engine, instance: DagsterInstance, definitions: Definitions
) -> None:
    ids = insert_signals(engine, 2)
    process(definitions, instance, ids[:1])
    latest = process(definitions, instance, ids[1:])
    for key in keys(instance):
        instance.delete_dynamic_partition(PARTITIONS_NAME, key)
    assert prune_runs(instance, days=30, now=MONTHS_LATER) == 1
    assert run_ids(instance) == {latest}
    job = definitions.resolve_job_def(PROCESS_SIGNALS)
    planned_later = instance.create_run_for_job(job, status=DagsterRunStatus.CANCELED).run_id
    assert prune_runs(instance, days=30, now=MONTHS_LATER) == 0, "one was the last to run, one the last to make"
    assert run_ids(instance) == {latest, planned_later}
    assert materialized(instance, "features") == {str(ids[1])}


def test_an_unfinished_run_and_one_of_a_backfill_under_way_stay_however_old(
    instance: DagsterInstance, definitions: Definitions
) -> None:
    job = definitions.resolve_job_def(PROCESS_SIGNALS)
    tags = {"dagster/backfill": "one"}
    part = instance.create_run_for_job(job, status=DagsterRunStatus.SUCCESS, tags=tags).run_id
    instance.create_run_for_job(job, status=DagsterRunStatus.CANCELED)
    waiting = instance.create_run_for_job(job, status=DagsterRunStatus.NOT_STARTED).run_id
    backfill = PartitionBackfill(
        backfill_id="one", status=BulkActionStatus.REQUESTED, from_failure=False, tags=None, backfill_timestamp=1.7e9
    )
    instance.add_backfill(backfill)
    assert prune_runs(instance, days=30, now=MONTHS_LATER) == 1
    assert run_ids(instance) == {waiting, part}
    instance.update_backfill(backfill._replace(status=BulkActionStatus.COMPLETED_SUCCESS))
    assert prune_runs(instance, days=30, now=MONTHS_LATER) == 1
    assert run_ids(instance) == {waiting}


def test_the_job_prunes_by_the_settings_and_touches_no_row(
    engine: Engine, instance: DagsterInstance, done: list[UUID]
) -> None:
    settings = Settings(retention=RetentionSettings(partition_keys_kept=2, dagster_runs_kept_days=1))
    definitions = build_definitions(settings, make_worker=lambda name: Worker(engine, settings, name))
    before = process(definitions, instance, done[:1])
    tables = ("raw_signals", "features", "hourly_feature_summary", "signal_diagnostics", "anomaly_scores")
    rows = {table: count(engine, table) for table in tables}
    assert definitions.resolve_job_def("retention").execute_in_process(instance=instance).success
    assert numbers(instance, done) == [4, 5]
    assert before in run_ids(instance), "it is not a day old"
    assert {table: count(engine, table) for table in tables} == rows


def test_the_job_clears_samples_that_a_dead_worker_should_have_cleared(
    engine: Engine, instance: DagsterInstance, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(csv_of(recording()))
    final(engine, load_one(engine, path).signal_ids)
    for retain, kept in ((True, 1), (False, 0)):
        settings = Settings(ingest=IngestSettings(retain_raw_signals=retain))
        job = build_definitions(settings, make_worker=partial(Worker, engine, settings)).resolve_job_def("retention")
        assert job.execute_in_process(instance=instance).success
        assert value(engine, "SELECT count(phase_a) FROM raw_signals") == kept


def test_the_counters_stay_when_samples_are_cleared_and_keys_and_runs_are_pruned(
    engine: Engine, stored: DagsterInstance, definitions: Definitions
) -> None:
    """A counter that shrank would look like a restart, and the rates after it would be inventions."""
    first, last = insert_signals(engine, 3, equipment="first"), insert_signals(engine, 1, equipment="last")
    for ids in (first, last):
        process(definitions, stored, ids)
    before = readings.read(engine, max_equipment=0)
    assert (before.totals["signals_completed_total"], before.totals["features_total"]) == (4, count(engine, "features"))
    with engine.begin() as conn:
        assert set(clear_phases(conn, first)) == set(first)
    assert prune_keys(stored, engine, kept=1).keys == 3
    assert prune_runs(stored, days=30, now=MONTHS_LATER) == 1
    after = readings.read(engine, max_equipment=0)
    assert (after.totals, after.durations) == (before.totals, before.durations)


def test_the_retention_is_on_by_default_and_says_what_it_does(definitions: Definitions) -> None:
    schedule = definitions.resolve_schedule_def("retention_hourly")
    assert schedule.default_status is DefaultScheduleStatus.RUNNING
    assert schedule.job_name == "retention"
    assert "PARTITION_KEYS_KEPT" in (schedule.description or "")
    assert definitions.resolve_job_def("retention").description
