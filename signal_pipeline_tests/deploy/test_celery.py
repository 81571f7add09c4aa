"""`deploy/celery` for real: a daemon, a Redis, two workers, and one of them killed with everything it had."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import yaml
from dagster_celery.launcher import CeleryRunLauncher
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from signal_pipeline.orchestration.run_state import CLAIM_TAG
from signal_pipeline_tests.deploy.celery_site import DEPLOY, daemon, make_site, redis, worker
from signal_pipeline_tests.deploy.processes import ROOT, Site, family
from signal_pipeline_tests.orchestration.serving import GATED_START, gate_shut
from signal_pipeline_tests.signals import change, count, insert_signals, statuses, totals, value

SIGNALS = 40
PIDS = """
    SELECT run_id, event FROM event_logs
    WHERE dagster_event_type = 'ENGINE_EVENT' AND event LIKE '%in process (pid: %'
"""
TOKENS = "SELECT run_id, value FROM run_tags WHERE key = %s"
STATUSES = "SELECT run_id, status FROM runs"


@pytest.fixture
def deployed(database_url: str, empty_database_url: str, tmp_path: Path) -> Iterator[Site]:
    """In a folder whose path is short enough for Redis' socket; the logs are kept with pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="signal_pipeline-celery-", dir="/tmp"))
    dagster = make_url(empty_database_url).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    try:
        yield make_site(
            folder,
            database_url=database_url,
            dagster_url=dagster,
            poll_seconds=5,
            # some ticks of the sensor: a shorter one would end between two of them, while a run waits or starts
            CLAIM_LEASE_SECONDS="15",
            CLAIM_BATCH_SIZE="10",
            CLAIM_MAX_ATTEMPTS="50",
        )
    finally:
        for log in folder.glob("*.log"):
            shutil.copy(log, tmp_path)
        shutil.rmtree(folder)


def ask(made: Site, query: str, *parameters: Any) -> dict[str, str]:
    """Two columns of Dagster's storage."""
    url = make_url(made.environment["DAGSTER_DATABASE_URL"]).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as conn:
        return dict(conn.execute(query, parameters or None).fetchall())


def runs_of(made: Site, process: "subprocess.Popen[bytes]") -> set[str]:
    """Runs that were started in the processes of a worker that lives."""
    mine = {member.pid for member in family(process)}
    found = {run: re.search(r"in process \(pid: (\d+)\)", event) for run, event in ask(made, PIDS).items()}
    return {run for run, pid in found.items() if pid and int(pid[1]) in mine}


def is_ready(made: Site, name: str, process: "subprocess.Popen[bytes]") -> bool:
    log = made.log(name).read_text(errors="replace")
    assert process.poll() is None, f"the worker has ended:\n{log[-3000:]}"
    return "ready." in log


def all_are_final(engine: Engine) -> bool:
    query = "SELECT bool_and(processing_status IN ('completed', 'failed')) FROM raw_signals"
    return bool(value(engine, query))


def run_at_work(made: Site, engine: Engine, process: "subprocess.Popen[bytes]") -> str | None:
    """A run of this worker that is at a signal's own work at this moment."""
    query = "SELECT count(*) FROM raw_signals WHERE claim_token = :token AND work_started_at IS NOT NULL"
    tokens = ask(made, TOKENS, CLAIM_TAG)
    at_work = (run for run in runs_of(made, process) if value(engine, query, token=UUID(tokens[run])) > 0)
    return next(at_work, None)


@pytest.mark.dagster
@pytest.mark.processes
@pytest.mark.programs
@pytest.mark.timeout(1800)
def test_two_workers_share_the_runs_and_one_that_is_killed_loses_and_repeats_nothing(
    engine: Engine, deployed: Site
) -> None:
    with redis(deployed), worker(deployed, "one") as one, worker(deployed, "two") as two, daemon(deployed):
        both = {"one": one, "two": two}.items()
        deployed.wait_until(lambda: all(is_ready(deployed, *each) for each in both), "both workers are ready")
        insert_signals(engine, SIGNALS, equipment="shared")
        deployed.wait_until(lambda: all_are_final(engine), "the signals are final")
        assert runs_of(deployed, one)
        assert runs_of(deployed, two)

        change(engine, GATED_START)
        with gate_shut(engine):
            insert_signals(engine, SIGNALS, equipment="killed")
            deployed.wait_until(lambda: run_at_work(deployed, engine, one) is not None, "the first worker is at work")
            victim = run_at_work(deployed, engine, one)
            os.killpg(one.pid, signal.SIGKILL)
        deployed.wait_until(lambda: all_are_final(engine), "the second worker has done the rest")

        def others_are_over() -> bool:
            return {s for run, s in ask(deployed, STATUSES).items() if run != victim} == {"SUCCESS"}

        deployed.wait_until(others_are_over, "all runs but the lost one are over")
        # nobody tells Dagster that a whole worker is gone: max_runtime_seconds ends this run
        assert victim is not None
        assert ask(deployed, STATUSES)[victim] == "STARTED"
    assert set(statuses(engine).values()) == {"completed"}
    assert count(engine, "features") == 3 * 2 * SIGNALS
    assert totals(engine)["features_total"] == 3 * 2 * SIGNALS
    assert value(engine, "SELECT max(attempts) FROM raw_signals") > 1


@pytest.mark.dagster
@pytest.mark.processes
@pytest.mark.programs
@pytest.mark.timeout(1800)
def test_a_redis_that_is_gone_for_a_while_fails_launches_and_loses_no_signal(engine: Engine, deployed: Site) -> None:
    with worker(deployed, "one") as one, daemon(deployed):
        with redis(deployed):
            deployed.wait_until(lambda: is_ready(deployed, "one", one), "the worker is ready")
            insert_signals(engine, 5, equipment="before")
            deployed.wait_until(lambda: all_are_final(engine), "the signals are final")
        insert_signals(engine, 5, equipment="meanwhile")
        deployed.wait_until(lambda: "FAILURE" in ask(deployed, STATUSES).values(), "a launch has failed")
        assert {s for s in statuses(engine).values() if s != "completed"} <= {"pending", "processing"}
        with redis(deployed):
            deployed.wait_until(lambda: all_are_final(engine), "the signals are final, too")
    assert set(statuses(engine).values()) == {"completed"}
    assert count(engine, "features") == 3 * 10


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_the_instance_differs_from_the_projects_own_in_launcher_and_times_only() -> None:
    own, ours = yaml.safe_load((ROOT / "dagster.yaml").read_text()), load("dagster.yaml")
    assert {key for key in own.keys() | ours.keys() if own.get(key) != ours.get(key)} == {
        "run_launcher",
        "run_monitoring",
        "concurrency",
    }


def test_daemon_and_workers_agree_and_no_task_is_handed_out_twice_while_its_run_may_last() -> None:
    """Flat, the worker's file would be read as empty: without a result, the daemon fails healthy runs."""
    launcher, worker = load("dagster.yaml")["run_launcher"]["config"], load("worker.yaml")["execution"]["config"]
    for key in ("broker", "backend"):
        assert launcher[key] == worker[key]
    for name, said in launcher["config_source"].items():
        assert worker["config_source"][name] == said
    assert worker["config_source"]["task_acks_late"] is True
    assert worker["config_source"]["worker_prefetch_multiplier"] == 1
    longest = load("dagster.yaml")["run_monitoring"]["max_runtime_seconds"]
    assert worker["config_source"]["broker_transport_options"]["visibility_timeout"] > longest


def test_the_launcher_takes_its_configuration() -> None:
    configuration = load("dagster.yaml")["run_launcher"]
    assert f"{CeleryRunLauncher.__module__}.{CeleryRunLauncher.__name__}" == ".".join(
        (configuration["module"], configuration["class"])
    )
    launcher = CeleryRunLauncher(
        default_queue="dagster",
        broker="redis+socket:///nowhere",
        backend="redis+socket:///nowhere",
        config_source=configuration["config"]["config_source"],
    )
    assert launcher.celery.conf.task_acks_late is True
