"""Whether the pipeline could work now: one verdict a part, and an exit code that a supervisor can use."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from signal_pipeline.db.engine import ping
from signal_pipeline.db.migrate import current_revision, head_revision
from signal_pipeline.errors import SignalPipelineError
from signal_pipeline.settings import Settings

LOW_DISK_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Check:
    """One part's verdict, and what to do if it is bad."""

    name: str
    ok: bool
    message: str


def check_health(engine: Engine, settings: Settings) -> list[Check]:
    """Database, migrations, disk. Never raises for a part that is ill."""
    return [
        _checked("database", lambda: _database(engine)),
        _checked("migrations", lambda: _migrations(engine)),
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


def _disk(home: Path) -> tuple[bool, str]:
    place = home if home.exists() else Path.cwd()
    free = shutil.disk_usage(place).free
    return free >= LOW_DISK_BYTES, f"{free / 2**30:.1f} GiB free at {place}"
