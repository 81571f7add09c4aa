"""Asset checks: each passes on what the pipeline wrote, and fails on the one thing that it is there to find."""

from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    DagsterInstance,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    Definitions,
    ExecuteInProcessResult,
)
from sqlalchemy import Engine, TextClause, text

from signal_pipeline.db import quality, queue
from signal_pipeline.db.claims import claim_pending
from signal_pipeline.orchestration.checks import CHECKS, chance_of
from signal_pipeline.orchestration.ops import PER_SIGNAL
from signal_pipeline.orchestration.partitions import PARTITIONS_NAME
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.training import train
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ModelSettings, Settings, ViewSettings
from signal_pipeline_tests.signals import change, insert_signals, recording

NAMES = {key.name for check in CHECKS for key in check.check_keys}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(view=ViewSettings(pictures_per_run=0), models=ModelSettings(models_dir=tmp_path / "models"))


def process(engine: Engine, worker: Worker, n: int) -> None:
    (claim,) = claim_pending(engine, settings=worker.settings.claims, claimed_by="t", limit=n).claims
    run_batch(worker, Batch(claim.token, claim.signal_ids))


@pytest.fixture
def processed(engine: Engine, worker: Worker) -> None:
    """Three short recordings, an hour apart."""
    insert_signals(engine, 3, equipment="pump-1")
    process(engine, worker, 3)


@pytest.fixture
def trained(engine: Engine, worker: Worker) -> None:
    """Twelve recordings, the first nine of which a model was trained on; the last three went through its stream."""
    insert_signals(engine, 12, phases=recording(seconds=10), equipment="pump-1")
    process(engine, worker, 9)
    train(worker)
    process(engine, worker, 3)


def verdicts(definitions: Definitions, instance: DagsterInstance) -> dict[str, AssetCheckEvaluation]:
    """What the scheduled job finds."""
    result = definitions.resolve_job_def("check_data").execute_in_process(instance=instance, raise_on_error=False)
    return by_name(result)


def by_name(result: ExecuteInProcessResult) -> dict[str, AssetCheckEvaluation]:
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


def failed(found: dict[str, AssetCheckEvaluation]) -> set[str]:
    return {name for name, one in found.items() if not one.passed}


def shown(one: AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in one.metadata.items()}


def test_all_checks_pass_on_an_empty_database(definitions: Definitions, instance: DagsterInstance) -> None:
    found = verdicts(definitions, instance)
    assert (set(found), failed(found)) == (NAMES, set())


@pytest.mark.usefixtures("processed")
def test_all_checks_pass_on_what_the_pipeline_wrote(definitions: Definitions, instance: DagsterInstance) -> None:
    found = verdicts(definitions, instance)
    assert failed(found) == set()
    assert shown(found["features_are_complete"])["windows_stored"] == 3 * 3
    assert shown(found["hours_equal_recomputation"])["hours"] == 3


SPOILED = {
    "few_signals_fail": """
        INSERT INTO raw_signals (equipment_id, processing_status, finalized_at, meta)
        SELECT id, 'failed', now(), '{"failure": {"reason": "csv_error"}}' FROM equipment""",
    "every_equipment_sends": "UPDATE raw_signals SET created_at = now() - interval '25 hours'",
    "the_queue_moves": """
        INSERT INTO raw_signals (equipment_id, created_at) SELECT id, now() - interval '61 minutes' FROM equipment""",
    "no_lease_is_stuck": """
        UPDATE raw_signals SET claim_token = gen_random_uuid(), claimed_by = 'gone',
                               lease_expires_at = now() - interval '6 minutes'""",
    "features_are_complete": "DELETE FROM features WHERE id = (SELECT min(id) FROM features)",
    "hours_equal_recomputation": """
        UPDATE hourly_feature_summary SET rms_b_mean = rms_b_mean * 1.001
        WHERE hour_start = (SELECT max(hour_start) FROM hourly_feature_summary)""",
    "no_drift_is_waiting": """
        INSERT INTO reference_proposals (equipment_id, model_kind, model_version, evidence)
        SELECT id, 'stream', '1', '{"windows": 9}' FROM equipment""",
}
ERRORS = {"no_lease_is_stuck", "features_are_complete", "hours_equal_recomputation"}


TOO_MANY_EVENTS = """
    INSERT INTO anomaly_events (equipment_id, model_kind, model_version, started_at, ended_at, raised_at,
                                peak_score, peak_at, threshold, windows, is_open, features)
    SELECT equipment_id, model_kind, model_version, now() - n * interval '1 hour', now(), now(), 9, now(), 1, 5,
           false, '[]' FROM anomaly_states, generate_series(1, 20) AS n WHERE model_kind = 'stream'
"""


@pytest.mark.usefixtures("processed")
def test_a_recording_of_the_future_hides_no_silence_and_makes_none(
    engine: Engine, definitions: Definitions, instance: DagsterInstance
) -> None:
    latest = "(SELECT id FROM raw_signals ORDER BY recorded_at LIMIT 1)"
    change(
        engine,
        "UPDATE raw_signals SET recorded_at = '2099-01-01', created_at = now() - interval '25 hours' "
        f"WHERE id = {latest}",
    )
    assert verdicts(definitions, instance)["every_equipment_sends"].passed
    change(engine, "UPDATE raw_signals SET created_at = now() - interval '25 hours'")
    change(engine, f"UPDATE raw_signals SET created_at = '2099-01-01' WHERE id = {latest}")
    assert not verdicts(definitions, instance)["every_equipment_sends"].passed


def test_every_check_has_something_to_find_here() -> None:
    assert {*SPOILED, "alarms_are_as_rare_as_asked"} == NAMES


@pytest.mark.usefixtures("trained")
def test_more_events_than_were_asked_for_are_found(
    engine: Engine, definitions: Definitions, instance: DagsterInstance
) -> None:
    before = verdicts(definitions, instance)
    assert failed(before) == set()
    assert shown(before["alarms_are_as_rare_as_asked"])["windows"] == 3 * 19
    change(engine, TOO_MANY_EVENTS)
    after = verdicts(definitions, instance)
    assert failed(after) == {"alarms_are_as_rare_as_asked"}
    assert shown(after["alarms_are_as_rare_as_asked"])["above_the_asked_rate"] == 1


@pytest.mark.usefixtures("processed")
@pytest.mark.parametrize("name", SPOILED)
def test_a_check_finds_what_it_is_there_for(
    engine: Engine, definitions: Definitions, instance: DagsterInstance, name: str
) -> None:
    assert change(engine, SPOILED[name]) > 0
    found = verdicts(definitions, instance)
    assert name in failed(found)
    # A missing window also changes its hour; nothing else is dragged along.
    assert failed(found) <= {name, *({"hours_equal_recomputation"} if name == "features_are_complete" else ())}
    assert found[name].severity is (AssetCheckSeverity.ERROR if name in ERRORS else AssetCheckSeverity.WARN)
    assert shown(found[name])


@pytest.mark.usefixtures("processed")
def test_half_of_the_signals_failing_is_an_error_and_cancelled_ones_do_not_count(
    engine: Engine, definitions: Definitions, instance: DagsterInstance
) -> None:
    for reason in ("cancelled", "internal_error"):
        change(
            engine,
            "INSERT INTO raw_signals (equipment_id, processing_status, finalized_at, meta) "
            "SELECT id, 'failed', now(), CAST(:meta AS jsonb) "
            "FROM equipment, generate_series(1, 3)",
            meta=f'{{"failure": {{"reason": "{reason}"}}}}',
        )
        one = verdicts(definitions, instance)["few_signals_fail"]
        assert one.passed is (reason == "cancelled")
    assert one.severity is AssetCheckSeverity.ERROR
    assert shown(one)["internal_error"] == 3


@pytest.mark.usefixtures("trained")
def test_incomplete_features_keep_a_model_from_being_trained(
    engine: Engine, definitions: Definitions, instance: DagsterInstance
) -> None:
    job = definitions.resolve_job_def("train_model")
    assert job.execute_in_process(instance=instance).asset_materializations_for_node("anomaly_model")
    change(engine, SPOILED["features_are_complete"])
    blocked = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not blocked.success
    assert failed(by_name(blocked)) == {"features_are_complete"}
    assert not [e for e in blocked.get_asset_materialization_events() if e.asset_key == AssetKey("anomaly_model")]


@pytest.mark.usefixtures("processed")
def test_hours_that_are_not_what_their_features_give_keep_forecasts_from_being_issued(
    engine: Engine, definitions: Definitions, instance: DagsterInstance
) -> None:
    job = definitions.resolve_job_def("forecast_hours")
    assert job.execute_in_process(instance=instance).success
    change(engine, SPOILED["hours_equal_recomputation"])
    blocked = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not blocked.success
    assert not blocked.get_asset_materialization_events()


def test_a_person_who_materializes_a_partition_gets_it_and_the_checks_stay_with_their_job(
    engine: Engine, definitions: Definitions, instance: DagsterInstance
) -> None:
    """As the UI does by default: the checks are part of the run, but wait for outputs that the ops never yield."""
    (signal_id,) = insert_signals(engine, 1)
    instance.add_dynamic_partitions(PARTITIONS_NAME, [str(signal_id)])
    done = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=list(PER_SIGNAL), partition_key=str(signal_id)
    )
    assert done.success
    assert {event.asset_key for event in done.get_asset_materialization_events()} == set(PER_SIGNAL)
    assert by_name(done) == {}


def test_no_check_runs_with_the_batches_of_the_sensor(definitions: Definitions) -> None:
    job = definitions.resolve_job_def("process_signals")
    assert {node.name for node in job.graph.nodes} == {"signals"}


def test_the_chance_of_many_events_is_that_of_poisson() -> None:
    assert chance_of(0, expected=3.0) == 1.0
    assert chance_of(1, expected=0.5) == pytest.approx(0.3934693)
    assert chance_of(10, expected=2.0) == pytest.approx(4.6498e-5, rel=1e-4)
    assert chance_of(1, expected=0.0) == 0.0


def test_everything_that_runs_is_described_and_what_runs_by_itself_says_why(definitions: Definitions) -> None:
    repository = definitions.get_repository_def()
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    assert len(jobs) >= 6
    assert all(len(job.description or "") > 30 for job in jobs)
    schedules = {schedule.name: schedule for schedule in repository.schedule_defs}
    assert {s.default_status for s in schedules.values()} == {DefaultScheduleStatus.RUNNING}
    assert {s.default_status for s in repository.sensor_defs} == {DefaultSensorStatus.RUNNING}
    reasons = [schedule.description for schedule in schedules.values()]
    reasons += [sensor.description for sensor in repository.sensor_defs]
    assert len(reasons) >= 3
    assert [reason for reason in reasons if "On by default" not in (reason or "")] == []


@pytest.mark.usefixtures("processed")
def test_no_question_reads_a_whole_table(engine: Engine) -> None:
    """With sequential scans made expensive, none is left but of small tables and of samples."""
    asked: dict[TextClause, dict[str, Any]] = {
        quality.LATEST: {"n": 1000},
        quality.COMPLETENESS: {"n": 200},
        quality.RECOMPUTED: {"equipment": 12, "hours": 24, "percent": 1.0},
        queue.ARRIVALS: {"n": None},
        queue.QUEUE: {},
        queue.EXPIRED_HOLDERS: {"seconds": 300},
    }
    with engine.connect() as conn:
        conn.execute(text("SET LOCAL enable_seqscan = off"))
        for query, parameters in asked.items():
            rows = conn.execute(text(f"EXPLAIN {query.text}"), parameters).scalars()
            plan = "\n".join(rows)
            assert "Seq Scan on raw_signals" not in plan, plan
            assert "Seq Scan on features" not in plan, plan
            assert "Seq Scan on hourly_feature_summary" not in plan, plan
