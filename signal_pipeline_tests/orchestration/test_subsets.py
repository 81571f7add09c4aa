"""Runs of some assets only: signals are borrowed under token and lease, and their status stays as it was."""

from uuid import UUID

import pytest
from dagster import DagsterInstance
from sqlalchemy import Engine, text

from signal_pipeline.orchestration import ops
from signal_pipeline_tests.orchestration.conftest import Materialize, materialized
from signal_pipeline_tests.signals import (
    change,
    count,
    expire,
    features_hash,
    insert_signals,
    recording,
    row,
    statuses,
    totals,
    value,
)

SUBSETS = [
    ["raw_signals"],
    ["features"],
    ["hourly_feature_summary"],
    ["anomaly_scores"],
    ["features", "hourly_feature_summary"],
    ["raw_signals", "anomaly_scores"],
]


def finished(engine: Engine, materialize: Materialize) -> tuple[UUID, UUID, UUID]:
    """A completed, a failed and a pending signal, all three with stored features."""
    ids = insert_signals(engine, 3)
    materialize([str(i) for i in ids])
    change(engine, "UPDATE raw_signals SET processing_status = 'pending' WHERE id = :id", id=ids[2])
    change(engine, "UPDATE raw_signals SET crc32_a = crc32_a + 1 WHERE id = :id", id=ids[1])
    materialize([str(ids[1])])
    change(engine, "UPDATE raw_signals SET crc32_a = crc32_a - 1 WHERE id = :id", id=ids[1])
    assert list(statuses(engine).values()).count("completed") == 1
    return ids[0], ids[1], ids[2]


@pytest.mark.parametrize("assets", SUBSETS, ids="+".join)
def test_any_subset_can_be_made_of_signals_in_any_state_and_leaves_the_state(
    engine: Engine, instance: DagsterInstance, materialize: Materialize, assets: list[str]
) -> None:
    keys = [str(i) for i in finished(engine, materialize)]
    before, features, counted = statuses(engine), features_hash(engine), totals(engine)
    for key in ops.PER_SIGNAL:
        instance.wipe_assets([key])
    assert materialize(keys, assets=assets).success
    assert statuses(engine) == before
    assert features_hash(engine) == features
    assert totals(engine) == counted
    assert value(engine, "SELECT count(*) FROM raw_signals WHERE claim_token IS NOT NULL") == 0
    for key in ops.PER_SIGNAL:
        assert materialized(instance, key) == (set(keys) if key.to_user_string() in assets else set())


def test_a_bad_signal_in_a_subset_fails_its_partition_and_keeps_its_status(
    engine: Engine, instance: DagsterInstance, materialize: Materialize
) -> None:
    good, _ = insert_signals(engine, 2)
    (short,) = insert_signals(engine, 1, equipment="short", phases=recording(seconds=0.5))
    for assets in (["raw_signals"], ["features"]):
        result = materialize([str(good), str(short)], assets=assets)
        assert not result.success
        assert "insufficient_data" in str(result.all_events)
        assert materialized(instance, assets[0]) == {str(good)}
    assert set(statuses(engine).values()) == {"pending"}
    assert "failure" not in row(engine, short).meta


def test_a_subset_of_a_live_workers_signal_is_refused(engine: Engine, materialize: Materialize) -> None:
    (held,) = insert_signals(engine, 1)
    change(
        engine,
        "UPDATE raw_signals SET processing_status = 'processing', claim_token = gen_random_uuid(), "
        "claimed_by = 'other-host', lease_expires_at = now() + interval '1 minute'",
    )
    before = row(engine, held)
    result = materialize([str(held)], assets=["features"])
    assert not result.success
    assert "is held by other-host until" in str(result.all_events)
    assert row(engine, held) == before
    assert count(engine, "features") == 0


def test_a_signal_of_a_dead_worker_that_was_borrowed_can_be_claimed_at_once(
    engine: Engine, materialize: Materialize
) -> None:
    (signal_id,) = insert_signals(engine, 1)
    change(
        engine,
        "UPDATE raw_signals SET processing_status = 'processing', claim_token = gen_random_uuid(), "
        "claimed_by = 'dead', lease_expires_at = now()",
    )
    expire(engine)
    assert materialize([str(signal_id)], assets=["features"]).success
    assert (row(engine, signal_id).processing_status, row(engine, signal_id).is_live) == ("processing", False)


@pytest.mark.parametrize("asset", ["raw_signals", "features"])
def test_one_asset_of_a_pending_signal_is_made_without_changing_its_status(
    engine: Engine, instance: DagsterInstance, materialize: Materialize, asset: str
) -> None:
    keys = [str(i) for i in insert_signals(engine, 2)]
    assert materialize(keys, assets=[asset]).success
    assert set(statuses(engine).values()) == {"pending"}
    assert materialized(instance, asset) == set(keys)
    assert materialized(instance, "anomaly_scores") == set()
    with engine.connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM raw_signals WHERE claim_token IS NOT NULL")).scalar_one() == 0


@pytest.mark.parametrize("asset", ["hourly_feature_summary", "anomaly_scores"])
def test_an_asset_whose_inputs_are_not_stored_fails_and_says_so(
    engine: Engine, materialize: Materialize, asset: str
) -> None:
    keys = [str(i) for i in insert_signals(engine, 1)]
    result = materialize(keys, assets=[asset])
    assert not result.success
    assert "materialize `features` first" in str(result.all_events)
    assert set(statuses(engine).values()) == {"pending"}


def test_the_hourly_summary_alone_is_recomputed_from_stored_features(engine: Engine, materialize: Materialize) -> None:
    keys = [str(i) for i in insert_signals(engine, 2)]
    materialize(keys)
    with engine.begin() as conn:
        conn.execute(text("UPDATE hourly_feature_summary SET rms_a_mean = 0, windows = 0"))
    assert materialize(keys, assets=["hourly_feature_summary"]).success
    with engine.connect() as conn:
        assert conn.execute(text("SELECT min(windows), min(rms_a_mean) > 7 FROM hourly_feature_summary")).one() == (
            3,
            True,
        )
