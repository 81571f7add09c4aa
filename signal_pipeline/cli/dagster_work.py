"""What commands do through Dagster in their own process: draining the queue, adding partitions, running a job."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from dagster import DagsterInstance, ExecuteInProcessResult
from sqlalchemy import text

from signal_pipeline.cli.environment import Surroundings, prepare_dagster
from signal_pipeline.errors import SettingsError
from signal_pipeline.orchestration.build import build_definitions
from signal_pipeline.orchestration.drain import QUIET, drain, stop_if_interrupted
from signal_pipeline.orchestration.identity import instance_name
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.partitions import place_keys
from signal_pipeline.orchestration.recompute import find_outdated, recompute
from signal_pipeline.processing.worker import Worker

KNOWN = text("SELECT id FROM raw_signals WHERE id = ANY(:ids)")


@contextmanager
def dagster_instance(here: Surroundings) -> Iterator[DagsterInstance]:
    """The instance that the daemon and the UI use, in this process."""
    prepare_dagster(here)
    wanted = ("DAGSTER_DATABASE_URL", "DAGSTER_HOME")
    os.environ.update({name: value for name, value in here.environment().items() if name in wanted})
    with DagsterInstance.get() as instance:
        yield instance


def drain_queue(here: Surroundings, *, wait: bool, on_batch: Callable[[int], None]) -> int:
    """Process what is pending or expired through the daemon's own job; returns how many signals went through."""
    with dagster_instance(here) as instance:
        # Not a part of the instance's own name: the sensor must not take these claims for its own.
        worker = Worker(here.engine, here.settings, f"process/{instance_name(instance)}:{os.getpid()}")
        definitions = build_definitions(here.settings, make_worker=lambda _: worker)
        return drain(definitions.resolve_job_def(PROCESS_SIGNALS), instance, worker, wait=wait, on_batch=on_batch)


def recompute_outdated(
    here: Surroundings, *, equipment: Sequence[str], on_batch: Callable[[int], None]
) -> tuple[int, int]:
    """Compute again what another version computed; how many signals were asked for, and how many came through."""
    with dagster_instance(here) as instance:
        worker = Worker(here.engine, here.settings, f"recompute/{instance_name(instance)}:{os.getpid()}")
        signals = find_outdated(worker, equipment=equipment)
        definitions = build_definitions(here.settings, make_worker=lambda _: worker)
        job = definitions.resolve_job_def(PROCESS_SIGNALS)
        return len(signals), recompute(job, instance, worker, signals, on_batch=on_batch)


def run_job(here: Surroundings, worker: Worker, job: str, config: dict[str, Any]) -> ExecuteInProcessResult:
    """Run a job of Dagster's in this process: its results and pictures stand in the UI like any other run's.

    Raises `KeyboardInterrupt` if it was stopped; whether it succeeded stands in the result.
    """
    definitions = build_definitions(here.settings, make_worker=lambda _: worker)
    with dagster_instance(here) as instance:
        found = definitions.resolve_job_def(job).execute_in_process(
            QUIET | config, instance=instance, raise_on_error=False
        )
    stop_if_interrupted(found)
    return found


def run_checks(here: Surroundings, worker: Worker) -> dict[str, bool]:
    """Execute every asset check once, so that the UI shows what they find; by name, whether it passed."""
    found = run_job(here, worker, "check_data", {})
    return {one.check_name: one.passed for one in found.get_asset_check_evaluations()}


def add_keys(here: Surroundings, signal_ids: Sequence[UUID]) -> None:
    """Make signals partitions. Raises `SettingsError` naming those that do not exist; then none is added."""
    with here.engine.connect() as conn:
        known = set(conn.execute(KNOWN, {"ids": list(signal_ids)}).scalars())
    unknown = [str(i) for i in signal_ids if i not in known]
    if unknown:
        raise SettingsError(f"not in raw_signals: {', '.join(unknown)}; no partition was added")
    with dagster_instance(here) as instance:
        place_keys(instance, here.engine, signal_ids)
