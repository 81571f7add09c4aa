"""What a family of processes and a Postgres server cost: CPU seconds, peak memory, rows, connections.

For the benchmarks of whole programs. Not here: what is run, and ratios.
"""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg
from sqlalchemy.engine import make_url

SAMPLE_SECONDS = 0.25


def connect(url: str, database: str | None = None) -> psycopg.Connection:
    """A plain psycopg connection, autocommit, to the database of a SQLAlchemy URL, or to another on its server."""
    parsed = make_url(url).set(drivername="postgresql")
    if database is not None:
        parsed = parsed.set(database=database)
    return psycopg.connect(parsed.render_as_string(hide_password=False), autocommit=True)


class Family:
    """`with Family(pid)`: CPU seconds and peak memory of a process and its descendants, sampled in a thread."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._cpu_at_start = cpu_seconds(self._root)
        self._cpu = self._cpu_at_start
        self.peak_bytes = 0

    @property
    def cpu_seconds(self) -> float:
        return self._cpu - self._cpu_at_start

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sample()
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        self._cpu = max(self._cpu, cpu_seconds(self._root))
        self.peak_bytes = max(self.peak_bytes, sum(_resident(p) for p in members(self._root)))


def members(root: psutil.Process) -> list[psutil.Process]:
    """`root` and its descendants; none once it has ended."""
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(root: psutil.Process) -> float:
    """User and system time of a family; members that have ended count through the parent that waited for them."""
    total = 0.0
    for process in members(root):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def postmaster(url: str) -> psutil.Process:
    """The server's first process; its children are the backends."""
    with connect(url) as conn:
        row = conn.execute("SHOW data_directory").fetchone()
    if row is None:
        raise RuntimeError("the server does not say where its data is")
    return psutil.Process(int(Path(row[0], "postmaster.pid").read_text().split()[0]))


def sessions(url: str, databases: list[str]) -> int:
    """How many connections these databases have seen since they were made."""
    with connect(url) as conn:
        query = "SELECT coalesce(sum(sessions), 0)::bigint FROM pg_stat_database WHERE datname = ANY(%s)"
        row = conn.execute(query, (databases,)).fetchone()
    return int(row[0]) if row else 0
