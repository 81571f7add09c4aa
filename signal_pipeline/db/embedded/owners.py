"""Who uses the embedded server: entering, sharing, leaving.

Here: the two locks that owners take. Not here: what happens under them, see `server` and `keeper`.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import URL

from signal_pipeline.db.embedded import keeper, places, server
from signal_pipeline.db.urls import DOMAIN_DRIVER
from signal_pipeline.errors import SettingsError


@contextmanager
def shared_server(home: Path, *, fsync: bool, settings: Mapping[str, str], start_timeout: float) -> Iterator[str]:
    """See `embedded_server`, which this is behind its check of the platform."""
    place = places.prepare(home)
    owner = os.getpid()
    try:
        users = keeper.open_lock(place.users_lock)
    except PermissionError as error:
        raise SettingsError(
            f"the embedded Postgres in {place.folder} belongs to another user ({error}): run as the user who made it, "
            "choose another SIGNAL_PIPELINE_HOME, or set DATABASE_URL"
        ) from error
    try:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while a server that nobody used any more is being stopped
        with _one_at_a_time(place.start_lock):
            socket = server.bring_up(place, fsync=fsync, settings=settings, timeout=start_timeout)
        yield _url(socket)
    finally:
        if os.getpid() == owner:  # a forked child unwinds the same frames, but is no user of its own
            _leave(users, place)
        os.close(users)


def _leave(users: int, place: keeper.Place) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(users, fcntl.LOCK_SH)  # at once if others use it; if the keeper is stopping it, when that is done
    else:
        if not keeper.stop_for_good(place):
            raise server.failed(place, "could not be stopped")
    fcntl.flock(users, fcntl.LOCK_UN)  # not only closed: a forked child may hold a copy of the descriptor


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    descriptor = keeper.open_lock(lock)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _url(socket: str) -> str:
    query = {"host": socket, "port": str(keeper.PORT)}
    return URL.create(
        DOMAIN_DRIVER, username=server.SUPERUSER, database=server.DATABASE, query=query
    ).render_as_string()
