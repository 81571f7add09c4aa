"""Working on the queue by hand: `process`, `retry`, `recompute`, `partitions add`.

What needs Dagster stands in `dagster_work`, imported by the commands that use it: it takes seconds to import.
"""

from typing import Annotated
from uuid import UUID

import typer

from signal_pipeline.cli.console import err, fail, out, print_json, readable_errors
from signal_pipeline.cli.environment import surroundings
from signal_pipeline.cli.watch import AsJson, models_of, status_table
from signal_pipeline.counted import counted
from signal_pipeline.db.claims import retry_failed
from signal_pipeline.domain import FailureReason
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.observability.status import read_status
from signal_pipeline.settings import load_settings
from signal_pipeline.uncollected import uncollected

# as a sentence, because a terminal breaks a list of choices in the middle of their names
REASON_HELP = f"Only those that failed for this reason: {', '.join(FailureReason)}."


def process(
    wait: Annotated[bool, typer.Option(help="Also wait for signals that live workers hold.")] = False,
    as_json: AsJson = False,
) -> None:
    """Process what is pending or expired, through the same Dagster job but without the daemon; then end."""
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings, create=False) as here:
            with uncollected():
                from signal_pipeline.cli.dagster_work import drain_queue

            processed = drain_queue(here, wait=wait, on_batch=lambda n: err.print(f"{counted(n, 'signal')} done"))
            found = read_status(here.engine)
        refused = {kind: model.refused for kind, model in models_of(settings).items() if model and model.refused}
    if as_json:
        print_json({"processed": processed} | found.as_dict() | {"models_refused": refused})
    else:
        out.print(f"{counted(processed, 'signal')} went through this process")
        out.print(status_table(found))
    for kind, why in refused.items():
        err.print(f"nothing came of model {kind}, which is refused: {why}", markup=False, soft_wrap=True)


def retry(
    failed: Annotated[bool, typer.Option("--failed", help="All failed signals.")] = False,
    reason: Annotated[FailureReason | None, typer.Option(metavar="REASON", help=REASON_HELP)] = None,
    as_json: AsJson = False,
) -> None:
    """Put failed signals back into the queue."""
    if not failed:
        fail("say --failed: it puts every failed signal (of --reason, if given) back into the queue", code=2)
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings, create=False) as here:
            ids = retry_failed(here.engine, reason=reason)
    if as_json:
        print_json({"pending_again": [str(i) for i in ids]})
    else:
        out.print(f"{counted(len(ids), 'signal is', 'signals are')} pending again")


def recompute(
    equipment: Annotated[list[str] | None, typer.Option(help="Only this equipment; again for more.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compute completed signals again whose features are of another version: other windows, or older code."""
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings, create=False) as here:
            with uncollected():
                from signal_pipeline.cli.dagster_work import recompute_outdated

            asked, computed = recompute_outdated(
                here, equipment=equipment or [], on_batch=lambda n: err.print(f"{counted(n, 'signal')} done")
            )
    if as_json:
        print_json({"outdated": asked, "recomputed": computed})
    else:
        out.print(f"{computed} of {asked} outdated signals were computed again")
    if computed < asked:
        err.print("the others keep what they had; signal-pipeline status says why they failed")
        raise typer.Exit(1)


partitions_app = typer.Typer(no_args_is_help=True, help="Dagster's partitions: one a signal.")


@partitions_app.command("add")
def add_partitions(signal_ids: Annotated[list[UUID], typer.Argument(metavar="ID…")]) -> None:
    """Make signals partitions (again), so that they can be materialized in the UI."""
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings, create=False) as here:
            with uncollected():
                from signal_pipeline.cli.dagster_work import add_keys

            add_keys(here, signal_ids)
    many = "partitions are"
    out.print(f"{counted(len(signal_ids), 'partition is', many)} there")
