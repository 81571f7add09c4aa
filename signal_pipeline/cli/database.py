"""`signal-pipeline db`: migrations, and any other program against the same database."""

import os
import signal
import subprocess
from typing import Annotated

import typer
from psycopg import pq

from signal_pipeline.cli.console import fail, out, readable_errors
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
    """Run COMMAND with DATABASE_URL and libpq's PGHOST, PGUSER, … set, while the database is up.

    `signal-pipeline db run -- psql`; the URL has the plain `postgresql://` form. For the embedded database, psql,
    pg_dump and pg_restore are those of its own version: another pg_dump might be too old for it.
    """
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings) as here:
            url = here.url.replace("postgresql+psycopg://", "postgresql://")
            environment = here.environment() | libpq_variables(url) | {"DATABASE_URL": url}
            if here.embedded:
                from signal_pipeline.db.embedded.places import client_programs  # needs pwd, which Windows does not have

                environment["PATH"] = f"{client_programs()}{os.pathsep}{environment.get('PATH', os.defpath)}"
            code = _run(command, environment)
    raise typer.Exit(code)


def libpq_variables(url: str) -> dict[str, str]:
    """What `url` says, as the variables that psql, pg_dump and other programs of libpq read by themselves."""
    options = pq.Conninfo.parse(url.encode())
    return {os.fsdecode(o.envvar): os.fsdecode(o.val) for o in options if o.envvar and o.val is not None}


def _run(command: list[str], environment: dict[str, str]) -> int:
    """The exit code of the person's command. Ctrl-C is for it (psql cancels a statement), not for us."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603  the person's own command
    except OSError as error:
        fail(f"{command[0]} cannot be run: {error.strerror}", code=127)
    finally:
        signal.signal(signal.SIGINT, before)
