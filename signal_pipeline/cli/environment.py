"""The surroundings of a command: a database that is up, and Dagster's home and storage beside it.

The embedded server lives exactly as long as the commands that use it. Everything that a child process needs is put
into its environment; nothing is written to the person's own.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import sql
from sqlalchemy import Engine
from sqlalchemy.engine import URL, make_url

from signal_pipeline.cli.console import say
from signal_pipeline.db import migrate
from signal_pipeline.db.embedded import embedded_server, has_data
from signal_pipeline.db.engine import create_engine, ping
from signal_pipeline.db.urls import dagster_url, domain_url
from signal_pipeline.errors import DatabaseUnavailable, SettingsError
from signal_pipeline.settings import Settings

PROJECT_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """URLs (with their passwords: never print them) and folders of a running pipeline."""

    settings: Settings
    url: str
    engine: Engine
    embedded: bool

    @property
    def dagster_home(self) -> Path:
        return (self.settings.app.signal_pipeline_home / "dagster").resolve()

    @property
    def dagster_url(self) -> str:
        configured = self.settings.database.dagster_database_url
        return dagster_url(self.url, configured.get_secret_value() if configured else None)

    def environment(self) -> dict[str, str]:
        """For child processes: the person's environment, and where the databases are."""
        return os.environ | {
            "DATABASE_URL": self.url,
            "DAGSTER_DATABASE_URL": self.dagster_url,
            "DAGSTER_HOME": str(self.dagster_home),
            "SIGNAL_PIPELINE_HOME": str(self.settings.app.signal_pipeline_home.resolve()),
            "MODELS_DIR": str(self.settings.models.models_dir.resolve()),
            "PICTURES_THRIFTY": str(self.settings.view.pictures_thrifty),
            "PYTHONUNBUFFERED": "1",
        }


@contextmanager
def surroundings(settings: Settings, *, migrated: bool = True, create: bool = True) -> Iterator[Surroundings]:
    """A database that answers. With `migrated`, an embedded one is brought up to date, and another must be.

    Without `create` the embedded one must be there: who asks for what is stored must not be shown a new, empty one,
    because they stand in another folder than last time. Raises `DatabaseUnavailable`, or `SettingsError` that names
    what to do.
    """
    configured = settings.database.database_url
    if configured is None:
        _say_if_new(settings.app.signal_pipeline_home, may_create=create)
        with embedded_server(settings.app.signal_pipeline_home) as url:
            if migrated:
                migrate.upgrade(url)
            yield from _with_engine(settings, url, embedded=True)
        return
    for found in _with_engine(settings, domain_url(configured.get_secret_value()), embedded=False):
        ping(found.engine)
        if migrated:
            _require_head(found.engine)
        yield found


def _say_if_new(home: Path, *, may_create: bool) -> None:
    if has_data(home):
        return
    if not may_create:
        raise SettingsError(
            f"there is no database yet: DATABASE_URL is not set, and {home.resolve()} holds no embedded one. Go to the "
            "folder where the pipeline was started, set SIGNAL_PIPELINE_HOME or DATABASE_URL, or load something first"
        )
    say(f"a new, empty database in {home.resolve()} (DATABASE_URL is not set)")


def _with_engine(settings: Settings, url: str, *, embedded: bool) -> Iterator[Surroundings]:
    engine = create_engine(url, settings.database)
    try:
        yield Surroundings(settings, url, engine, embedded)
    finally:
        engine.dispose()


def _require_head(engine: Engine) -> None:
    current, head = migrate.current_revision(engine), migrate.head_revision()
    if current != head:
        raise SettingsError(
            f"the database stands at migration {current or 'none'}, the code needs {head}: "
            "run `signal-pipeline db upgrade` first"
        )


def prepare_dagster(here: Surroundings) -> None:
    """Dagster's home with our `dagster.yaml`, in it CLAIM_MAX_RUNS, and Dagster's database."""
    here.dagster_home.mkdir(parents=True, exist_ok=True)
    configuration = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text())
    configuration["concurrency"]["runs"]["max_concurrent_runs"] = here.settings.claims.claim_max_runs
    # Replaced whole: a daemon that is reading it at this moment must not meet half a file.
    unfinished = here.dagster_home / f".dagster.yaml.{os.getpid()}"
    unfinished.write_text(yaml.safe_dump(configuration))
    unfinished.replace(here.dagster_home / "dagster.yaml")
    ensure_database(here.dagster_url)


def ensure_database(url: str) -> None:
    """Create the database that `url` names, unless it is there.

    Raises `SettingsError` naming the variable if it may not be created, `DatabaseUnavailable` if nobody answers.
    """
    wanted = make_url(url).set(drivername="postgresql")
    if _refusal(wanted) is None:
        return
    # libpq has no code for "does not exist", and the server may say it in any language: so create it and look again
    _create_database(str(wanted.database), wanted.set(database="postgres"))
    refusal = _refusal(wanted)
    if refusal is not None:
        raise DatabaseUnavailable(
            f"Dagster's storage, database {wanted.database!r}: {str(refusal).strip()}. Check DAGSTER_DATABASE_URL."
        ) from refusal


def _connect(url: URL) -> "psycopg.Connection[Any]":
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True, connect_timeout=10)


def _refusal(url: URL) -> psycopg.OperationalError | None:
    try:
        _connect(url).close()
    except psycopg.OperationalError as error:
        return error
    except (psycopg.Error, UnicodeError):
        # these quote the URL, or pieces of it, and with it the password
        raise SettingsError("DAGSTER_DATABASE_URL cannot be used to connect: the driver does not take it") from None
    return None


def _create_database(name: str, maintenance: URL) -> None:
    try:
        with _connect(maintenance) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except (psycopg.OperationalError, psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        return  # no server, or another process was quicker
    except psycopg.Error as error:
        raise SettingsError(
            f"Dagster needs a database of its own, and {name!r} could not be created: {error}. Create it, or set "
            "DAGSTER_DATABASE_URL to one that exists."
        ) from error
