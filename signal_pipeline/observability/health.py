"""Whether the pipeline could work now: one verdict a part, and an exit code that a supervisor can use."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import time

from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from signal_pipeline.db.engine import create_engine, ping, wrapped
from signal_pipeline.db.migrate import current_revision, head_revision
from signal_pipeline.db.urls import dagster_url, domain_url
from signal_pipeline.errors import DatabaseUnavailable, SignalPipelineError
from signal_pipeline.observability.readings import read_heartbeats
from signal_pipeline.settings import DatabaseSettings, Settings

LOW_DISK_BYTES = 512 * 2**20

SILENT_SECONDS = 300
"""Dagster's daemon beats every 30 s; longer than this without a beat, and it counts as gone."""

DATABASES = text("SELECT count(*) FROM pg_database WHERE datname = :name")


@dataclass(frozen=True, slots=True)
class Check:
    """One part's verdict, and what to do if it is bad."""

    name: str
    ok: bool
    message: str


def check_health(engine: Engine, settings: Settings) -> list[Check]:
    """Database, migrations, Dagster's daemon, disk. Never raises for a part that is ill."""
    return [
        _checked("database", lambda: _database(engine)),
        _checked("migrations", lambda: _migrations(engine)),
        _checked("daemon", lambda: _daemon(engine, settings.database)),
        _checked("disk", lambda: _disk(settings.app.signal_pipeline_home)),
    ]


def _checked(name: str, look: Callable[[], tuple[bool, str]]) -> Check:
    try:
        ok, message = look()
    except (SignalPipelineError, OSError) as error:
        return Check(name, ok=False, message=str(error))
    return Check(name, ok, message)


def _database(engine: Engine) -> tuple[bool, str]:
    ping(engine)
    return True, "answers"


def _migrations(engine: Engine) -> tuple[bool, str]:
    ping(engine)
    current, head = current_revision(engine), head_revision()
    if current == head:
        return True, f"at {head}"
    return False, f"at {current or 'nothing'}, the code needs {head}: run `signal-pipeline db upgrade`"


def _daemon(engine: Engine, settings: DatabaseSettings) -> tuple[bool, str]:
    """Whether Dagster's sensor daemon beats. None that ever ran is no illness: `process` needs none."""
    configured = settings.dagster_database_url
    domain = engine.url.render_as_string(hide_password=False)
    url = dagster_url(domain, configured.get_secret_value() if configured else None)
    dagster = create_engine(domain_url(url, variable="DAGSTER_DATABASE_URL"), settings)
    try:
        last = read_heartbeats(dagster).get("SENSOR")
    except ProgrammingError:
        return True, "has not run on this storage"
    except DatabaseUnavailable as error:
        if _is_unmade(dagster, settings):
            return True, "Dagster's storage is not there yet: `signal-pipeline dev` makes it"
        said = re.sub(r"\bDATABASE_URL", "DAGSTER_DATABASE_URL", str(error))
        return False, f"Dagster's storage cannot be read: {said}"
    finally:
        dagster.dispose()
    if last is None:
        return True, "has not run on this storage"
    age = max(0.0, time() - last)
    return age <= SILENT_SECONDS, f"last beat {age:.0f} s ago" + ("" if age <= SILENT_SECONDS else ": start it again")


def _is_unmade(dagster: Engine, settings: DatabaseSettings) -> bool:
    """Whether the server lets this login in, and has no database of that name.

    libpq has no code for a database that does not exist, and the server may say it in any language.
    """
    maintenance = create_engine(dagster.url.set(database="postgres").render_as_string(hide_password=False), settings)
    try:
        with wrapped(maintenance), maintenance.connect() as conn:
            return not conn.execute(DATABASES, {"name": dagster.url.database}).scalar_one()
    except DatabaseUnavailable:
        return False
    finally:
        maintenance.dispose()


def _disk(home: Path) -> tuple[bool, str]:
    place = home if home.exists() else Path.cwd()
    free = shutil.disk_usage(place).free
    return free >= LOW_DISK_BYTES, f"{free / 2**30:.1f} GiB free at {place}"
