"""Making, configuring, starting and healing the embedded server.

Everything here runs under the home's start lock, by an owner who is registered already. Not here: who is an owner,
and when the server is stopped.
"""
# ruff: noqa: S603 - every command is a program of the package or of this project, never a person's text

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psycopg

from signal_pipeline.db.embedded import keeper, places
from signal_pipeline.errors import DatabaseUnavailable

DATABASE: Final = "signal_pipeline"
SUPERUSER: Final = "postgres"
LOG: Final = "server.log"
LOG_LIMIT_BYTES: Final = 10 * 2**20

INITDB_OPTIONS: Final = (
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",  # the same order of strings on every machine, whatever its C library
    "--builtin-locale=C.UTF-8",
    "--auth-local=trust",
    "--auth-host=reject",
    "--no-instructions",
)

SETTINGS: Final = {
    "listen_addresses": "",
    "port": str(keeper.PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",  # Dagster opens many, most of them idle
    "shared_buffers": "128MB",
    "max_parallel_workers_per_gather": "0",  # two cores are busy already, and containers have a small /dev/shm
    "io_method": "sync",  # three processes fewer
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}

WITHOUT_FSYNC: Final = {"fsync": "off", "full_page_writes": "off"}
"""What was committed still survives a killed server, only not a killed machine."""


def bring_up(place: keeper.Place, *, fsync: bool, settings: Mapping[str, str], timeout: float) -> str:
    """A server that accepts connections: the running one, or a new one. Returns the socket's folder.

    Raises `DatabaseUnavailable` with the end of the server's log if that is not reached within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    started = False
    while True:
        if keeper.is_free(place.server_lock):
            if started:
                raise failed(place, "ended while it was starting")
            _start(place, fsync=fsync, settings=settings)
            started = True
        elif not started and _is_broken(place):
            if not keeper.stop(place):
                raise failed(place, "is held by processes that cannot be stopped from here (another container?)")
        elif (socket := _announced_socket(place.data)) is not None and _has_database(socket):
            return socket
        if time.monotonic() > deadline:
            raise failed(place, f"did not accept connections within {timeout:g} s")
        time.sleep(keeper.POLL_SECONDS)


def _start(place: keeper.Place, *, fsync: bool, settings: Mapping[str, str]) -> None:
    try:
        account = places.choose_account(place)
        binaries = places.find_binaries(account)
        if not (place.data / "PG_VERSION").exists():
            _initialize(place, account, binaries, fsync=fsync)
        _prepare(place, account, SETTINGS | ({} if fsync else WITHOUT_FSYNC) | dict(settings))
        _launch(place, account, binaries)
    except OSError as error:  # a full disk, a folder that cannot be given to the server's user, …
        raise failed(place, f"could not be made ready: {error}") from error
    _start_keeper(place)


def _prepare(place: keeper.Place, account: places.Account, settings: Mapping[str, str]) -> None:
    """Settings, log and socket folder; and nothing that an earlier server left."""
    data = place.data
    socket = places.socket_folder(place, account)
    _write_settings(data / "postgresql.conf", {**settings, "unix_socket_directories": str(socket)})
    if (data / LOG).exists() and (data / LOG).stat().st_size > LOG_LIMIT_BYTES:
        (data / LOG).unlink()
    # as the server's lock is free, none of its processes live: these can only name processes that are not it
    (data / "postmaster.pid").unlink(missing_ok=True)
    for name in keeper.SOCKET_FILES:
        (socket / name).unlink(missing_ok=True)


def _launch(place: keeper.Place, account: places.Account, binaries: Path) -> None:
    lock = keeper.open_lock(place.server_lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        # pg_ctl leaves the server in a session of its own, so that Ctrl-C in the terminal is not for it
        command = (binaries / "pg_ctl", "start", "--no-wait", "--silent", "--log", LOG)
        _run(command, place, account, place.data, pass_fds=(lock,))
    finally:
        os.close(lock)


def _initialize(place: keeper.Place, account: places.Account, binaries: Path, *, fsync: bool) -> None:
    folder = places.new_data_folder(place, account)
    sync = () if fsync else ("--no-sync",)
    _run((binaries / "initdb", *INITDB_OPTIONS, *sync), place, account, folder)
    places.adopt_data_folder(place, folder)


def _run(
    command: Sequence[Path | str],
    place: keeper.Place,
    account: places.Account,
    data: Path,
    pass_fds: tuple[int, ...] = (),
) -> None:
    """Run one of Postgres's tools on `data`, named by PGDATA: an argument would go through a shell's quoting."""
    options = account.run_options()
    options["env"] |= {"PGDATA": str(data)}
    answer = subprocess.run(command, check=False, cwd=data, pass_fds=pass_fds, **options)
    if answer.returncode != 0:
        said = (answer.stderr or answer.stdout).strip()
        raise failed(place, f"could not be made ready: {Path(command[0]).name} said: {said}")


def _start_keeper(place: keeper.Place) -> None:
    command = (sys.executable, "-P", keeper.__file__, place.folder)
    quiet = subprocess.DEVNULL  # it outlives us, and must not hold open a pipe that somebody reads to its end
    subprocess.run(command, check=True, cwd="/", stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


def _write_settings(path: Path, settings: Mapping[str, str]) -> None:
    lines = ("{} = '{}'\n".format(name, value.replace("'", "''")) for name, value in settings.items())
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8") as file:  # made anew: root must follow no link in a folder of another user
        os.fchmod(file.fileno(), 0o644)
        file.write("# written anew at every start\n" + "".join(lines))


def _is_broken(place: keeper.Place) -> bool:
    """A server whose postmaster is gone while backends remain, or whose socket somebody has removed."""
    if keeper.postmaster(place.data) is None:
        return True
    socket = _announced_socket(place.data)
    return socket is not None and not (Path(socket) / keeper.SOCKET_FILES[0]).exists()


def _announced_socket(data: Path) -> str | None:
    """The socket's folder, once the server says that it is ready. Asking the file keeps its log free of refusals."""
    lines = keeper.pid_file(data)
    return lines[4] if len(lines) > 7 and lines[7].strip() == "ready" else None


def _has_database(socket: str) -> bool:
    """Connect, and create our database if this is the first time. False: not accepting connections yet."""
    try:
        with psycopg.connect(host=socket, port=keeper.PORT, user=SUPERUSER, dbname="postgres", autocommit=True) as conn:
            if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                conn.execute(f'CREATE DATABASE "{DATABASE}"')
    except psycopg.OperationalError:
        return False
    return True


def failed(place: keeper.Place, what: str) -> DatabaseUnavailable:
    log = place.data / LOG
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:] if log.exists() else []
    shown = "".join(f"\n  {line}" for line in tail) or " (empty)"
    return DatabaseUnavailable(
        f"the embedded Postgres in {place.data_link} {what}. Set DATABASE_URL to use another one. "
        f"The end of its log, {log}:{shown}"
    )
