"""The daemon, the UI's API and real run processes: sensor runs, a person's runs, backfills, a cancelled run.

One server for the module, and signals that its sensor has processed before the first test. Each test has its own, so
that the tests' order does not matter.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

import numpy as np
import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from signal_pipeline.cli.environment import Surroundings
from signal_pipeline.cli.server import dagster_server
from signal_pipeline.db.engine import create_engine
from signal_pipeline.orchestration.ops import PER_SIGNAL
from signal_pipeline.settings import AppSettings, DatabaseSettings, ModelSettings, Settings
from signal_pipeline_tests.orchestration.serving import GATED_START, Ui, database, free_port, gate_shut, wait_until
from signal_pipeline_tests.signals import failures, insert_signals, recording, row, value

pytestmark = pytest.mark.dagster

BATCH = 10
LEASE_SECONDS = 15
"""Some ticks of the sensor: a shorter lease would end between two of them, while a run waits or starts."""

INTERRUPT_SECONDS = 3
"""Dagster answers before the interrupt has reached the run; were the gate open by then, signals would be completed."""

ASSETS = [key.to_user_string() for key in PER_SIGNAL]


class Signals(NamedTuple):
    good: list[UUID]
    bad: list[UUID]


@pytest.fixture(scope="module")
def ui(server_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The server with its UI; afterwards none of its processes is left."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, database(server_url, template_database) as url:
        patch.setenv("CLAIM_BATCH_SIZE", str(BATCH))
        patch.setenv("CLAIM_LEASE_SECONDS", str(LEASE_SECONDS))
        with database(server_url) as dagster_url:
            settings = Settings(
                app=AppSettings(signal_pipeline_home=home),
                database=DatabaseSettings(dagster_database_url=SecretStr(dagster_url)),
                models=ModelSettings(models_dir=home / "models"),
            )
            engine = create_engine(url, settings.database)
            with engine.begin() as conn:
                conn.execute(text(GATED_START))
            here = Surroundings(settings, url, engine, embedded=False)
            with dagster_server(here, port=free_port(), quiet=True) as server:
                server.wait_until_ready()
                yield Ui(server.url, engine)
                family = psutil.Process(server.process.pid).children(recursive=True)
            assert len(family) > 2
            assert [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
            engine.dispose()


def insert(ui: Ui, name: str, *, good: int, bad: int = 0) -> Signals:
    infinite = np.full((3, 2000), np.inf, dtype=np.float32)
    return Signals(
        insert_signals(ui.engine, good, equipment=name, phases=recording(seconds=1.5), file_name=name),
        insert_signals(ui.engine, bad, equipment=f"{name}-bad", phases=infinite) if bad else [],
    )


def is_final(ui: Ui, ids: list[UUID]) -> bool:
    query = "SELECT bool_and(processing_status IN ('completed', 'failed')) FROM raw_signals WHERE id = ANY(:ids)"
    return bool(value(ui.engine, query, ids=ids))


def wait_for_runs(ui: Ui) -> None:
    wait_until(lambda: not ui.runs("QUEUED", "NOT_STARTED", "STARTING", "STARTED"))


def process(ui: Ui, ids: list[UUID]) -> None:
    """Let the sensor do it, and wait until its runs have ended, too."""
    wait_until(lambda: is_final(ui, ids))
    wait_for_runs(ui)


@pytest.fixture
def idle(ui: Ui) -> None:
    """The sensor has nothing left of what earlier tests put there, so that the next run is this test's."""
    unfinished = "SELECT count(*) FROM raw_signals WHERE processing_status IN ('pending', 'processing')"
    wait_until(lambda: not value(ui.engine, unfinished))
    wait_for_runs(ui)


def assert_partitions(ui: Ui, materialized: list[UUID], failed: list[UUID], assets: list[str] = ASSETS) -> None:
    """Of these signals, exactly those are shown as materialized and as failed, for each asset."""
    asked = {str(i) for i in (*materialized, *failed)}
    for asset in assets:
        good, bad = ui.partitions(asset)
        assert (good & asked, bad & asked) == ({str(i) for i in materialized}, {str(i) for i in failed}), asset


@pytest.fixture(scope="module")
def processed(ui: Ui) -> dict[str, Signals]:
    """More than two batches of signals that the sensor found pending and has processed."""
    found = {
        "again": insert(ui, "again", good=2, bad=1),
        "sensor": insert(ui, "sensor", good=12, bad=3),
        "done": insert(ui, "done", good=1),
        "backfill": insert(ui, "backfill", good=7, bad=2),
    }
    process(ui, [i for signals in found.values() for i in (*signals.good, *signals.bad)])
    return found


def test_the_sensor_processes_what_is_pending_and_exactly_the_failed_signals_are_failed_partitions(
    ui: Ui, processed: dict[str, Signals]
) -> None:
    good, bad = processed["sensor"]
    assert {i: r for i, r in failures(ui.engine).items() if i in bad} == dict.fromkeys(bad, "validation_failed")
    assert {row(ui.engine, i).processing_status for i in good} == {"completed"}
    assert_partitions(ui, good, bad)


def test_a_person_materializes_a_completed_signal_and_one_asset_of_a_pending_one(
    ui: Ui, processed: dict[str, Signals]
) -> None:
    (done,) = processed["done"].good
    first = row(ui.engine, done).finalized_at
    with ui.sensor_off():
        (pending,) = insert(ui, "pending", good=1).good
        ui.add_key(str(pending))
        whole = ui.materialize(str(done), ASSETS, job="__ASSET_JOB")
        features_only = ui.materialize(str(pending), ["features"])
        assert [ui.finished(whole), ui.finished(features_only)] == ["SUCCESS", "SUCCESS"]
        assert row(ui.engine, done).processing_status == "completed"
        assert row(ui.engine, done).finalized_at > first
        assert row(ui.engine, pending).processing_status == "pending"
        assert_partitions(ui, [done, pending], [], ["features"])
        assert str(pending) not in ui.partitions("raw_signals")[0]


def test_a_backfill_of_pending_completed_and_failed_signals_is_cut_into_runs(
    ui: Ui, processed: dict[str, Signals]
) -> None:
    completed, failed = processed["backfill"]
    with ui.sensor_off():
        pending, bad = insert(ui, "backfill-pending", good=3, bad=1)
        for signal_id in (*pending, *bad):
            ui.add_key(str(signal_id))
        keys = [str(i) for i in (*completed, *failed, *pending, *bad)]
        status, runs = ui.finished_backfill(ui.backfill(keys, ASSETS))
    assert (len(keys), BATCH) == (13, 10)
    assert (status, len(runs)) == ("COMPLETED_FAILED", 2)
    assert {row(ui.engine, i).processing_status for i in (*completed, *pending)} == {"completed"}
    assert {row(ui.engine, i).processing_status for i in (*failed, *bad)} == {"failed"}
    assert_partitions(ui, [*completed, *pending], [*failed, *bad])


def test_a_failed_run_can_be_executed_again_whole_but_not_from_its_failed_step(
    ui: Ui, processed: dict[str, Signals]
) -> None:
    """The steps of a run share a claim, which ended with the run; the first batch holds these three and others."""
    good, bad = processed["again"]
    failed_run = next(run for run in ui.runs("FAILURE") if str(bad[0]) in ui.errors(run))
    finalized = row(ui.engine, good[0]).finalized_at
    whole, from_failure = (ui.execute_again(failed_run, how) for how in ("ALL_STEPS", "FROM_FAILURE"))
    assert [ui.finished(whole), ui.finished(from_failure)] == ["FAILURE", "FAILURE"]
    assert "Cannot perform reexecution with in-memory io managers" in ui.errors(from_failure)
    assert f"1 of {BATCH} signals failed" in ui.errors(whole)
    assert row(ui.engine, good[0]).finalized_at > finalized
    assert_partitions(ui, good, bad)


@pytest.mark.usefixtures("idle")
def test_signals_of_a_run_that_is_terminated_are_cancelled_and_start_no_other(ui: Ui) -> None:
    with gate_shut(ui.engine) as is_reached:
        ids = insert(ui, "terminated", good=BATCH).good
        wait_until(is_reached)
        (run_id,) = ui.runs("STARTED")
        ui.terminate(run_id)
        time.sleep(INTERRUPT_SECONDS)
    assert ui.finished(run_id) == "CANCELED"
    wait_until(lambda: is_final(ui, ids))
    assert {i: r for i, r in failures(ui.engine).items() if i in ids} == dict.fromkeys(ids, "cancelled")
    assert not ui.runs("QUEUED", "NOT_STARTED", "STARTING", "STARTED")


@pytest.mark.usefixtures("idle")
def test_signals_of_a_run_that_was_killed_are_processed_by_the_next(ui: Ui) -> None:
    with gate_shut(ui.engine) as is_reached:
        ids = insert_signals(ui.engine, 4, equipment="killed")
        wait_until(is_reached)
        (run_id,) = ui.runs("STARTED")
        psutil.Process(ui.pid(run_id)).kill()
    assert ui.finished(run_id) == "FAILURE"
    process(ui, ids)
    assert {row(ui.engine, i).processing_status for i in ids} == {"completed"}
    assert value(ui.engine, "SELECT max(attempts) FROM raw_signals WHERE id = ANY(:ids)", ids=ids) == 2
    assert_partitions(ui, ids, [])
