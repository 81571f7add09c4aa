"""A worker process that can be hurt: the real claim and the real work on a batch, with a fault in a chosen place.

Started from the fork server of `processes`. A boundary is the moment before a statement or before a commit; a fault
strikes at one of them (`strike_at`). Not here: tests, and what they compare.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Engine, event, text

from signal_pipeline.db import claims
from signal_pipeline.db.engine import create_engine, is_transient
from signal_pipeline.errors import ClaimLost
from signal_pipeline.processing import extract
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.heartbeat import Heartbeat
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ClaimSettings, ClaimStrategy, DatabaseSettings, FeatureSettings, ModelSettings, Settings

LEASE_SECONDS = 2.0
POLL_SECONDS = 0.2

UNFINISHED = text("SELECT count(*) FROM raw_signals WHERE processing_status IN ('pending', 'processing')")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a worker is to do, and what happens to it.

    `strike_at`: the boundary (counted from 1) at which it gets `strike`. `poison`: signals in whose work `venom` does
    its work. `clock_hours`: how wrong its clock is. `limit`: signals a claim. `wait`: until all signals are
    final. `ask`: for all signals, as a person does, instead of what is pending.
    """

    url: str
    models: Path
    log: Path
    strike_at: int | None = None
    strike: signal.Signals = signal.SIGKILL
    poison: frozenset[UUID] = frozenset()
    venom: str = "segfault"
    clock_hours: float = 0.0
    strategy: str = "s2"
    limit: int = 20
    attempts: int = 3
    parallel: bool = False
    wait: bool = True
    lease_seconds: float = LEASE_SECONDS
    statement_seconds: float = 300.0
    idle_seconds: float = LEASE_SECONDS
    ask: bool = False
    temporary: Path | None = None

    @property
    def settings(self) -> Settings:
        return Settings(
            claims=ClaimSettings(
                claim_strategy=ClaimStrategy(self.strategy),
                claim_lease_seconds=self.lease_seconds,
                claim_max_attempts=self.attempts,
            ),
            features=FeatureSettings(feature_extraction_parallel=self.parallel),
            models=ModelSettings(models_dir=self.models),
            database=DatabaseSettings(
                database_statement_timeout_seconds=self.statement_seconds,
                database_idle_transaction_seconds=self.idle_seconds,
            ),
        )


@dataclass(slots=True)
class Boundaries:
    """Counts the boundaries that the work passes, over all threads, and strikes at one."""

    strike_at: int | None
    strike: signal.Signals
    passed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", lambda *_: self._pass())
        event.listen(engine, "commit", lambda _: self._pass())

    def _pass(self) -> None:
        with self._lock:
            self.passed += 1
            if self.passed == self.strike_at:
                os.kill(os.getpid(), self.strike)


def work(orders: Orders) -> None:
    """The process: works off the queue, and logs how many boundaries that took."""
    with orders.log.open("a") as log_file:
        structlog.configure(
            processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info]
            + [structlog.processors.JSONRenderer()],
            logger_factory=structlog.PrintLoggerFactory(log_file),
        )
        if orders.clock_hours:
            _bend_the_clock(orders.clock_hours * 3600)
        if orders.poison:
            _lay_poison(orders)
        if orders.temporary is not None:
            os.environ["TMPDIR"] = str(orders.temporary)
        engine = create_engine(orders.url, orders.settings.database)
        boundaries = Boundaries(orders.strike_at, orders.strike)
        boundaries.watch(engine)
        worker = Worker(engine, orders.settings, f"faults:{os.getpid()}")
        if orders.ask:
            ask_for_all(worker)
        drain(worker, orders)
        log.info("worker.ends", boundaries=boundaries.passed)
        engine.dispose()


def drain(worker: Worker, orders: Orders) -> None:
    """Claim and work until nothing is left; a lost claim and a database that is away are not the end."""
    while True:
        try:
            got = claims.claim_pending(
                worker.engine, settings=worker.settings.claims, claimed_by=worker.name, limit=orders.limit
            )
            _run(worker, got.claims)
            if not got.claims:
                if not orders.wait or not _unfinished(worker.engine):
                    return
                time.sleep(POLL_SECONDS)
        except Exception as error:
            if not is_transient(error):
                log.exception("worker.died")
                raise
            log.warning("database.away", error=str(error))
            time.sleep(POLL_SECONDS)


def ask_for_all(worker: Worker) -> None:
    """Every signal once more, whatever its state, as a backfill of everything asks for it."""
    with worker.engine.connect() as conn:
        ids = conn.execute(text("SELECT id FROM raw_signals")).scalars().all()
    got = claims.claim_requested(
        worker.engine, ids, token=uuid4(), settings=worker.settings.claims, claimed_by=worker.name, whole=True
    )
    run_batch(worker, Batch(got.claim.token, got.claim.signal_ids, recompute=True))


def _run(worker: Worker, fetched: tuple[claims.Claim, ...]) -> None:
    """One claim after the other; those that wait their turn are kept alive, as `drain` of the orchestration does."""
    with ExitStack() as waiting:
        for claim in fetched[1:]:
            lease = worker.settings.claims.claim_lease_seconds
            waiting.enter_context(Heartbeat(worker.engine, claim.token, lease_seconds=lease))
        for claim in fetched:
            log.info("batch.begins", signals=len(claim.signal_ids))
            try:
                run_batch(worker, Batch(claim.token, claim.signal_ids))
            except ClaimLost as error:
                log.warning("claim.lost", claim=str(claim.token), error=str(error))


def _unfinished(engine: Engine) -> bool:
    with engine.connect() as conn:
        return bool(conn.execute(UNFINISHED).scalar_one())


def _lay_poison(orders: Orders) -> None:
    """Signals that do to their worker what a broken library would."""
    real: Callable[..., Any] = extract.extract_signal

    def poisonous(worker: Worker, signal_id: UUID, progress: Any) -> Any:
        if signal_id in orders.poison:
            VENOMS[orders.venom]()
        return real(worker, signal_id, progress)

    extract.extract_signal = poisonous


def _segfault() -> None:
    """As from a broken extension: an address that is none is read. No core file of it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def _exhaust_memory() -> None:
    """Against a limit of the kernel's: Python raises MemoryError, as it does where a container does not kill."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, hard))
    try:
        hoard = [bytearray(2**26) for _ in range(1000)]
        raise AssertionError(f"{len(hoard)} blocks fitted below the limit")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _out_of_memory_killer() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


VENOMS = {"segfault": _segfault, "memory": _exhaust_memory, "killer": _out_of_memory_killer}


def _bend_the_clock(seconds: float) -> None:
    """What this process takes for the time of day is wrong from here on, in every module that asks for it."""
    real_time, real_datetime = time.time, datetime
    time.time = lambda: real_time() + seconds

    class Likewise(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real_datetime)

    class Wrong(real_datetime, metaclass=Likewise):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real_datetime.now(tz) + timedelta(seconds=seconds)

    for module in list(sys.modules.values()):
        if getattr(module, "datetime", None) is real_datetime:
            module.datetime = Wrong  # type: ignore[attr-defined]
