"""One Postgres and two hosts, each with its own Dagster (UI, daemon, sensor, storage). Not here: tests."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Engine
from sqlalchemy.engine import URL, make_url

from signal_pipeline.db import migrate
from signal_pipeline.db.engine import create_engine
from signal_pipeline.orchestration.run_state import CLAIM_TAG
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.hosts import database_server
from signal_pipeline_tests.hosts.network import Network, network

DATABASE_HOST = "db"
HOSTS = ("a", "b")
PATIENCE_SECONDS = 900
STOP_SECONDS = 300
COMMAND = str(Path(sys.executable).with_name("signal-pipeline"))

INSTANCE = "SELECT value FROM kvs WHERE key = 'signal_pipeline_instance_id'"
STARTED_RUNS = """
    SELECT r.run_id FROM runs AS r JOIN run_tags AS t USING (run_id)
    WHERE t.key = %s AND t.value = ANY(%s) AND r.status = 'STARTED'
"""
STATUSES = "SELECT status FROM runs WHERE run_id = ANY(%s)"
ACTIVE_RUNS = "SELECT count(*) FROM runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"


@dataclass(frozen=True)
class Host:
    """A host whose Dagster runs, and what its own storage says, read from beside the database."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    storage: URL

    def instance(self) -> str | None:
        """What the names of its claims have in common; None until its sensor has looked at the queue."""
        try:
            rows = self._ask(INSTANCE)
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return None  # its storage is still in the making
        return str(rows[0][0]) if rows else None

    def started_runs(self, tokens: Sequence[UUID]) -> list[str]:
        """Its runs under these claims that are at work."""
        return [row[0] for row in self._ask(STARTED_RUNS, CLAIM_TAG, [str(token) for token in tokens])]

    def statuses_of(self, run_ids: Sequence[str]) -> set[str]:
        return {row[0] for row in self._ask(STATUSES, list(run_ids))}

    def is_idle(self) -> bool:
        return bool(self._ask(ACTIVE_RUNS)[0][0] == 0)

    def _ask(self, query: str, *parameters: Any) -> list[Any]:
        with psycopg.connect(self.storage.render_as_string(hide_password=False)) as conn:
            return conn.execute(query, parameters or None).fetchall()


@dataclass(frozen=True)
class Plant:
    """The network, an engine on the database that no cut reaches (its unix socket), and a folder."""

    network: Network
    engine: Engine
    folder: Path

    def url(self, database: str = "signal_pipeline") -> str:
        """Of a database, as the hosts reach it."""
        return f"postgresql://postgres@{self.network.address(DATABASE_HOST)}:5432/{database}"

    @contextmanager
    def host(self, name: str, **environment: str) -> Iterator[Host]:
        """`signal-pipeline dev` on host `name`; when the block ends it is stopped, and nothing of it is left."""
        home = self.folder / name
        home.mkdir()
        variables = os.environ | environment
        variables |= {
            "DATABASE_URL": self.url(),
            "DAGSTER_DATABASE_URL": self.url(f"dagster_{name}"),
            "SIGNAL_PIPELINE_HOME": str(home),
            "MODELS_DIR": str(self.folder / "models"),
        }
        log = home / "output.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self.network.inside(name), COMMAND, "dev"],
                env=variables,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            storage = self.engine.url.set(drivername="postgresql", database=f"dagster_{name}")
            yield Host(name, process, log, storage)
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
        wait_until(lambda: not self.network.processes(name), f"nothing of host {name} is left")


@contextmanager
def plant(folder: Path) -> Iterator[Plant]:
    """`folder` must be one that the server's user can enter."""
    with network((DATABASE_HOST, *HOSTS)) as net:
        command = [*net.inside(DATABASE_HOST), sys.executable, database_server.__file__]
        server = subprocess.Popen(
            [*command, str(folder / "database"), net.address(DATABASE_HOST)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdin is not None
        assert server.stdout is not None
        with server.stdin, server.stdout:
            url = server.stdout.readline().strip()
            migrate.upgrade(url)
            engine = create_engine(make_url(url).render_as_string(hide_password=False), DatabaseSettings())
            try:
                yield Plant(net, engine, folder)
            finally:
                engine.dispose()
                server.stdin.close()
                server.wait(STOP_SECONDS)


def wait_until(condition: Callable[[], bool], what: str, *hosts: Host) -> None:
    """Poll until `condition`. Raises `TimeoutError` with the end of the hosts' logs, at once if one has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        ended = [host.name for host in hosts if host.process.poll() is not None]
        if ended or time.monotonic() > deadline:
            logs = "\n".join(f"{h.name}: {h.log.read_text(errors='replace')[-4000:]}" for h in hosts)
            raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS} s (ended hosts: {ended})\n{logs}")
        time.sleep(0.1)
