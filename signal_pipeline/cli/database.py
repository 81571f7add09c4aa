"""`signal-pipeline db`: migrations, and any other program against the same database."""

import subprocess
from typing import Annotated

import typer

from signal_pipeline.cli.console import out, readable_errors
from signal_pipeline.cli.environment import surroundings
from signal_pipeline.db import migrate
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.settings import load_settings

database_app = typer.Typer(no_args_is_help=True, help="The database: migrate it, use it.")


@database_app.command()
def upgrade() -> None:
    """Bring the schema up to what the code needs."""
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings, migrated=False) as here:
            migrate.upgrade(here.url)
    out.print(f"the database is at migration {migrate.head_revision()}")


@database_app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(command: Annotated[list[str], typer.Argument(help="The command and its arguments, after --")]) -> None:
    """Run COMMAND with DATABASE_URL set, while the database is up.

    `signal-pipeline db run -- sh -c 'psql "$DATABASE_URL"'`; the URL has the plain `postgresql://` form.
    """
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings) as here:
            environment = here.environment() | {
                "DATABASE_URL": here.url.replace("postgresql+psycopg://", "postgresql://")
            }
            finished = subprocess.run(command, env=environment, check=False)  # noqa: S603  the person's own command
    raise typer.Exit(finished.returncode)
