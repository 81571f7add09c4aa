"""Whether the embedded server lives, how it is stopped, and the keeper that stops it for owners who were killed.

Here: only what needs no package of ours, because the keeper is started by path and stays for as long as the server
does: it should be small. Not here: starting.

Two lock files say everything, and the kernel drops both when their holders die, however they die:

- `server.lock` is inherited by every process of the server. While it is held, something of the server lives, a
  postmaster or a backend that outlived it; once it is free, `postmaster.pid` is stale whoever has that number now.
- `users.lock` is held, shared, by every owner. Whoever holds it exclusively knows that nobody uses the server.
"""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

DATA_FOLDER: Final = "pg18"
"""The major version is part of the path: a later one finds no folder that it cannot read."""

POLL_SECONDS: Final = 0.01

PORT: Final = 5432
"""Only a part of the socket's name: the server listens on no address."""

SOCKET_FILES: Final = (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock")

STOP_STEPS: Final = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
"""Postgres's fast shutdown, its immediate one, and force; each with the seconds it gets."""


@dataclass(frozen=True, slots=True)
class Place:
    """The files of one home: three locks, the link to the socket's folder, the data (perhaps a link)."""

    folder: Path

    @property
    def users_lock(self) -> Path:
        return self.folder / "users.lock"

    @property
    def start_lock(self) -> Path:
        return self.folder / "start.lock"

    @property
    def server_lock(self) -> Path:
        return self.folder / "server.lock"

    @property
    def socket_link(self) -> Path:
        return self.folder / "socket"

    @property
    def data_link(self) -> Path:
        return self.folder / DATA_FOLDER

    @property
    def data(self) -> Path:
        """The data folder itself, links followed, as the server's processes name it."""
        return self.data_link.resolve()


def open_lock(path: Path) -> int:
    """A new open file description, not inherited: flock locks belong to it, not to the process."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock at `path`, shared or exclusively, which includes that no such file exists."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def pid_file(data: Path) -> list[str]:
    """The lines of `postmaster.pid` (pid, folder, start, port, socket folder, address, memory, status), or nothing."""
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def postmaster(data: Path) -> psutil.Process | None:
    """The live postmaster of `data`. A process that merely got the number of a dead one does not count."""
    lines = pid_file(data)
    try:
        process = psutil.Process(int(lines[0]))
        return process if _belongs_to(process, data) else None
    except (IndexError, ValueError, psutil.Error):
        return None


def stop(place: Place) -> bool:
    """Stop the server of `place`, and whatever outlived its postmaster. Returns whether all of it is gone."""
    data = place.data
    for step, patience in STOP_STEPS:
        if is_free(place.server_lock):
            return True
        head = postmaster(data)
        if head is not None and step is not signal.SIGKILL:
            _send(head, step)
        else:  # orphans of a dead postmaster do not answer anything milder, and hold nothing that recovery needs
            for process in _family(data):
                _send(process, signal.SIGKILL)
        if wait_for(lambda: is_free(place.server_lock), patience):
            return True
    return False


def stop_for_good(place: Place) -> bool:
    """Stop the server that nobody uses any more, and remove its socket's folder. Returns whether it is gone."""
    gone = stop(place)
    if gone and place.socket_link.is_symlink():
        socket = place.socket_link.readlink()
        with suppress(OSError):  # already cleaned away, or no longer ours: the next start makes a new one
            for name in SOCKET_FILES:
                (socket / name).unlink(missing_ok=True)
            socket.rmdir()
        place.socket_link.unlink(missing_ok=True)
    return gone


def _family(data: Path) -> list[psutil.Process]:
    named = (p for p in psutil.process_iter(["name"]) if (p.info["name"] or "").startswith("postgres"))
    return [process for process in named if _belongs_to(process, data)]


def _belongs_to(process: psutil.Process, data: Path) -> bool:
    """Every process of a server has its data folder as working directory."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(data)
    except psutil.Error:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def main(folder: Path) -> None:
    """Wait in the background until the last owner is gone, then stop the server if that owner could not."""
    if os.fork():
        os._exit(0)  # the starter waits for us no longer, and is never the parent of a zombie
    place = Place(folder)
    fcntl.flock(open_lock(place.users_lock), fcntl.LOCK_EX)  # held until we end: a new owner waits for the stop's end
    sys.exit(0 if stop_for_good(place) else 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
