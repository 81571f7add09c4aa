"""A run from a person's hand: whole, partly failed, and of some assets only."""

import numpy as np
from dagster import DagsterInstance
from sqlalchemy import Engine, text

from signal_pipeline.orchestration.ops import PER_SIGNAL
from signal_pipeline_tests.orchestration.conftest import Materialize, materialized
from signal_pipeline_tests.signals import count, failures, insert_signals, recording, statuses


def test_a_run_of_all_assets_completes_its_signals(
    engine: Engine, instance: DagsterInstance, materialize: Materialize
) -> None:
    ids = insert_signals(engine, 3)
    result = materialize([str(i) for i in ids])
    assert result.success
    assert set(statuses(engine).values()) == {"completed"}
    assert count(engine, "features") == 9
    assert count(engine, "hourly_feature_summary") == 3
    for key in PER_SIGNAL:
        assert set(instance.get_materialized_partitions(key)) == {str(i) for i in ids}


def test_only_the_failed_signals_are_failed_partitions(
    engine: Engine, instance: DagsterInstance, materialize: Materialize
) -> None:
    good = insert_signals(engine, 2, equipment="good")
    bad = insert_signals(engine, 1, equipment="bad", phases=np.full((3, 2000), np.inf, dtype=np.float32))
    short = insert_signals(engine, 1, equipment="short", phases=recording(seconds=0.5))
    result = materialize([str(i) for i in (good[0], bad[0], short[0], good[1])])
    assert not result.success
    assert failures(engine) == {bad[0]: "validation_failed", short[0]: "insufficient_data"}
    assert {i for i, status in statuses(engine).items() if status == "completed"} == set(good)
    for key in PER_SIGNAL:
        assert materialized(instance, key.to_user_string()) == {str(i) for i in good}


def test_a_completed_signal_can_be_recomputed_and_nothing_changes(engine: Engine, materialize: Materialize) -> None:
    keys = [str(i) for i in insert_signals(engine, 2)]
    materialize(keys)
    before = count(engine, "features")
    assert materialize(keys).success
    assert count(engine, "features") == before
    assert set(statuses(engine).values()) == {"completed"}


def test_a_failed_signal_that_was_mended_completes(engine: Engine, materialize: Materialize) -> None:
    keys = [str(i) for i in insert_signals(engine, 1, sample_rate_hz=-1.0)]
    assert not materialize(keys).success
    with engine.begin() as conn:
        conn.execute(text("UPDATE raw_signals SET sample_rate_hz = 1000"))
    assert materialize(keys).success
    with engine.connect() as conn:
        assert conn.execute(text("SELECT meta ? 'failure' FROM raw_signals")).scalar_one() is False


def test_a_signal_that_a_live_worker_holds_is_refused_by_name_and_its_neighbour_is_made(
    engine: Engine, instance: DagsterInstance, materialize: Materialize
) -> None:
    held, free = insert_signals(engine, 2)
    with engine.begin() as conn:
        conn.execute(
            text(
                "UPDATE raw_signals SET processing_status = 'processing', claim_token = gen_random_uuid(), "
                "claimed_by = 'other-host', lease_expires_at = now() + interval '1 minute' WHERE id = :id"
            ),
            {"id": held},
        )
    result = materialize([str(held), str(free)])
    assert not result.success
    assert f"{held} is held by other-host until" in str(result.all_events)
    assert statuses(engine) == {held: "processing", free: "completed"}
    assert materialized(instance, "features") == {str(free)}


def test_a_partition_that_is_no_signal_is_refused(engine: Engine, materialize: Materialize) -> None:
    (known,) = insert_signals(engine, 1)
    result = materialize(["not-a-uuid", "00000000-0000-0000-0000-000000000000", str(known)])
    assert not result.success
    assert "is not a signal's id" in str(result.all_events)
    assert "is not in raw_signals" in str(result.all_events)
    assert statuses(engine)[known] == "completed"
