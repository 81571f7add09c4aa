"""Four queues as one worker sees them: our two strategies, procrastinate and pgqueuer; and filling their tables.

Each peer is asked through the function that its own worker calls (`JobManager.fetch_job`, `Queries.dequeue`), on
psycopg, as ours is. procrastinate has no batch: it takes job by job. pgqueuer moves what is finished to a log table, so
its finished jobs are rows there. Not here: races and figures.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import procrastinate
import psycopg
from pgqueuer import PsycopgDriver, Queries
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
from pgqueuer.domain.types import QueueEntrypoint, QueueManagerId
from pgqueuer.ports.repository import EntrypointExecutionParameter
from sqlalchemy import event
from sqlalchemy.engine import ExecutionContext, make_url

from benchmarks.measuring import connect
from signal_pipeline.db import claim_sql, migrate
from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.engine import create_engine
from signal_pipeline.settings import ClaimSettings, ClaimStrategy, DatabaseSettings

T = TypeVar("T")
LEASE_SECONDS = 3600
HEARTBEAT = timedelta(hours=1)
"""Nothing that was claimed comes back while it is measured."""


class Queue(Protocol):
    """A queue as one worker sees it. `refused`: statements that took a row and found it taken."""

    refused: int

    def fetch(self, n: int) -> int:
        """Take up to `n`; returns how many there were."""

    def warm_up(self) -> None:
        """Connect if that is not done, and look for what is not there: whoever has not since its table was analysed
        plans its next fetch anew."""

    def close(self) -> None: ...


class Ours:
    """`claim_pending` by one strategy."""

    def __init__(self, url: str, strategy: ClaimStrategy) -> None:
        self.refused = 0
        self._engine = create_engine(url, DatabaseSettings())
        self._settings = ClaimSettings(claim_strategy=strategy, claim_lease_seconds=LEASE_SECONDS)
        event.listen(self._engine, "after_cursor_execute", self._count)

    def _count(self, _c: Any, cursor: Any, _s: str, _p: Any, context: ExecutionContext, _m: bool) -> None:
        if getattr(context, "invoked_statement", None) is claim_sql.CLAIM_ONE and cursor.rowcount == 0:
            self.refused += 1

    def fetch(self, n: int) -> int:
        got = claim_pending(self._engine, settings=self._settings, claimed_by="benchmark", limit=n)
        return sum(len(claim.signal_ids) for claim in got.claims)

    def warm_up(self) -> None:
        self.fetch(0)

    def close(self) -> None:
        self._engine.dispose()


class Peer:
    """A peer that is asyncio: its own loop, entered for each fetch."""

    def __init__(self) -> None:
        self.refused = 0
        self._runner = asyncio.Runner()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


class Procrastinate(Peer):
    """One job a fetch: it has no batch."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._connector = procrastinate.PsycopgConnector(conninfo=conninfo(url), min_size=1, max_size=1)
        self._manager = procrastinate.manager.JobManager(self._connector)
        self._is_open = False

    def fetch(self, n: int) -> int:
        del n
        return int(self.run(self._manager.fetch_job(queues=["work"], worker_id=self._worker)) is not None)

    def warm_up(self) -> None:
        if not self._is_open:
            self.run(self._connector.open_async())
            self._worker = self.run(self._manager.register_worker())
            self._is_open = True
        self.run(self._manager.fetch_job(queues=["nothing"], worker_id=self._worker))

    def close(self) -> None:
        self.run(self._connector.close_async())
        self._runner.close()


class PgQueuer(Peer):
    """`n` jobs a fetch, of one entrypoint without limits."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = conninfo(url)
        self._manager = QueueManagerId(uuid4())
        self._connection: psycopg.AsyncConnection | None = None

    def fetch(self, n: int) -> int:
        return self._dequeue(n, "work")

    def _dequeue(self, n: int, entrypoint: str) -> int:
        unlimited = {QueueEntrypoint(entrypoint): EntrypointExecutionParameter(concurrency_limit=0)}
        return len(self.run(self._queries.dequeue(n, unlimited, self._manager, None, HEARTBEAT)))

    def warm_up(self) -> None:
        if self._connection is None:
            self._connection = self.run(psycopg.AsyncConnection.connect(self._url, autocommit=True))
            self._queries = Queries(PsycopgDriver(self._connection))
        self._dequeue(1, "nothing")

    def close(self) -> None:
        if self._connection is not None:
            self.run(self._connection.close())
        self._runner.close()


def open_queue(name: str, url: str) -> Queue:
    """The queue `name` (a key of `TABLES`) in the database at `url`."""
    if name == "procrastinate":
        return Procrastinate(url)
    return PgQueuer(url) if name == "pgqueuer" else Ours(url, ClaimStrategy(name))


def conninfo(url: str) -> str:
    """A SQLAlchemy URL as libpq reads it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@dataclass(frozen=True, slots=True)
class Table:
    """How a queue's table gets finished jobs, pending ones, and rid of the pending and the claimed."""

    name: str
    finished: str
    pending: str
    clear: str


# What `sources.signal_id` makes, in SQL: milliseconds, and then bits that come in no order.
ID_OF_TIME = """
    CREATE FUNCTION id_of(at timestamptz) RETURNS uuid LANGUAGE sql AS $$
        SELECT CAST(encode(overlay(uuid_send(gen_random_uuid())
                                   PLACING substring(int8send(CAST(extract(epoch FROM at) * 1000 AS bigint)) FROM 3)
                                   FROM 1 FOR 6), 'hex') AS uuid)
    $$
"""
# Every column that the loader fills of a file with one batch, its source among them, but for the samples: they lie
# beside the table (TOAST), and no claim touches them.
LOADED = """
    WITH files AS MATERIALIZED (
        SELECT i, {at} AS at, id_of({at}) AS source_id, encode(sha256(uuid_send(gen_random_uuid())), 'hex') AS sha256,
               'M' || i %% (SELECT count(*) FROM equipment) AS motor, format('/data/recordings/%%s.csv', i) AS path
        FROM generate_series(%(n)s::int, 1, -1) AS i
    ), loaded AS (
        INSERT INTO sources (id, path, sha256, size_bytes, n_rows, dialect)
        SELECT source_id, path, sha256, 7000000, 256000, '{{"delimiter": ",", "header": true}}' FROM files
    )
    INSERT INTO raw_signals (id, equipment_id, source_id, file_name, file_hash, sample_rate_hz, samples_count, meta,
                             created_at, recorded_at, processing_status, finalized_at)
    SELECT id_of(at), equipment.id, source_id, path, sha256, 25600, 256000,
           '{{"batch_index": 0, "batches": 1, "phases": ["a", "b", "c"], "byte_offset": 33,
              "recorded_at_source": "file_name", "source": {{"first_row": 0, "rows": 256000}}}}',
           at, at, {status} FROM files JOIN equipment ON name = motor ORDER BY i DESC
"""
SIGNALS = Table(
    "raw_signals",
    LOADED.format(at="now() - i * interval '1 second'", status="'completed', now()"),
    LOADED.format(at="clock_timestamp()", status="'pending', NULL"),
    """WITH gone AS (DELETE FROM raw_signals WHERE processing_status IN ('pending', 'processing') RETURNING source_id)
       DELETE FROM sources WHERE id IN (SELECT source_id FROM gone)""",
)
TABLES = {
    "s1": SIGNALS,
    "s2": SIGNALS,
    "procrastinate": Table(
        "procrastinate_jobs",
        """INSERT INTO procrastinate_jobs (queue_name, task_name, status, attempts)
           SELECT 'work', 'task', 'succeeded', 1 FROM generate_series(1, %(n)s)""",
        """INSERT INTO procrastinate_jobs (queue_name, task_name)
           SELECT 'work', 'task' FROM generate_series(1, %(n)s)""",
        "DELETE FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
    ),
    "pgqueuer": Table(
        "pgqueuer",
        """INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint)
           SELECT i, 'successful', 0, 'work' FROM generate_series(1, %(n)s) AS i""",
        """INSERT INTO pgqueuer (priority, status, entrypoint)
           SELECT 0, 'queued', 'work' FROM generate_series(1, %(n)s)""",
        "DELETE FROM pgqueuer",
    ),
}


def install(url: str, finished: int, motors: int) -> None:
    """All tables in the empty database at `url`, each with `finished` finished jobs; ours are of so many motors."""
    migrate.upgrade(url)
    with connect(url) as conn:
        conn.execute("INSERT INTO equipment (name) SELECT 'M' || i FROM generate_series(0, %s) AS i", (motors - 1,))
        conn.execute(ID_OF_TIME)
        conn.execute((resources.files("procrastinate.sql") / "schema.sql").read_bytes())
        conn.execute(QueryBuilderEnvironment().build_install_query().encode())
        conn.execute("SET session_replication_role = replica")  # born completed; no event a row
        for table in {table.name: table for table in TABLES.values()}.values():
            conn.execute(table.finished.encode(), {"n": finished})
        conn.execute("VACUUM ANALYZE")


def refill(url: str, name: str, pending: int) -> None:
    """Exactly `pending` pending jobs, none claimed, and nothing left behind of those before."""
    table = TABLES[name]
    with connect(url) as conn:
        conn.execute(table.clear.encode())
        conn.execute(table.pending.encode(), {"n": pending})
        conn.execute(f"VACUUM ANALYZE {table.name}".encode())
