"""Models in Dagster: training as an asset, the passes over stored features as jobs."""

from pathlib import Path

import pytest
from dagster import AssetKey, DagsterInstance, Definitions
from sqlalchemy import Engine, text

from signal_pipeline.db.claims import claim_pending
from signal_pipeline.orchestration.build import build_definitions
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ModelSettings, Settings
from signal_pipeline_tests.signals import count, insert_signals, recording


@pytest.fixture
def model_definitions(engine: Engine, tmp_path: Path) -> Definitions:
    """Definitions whose models live in the test's folder, with twelve processed recordings of 10 s in the database."""
    settings = Settings(models=ModelSettings(models_dir=tmp_path / "models"))
    worker = Worker(engine, settings, "t")
    for i in range(12):
        insert_signals(engine, 1, equipment=f"pump-{i}", phases=recording(seconds=10, seed=i))
    with engine.begin() as conn:
        conn.execute(text("UPDATE raw_signals SET equipment_id = (SELECT id FROM equipment WHERE name = 'pump-0')"))
        conn.execute(
            text(
                "UPDATE raw_signals SET recorded_at = timestamptz '2025-08-25' + n * interval '1 minute' "
                "FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM raw_signals) AS w "
                "WHERE w.id = raw_signals.id"
            )
        )
        conn.execute(text("DELETE FROM equipment WHERE name <> 'pump-0'"))
    (claim,) = claim_pending(engine, settings=settings.claims, claimed_by="t").claims
    run_batch(worker, Batch(claim.token, claim.signal_ids))
    return build_definitions(settings, make_worker=lambda name: Worker(engine, settings, name))


def test_training_and_the_passes_over_stored_features_run_as_a_person_starts_them(
    engine: Engine, instance: DagsterInstance, model_definitions: Definitions
) -> None:
    train = model_definitions.resolve_implicit_global_asset_job_def()
    trained = train.execute_in_process(instance=instance, asset_selection=[AssetKey("anomaly_model")])
    assert trained.success
    (event,) = trained.get_asset_materialization_events()
    assert event.materialization.metadata["windows"].value == {"pump-0": 12 * 19}
    detected = model_definitions.resolve_job_def("detect_anomalies").execute_in_process(instance=instance)
    assert detected.success
    assert count(engine, "anomaly_scores") == 12 * 19
    (event,) = detected.get_asset_materialization_events()
    assert event.asset_key == AssetKey("detected_anomalies")
    told = {name: one.value for name, one in event.materialization.metadata.items()}
    assert told["windows"] == 12 * 19
    assert told["equipment"] == {"pump-0": {"windows": 12 * 19, "anomalous": told["anomalous"]}}
    config = {"ops": {"rescore_op": {"config": {"equipment": ["pump-0"]}}}}
    replayed = model_definitions.resolve_job_def("rescore_equipment").execute_in_process(config, instance=instance)
    assert replayed.success
    assert count(engine, "anomaly_scores") == 2 * 12 * 19


def test_the_pass_without_a_model_fails_and_says_what_to_do(
    instance: DagsterInstance, model_definitions: Definitions
) -> None:
    job = model_definitions.resolve_job_def("detect_anomalies")
    failed = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not failed.success
    assert "run `signal-pipeline train` first" in str(failed.all_events)


def test_training_on_nothing_fails_and_says_why(instance: DagsterInstance, model_definitions: Definitions) -> None:
    config = {"ops": {"anomaly_model": {"config": {"start": "2031-01-01"}}}}
    job = model_definitions.resolve_implicit_global_asset_job_def()
    failed = job.execute_in_process(
        config, instance=instance, asset_selection=[AssetKey("anomaly_model")], raise_on_error=False
    )
    assert not failed.success
    assert "nothing to train on" in str(failed.all_events)
