"""A Postgres of a test's own, to be killed, filled and cut off; folders of a few megabytes; a proxy that loses answers.

The tests' shared server is never hurt. Not here: tests.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import psutil
import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from signal_pipeline.db import migrate
from signal_pipeline.db.embedded import embedded_server, keeper
from signal_pipeline.db.engine import create_engine
from signal_pipeline.errors import DatabaseUnavailable
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.db.conftest import copy_of
from signal_pipeline_tests.faults.processes import wait_until

MIGRATED = "signal_pipeline"
"""The embedded server's own database: migrated once, and copied for each test."""


@contextmanager
def engine_on(url: str) -> Iterator[Engine]:
    """An engine whose connections are closed when the block ends, also badly."""
    engine = create_engine(url, DatabaseSettings())
    try:
        yield engine
    finally:
        engine.dispose()


class OwnServer:
    """An embedded server below `home`, which this process uses until the block ends."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.place = keeper.Place(home / "postgres")
        self._home, self._settings, self._stack = home, settings, ExitStack()

    def __enter__(self) -> Self:
        self.url = self.bring_up()
        migrate.upgrade(self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def bring_up(self) -> str:
        """Start it, as the next command of a person would; or join it if it runs."""
        return self._stack.enter_context(embedded_server(self._home, fsync=False, settings=self._settings))

    def bring_up_again(self) -> None:
        """As a person does who reads "ended while it was starting": once more, for it may have been dying just then."""

        def is_up() -> bool:
            try:
                self.bring_up()
            except DatabaseUnavailable:
                return False
            return True

        wait_until(is_up, what="a server that starts")

    @contextmanager
    def database(self) -> Iterator[Engine]:
        """A migrated, empty database on it."""
        administrator = make_url(self.url).set(database="postgres").render_as_string(hide_password=False)
        with copy_of(administrator, MIGRATED) as url, engine_on(url) as engine:
            yield engine

    def postmaster(self) -> psutil.Process | None:
        return keeper.postmaster(self.place.data)

    def signal_postmaster(self, number: int) -> None:
        process = self.postmaster()
        assert process is not None, "there is no postmaster to be hurt"
        process.send_signal(number)

    def wait_until_down(self) -> None:
        wait_until(lambda: self.postmaster() is None, what="the end of the postmaster")


@contextmanager
def server_home() -> Iterator[Path]:
    """A folder that the server's user can enter, gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="sp-faults-"))
    home.chmod(0o711)
    yield home
    place = keeper.Place(home / "postgres")
    wait_until(lambda: keeper.is_free(place.server_lock) and keeper.is_free(place.users_lock), what="the keeper's end")
    if place.data_link.is_symlink():
        shutil.rmtree(place.data_link.readlink().parent)
    shutil.rmtree(home)


@contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[Path]:
    """`folder` becomes a file system of its own. The test is skipped where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs"]
    program = shutil.which("mount", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if os.geteuid() != 0 or program is None:
        pytest.skip("a small file system is mounted by root only: run as root to fill a disk")
    done = subprocess.run([program, *options, str(folder)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"this machine (a container?) allows no mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Fill a small disk to the last byte; remove the returned file to have space again."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while shutil.disk_usage(disk).free:  # a server that lives there may have given some back meanwhile
            for size in (2**20, 2**12, 1):
                with suppress(OSError):
                    while file.write(b"\0" * size):
                        pass
    return ballast


COMMITS = (b"COMMIT\0", b"tally AS MATERIALIZED")
"""As the driver sends them: the command, not the words of a statement, and the claim, which commits by itself."""


class Proxy:
    """On a loopback port, before a server's unix socket.

    `silence` stops all that pass, but breaks no connection; of each silent connection on which something was asked,
    `waits` holds the seconds from the last question until the client gave it up. `lose_answer_to` lets a commit land,
    and breaks its connection before the answer passes.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._muted: dict[asyncio.Task[None], float | None] = {}
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._commits_until_loss = 0
        self.waits: list[float] = []
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def silence(self) -> int:
        """From now on nothing passes through the connections that there are; new ones work. How many there were."""
        return asyncio.run_coroutine_threadsafe(self._silence(), self._loop).result()

    def lose_answer_to(self, commit: int) -> None:
        """To the commit of this number, from 1, that passes from now on through any connection."""
        self._commits_until_loss = commit

    @property
    def has_lost(self) -> bool:
        """Whether it came to that."""
        return self._commits_until_loss <= 0

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_unix_connection(self._socket)
        self._writers += (writer, to_server[1])
        broken = asyncio.Event()
        for source, sink, watch in (
            (reader, to_server[1], lambda data: self._count(data, broken)),
            (to_server[0], writer, lambda _: broken.is_set()),
        ):
            pump = asyncio.create_task(self._pump(source, sink, watch, is_client=source is reader))
            self._pumps.add(pump)

    def _count(self, data: bytes, broken: asyncio.Event) -> bool:
        """Look at what a client sends; it always passes, its answer perhaps not."""
        if any(commit in data for commit in COMMITS):
            self._commits_until_loss -= 1
            if self._commits_until_loss == 0:
                broken.set()
        return False

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        is_end: Callable[[bytes], bool],
        *,
        is_client: bool,
    ) -> None:
        this = asyncio.current_task()
        assert this is not None
        try:
            while (data := await source.read(2**16)) and not is_end(data):
                if this in self._muted:
                    self._muted[this] = time.monotonic()
                    continue
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            return  # one end is gone; the other hears of it
        finally:
            if this not in self._muted:
                sink.close()
            elif is_client and (asked := self._muted[this]) is not None:
                self.waits.append(time.monotonic() - asked)

    async def _silence(self) -> int:
        alive = {pump for pump in self._pumps if not pump.done() and pump not in self._muted}
        self._muted |= dict.fromkeys(alive)
        return len(alive) // 2

    async def _close(self) -> None:
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)
