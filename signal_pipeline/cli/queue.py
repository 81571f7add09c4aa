"""Working on the queue by hand: `process`, `retry`, `partitions add`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import UUID

import typer
from dagster import DagsterInstance
from sqlalchemy import text

from signal_pipeline.cli.console import err, fail, out, print_json, readable_errors
from signal_pipeline.cli.environment import Surroundings, prepare_dagster, surroundings
from signal_pipeline.cli.watch import AsJson, status_table
from signal_pipeline.db.claims import retry_failed
from signal_pipeline.domain import FailureReason
from signal_pipeline.errors import SettingsError
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.observability.status import read_status
from signal_pipeline.orchestration.build import build_definitions
from signal_pipeline.orchestration.drain import drain
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.partitions import place_keys
from signal_pipeline.orchestration.resources import instance_name
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import load_settings

KNOWN = text("SELECT id FROM raw_signals WHERE id = ANY(:ids)")


@contextmanager
def dagster_instance(here: Surroundings) -> Iterator[DagsterInstance]:
    """The instance that the daemon and the UI use, in this process."""
    prepare_dagster(here)
    os.environ.update({"DAGSTER_DATABASE_URL": here.dagster_url, "DAGSTER_HOME": str(here.dagster_home)})
    with DagsterInstance.get() as instance:
        yield instance


def process(
    wait: Annotated[bool, typer.Option(help="Also wait for signals that live workers hold.")] = False,
    as_json: AsJson = False,
) -> None:
    """Process what is pending or expired, through the same Dagster job but without the daemon; then end."""
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings) as here, dagster_instance(here) as instance:
            # Not a part of the instance's own name: the sensor must not take these claims for its own.
            name = f"process/{instance_name(instance)}:{os.getpid()}"
            worker = Worker(here.engine, settings, name)
            definitions = build_definitions(settings, make_worker=lambda _: worker)
            job = definitions.resolve_job_def(PROCESS_SIGNALS)
            processed = drain(job, instance, worker, wait=wait, on_batch=lambda n: err.print(f"{n} signals done"))
            found = read_status(here.engine)
    if as_json:
        print_json({"processed": processed} | found.as_dict())
    else:
        out.print(f"{processed} signals went through this process")
        out.print(status_table(found))


def retry(
    failed: Annotated[bool, typer.Option("--failed", help="All failed signals.")] = False,
    reason: Annotated[FailureReason | None, typer.Option(help="Only those that failed for this reason.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put failed signals back into the queue."""
    if not failed:
        fail("say --failed: it puts every failed signal (of --reason, if given) back into the queue", code=2)
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings) as here:
            ids = retry_failed(here.engine, reason=reason)
    if as_json:
        print_json({"pending_again": [str(i) for i in ids]})
    else:
        out.print(f"{len(ids)} signals are pending again")


partitions_app = typer.Typer(no_args_is_help=True, help="Dagster's partitions: one a signal.")


@partitions_app.command("add")
def add_partitions(signal_ids: Annotated[list[UUID], typer.Argument(metavar="ID…")]) -> None:
    """Make signals partitions (again), so that they can be materialized in the UI."""
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings) as here, dagster_instance(here) as instance:
            with here.engine.connect() as conn:
                known = set(conn.execute(KNOWN, {"ids": signal_ids}).scalars())
            unknown = [str(i) for i in signal_ids if i not in known]
            if unknown:
                raise SettingsError(f"not in raw_signals: {', '.join(unknown)}; no partition was added")
            place_keys(instance, here.engine, signal_ids)
    out.print(f"{len(signal_ids)} partitions are there")
