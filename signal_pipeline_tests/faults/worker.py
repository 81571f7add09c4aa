"""A worker process that can be hurt: the real claim and the real work on a batch, with a fault in a chosen place.

Started from the fork server of `processes`. A boundary is the moment before a statement or before a commit; a fault
strikes at one of them (`strike_at`). Not here: tests, and what they compare.
"""

import os
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Engine, event, text

from signal_pipeline.db import claims
from signal_pipeline.db import engine as engine_module
from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.db.engine import create_engine, is_transient
from signal_pipeline.db.urls import DEAD_PEER_SECONDS
from signal_pipeline.errors import ClaimLost
from signal_pipeline.ingest.loader import LoadOptions, load_files
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.finalize import clear_left_over
from signal_pipeline.processing.heartbeat import Heartbeat
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import (
    ClaimSettings,
    ClaimStrategy,
    DatabaseSettings,
    FeatureSettings,
    IngestSettings,
    ModelSettings,
    Settings,
)
from signal_pipeline_tests.faults import harm

LEASE_SECONDS = 2.0
POLL_SECONDS = 0.2
CSV_BATCH_SIZE = 2000

UNFINISHED = text("SELECT count(*) FROM raw_signals WHERE processing_status IN ('pending', 'processing')")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a worker is to do, and what happens to it.

    `strike_at`: the boundary (counted from 1) at which it gets `strike`. `poison`: signals in whose work `venom` does
    its work. `clock_hours`: how wrong its clock is. `limit`: signals a claim. `wait`: until all signals are
    final. `ask`: for all signals, as a person does, instead of what is pending. `temporary`: its TMPDIR.
    `home`: it works on the embedded server of that home, which it brings up, instead of `url`. `load`: it loads this
    file and does nothing else. `retain`: false clears the samples of what is completed. Times are those of the
    settings; `grace`: what a silent server gets on top.
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
    grace_seconds: int = DEAD_PEER_SECONDS
    ask: bool = False
    temporary: Path | None = None
    home: Path | None = None
    load: Path | None = None
    retain: bool = True

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
            ingest=IngestSettings(retain_raw_signals=self.retain, csv_batch_size=CSV_BATCH_SIZE),
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


def work(orders: Orders, start: Barrier | None = None) -> None:
    """The process: does what is ordered, and logs how many boundaries that took. `start` lets several go at once."""
    with orders.log.open("a") as log_file, ExitStack() as stack:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.PrintLoggerFactory(log_file),
        )
        _prepare(orders)
        url = orders.url if orders.home is None else stack.enter_context(embedded_server(orders.home, fsync=False))
        engine = create_engine(url, orders.settings.database)
        stack.callback(engine.dispose)
        boundaries = Boundaries(orders.strike_at, orders.strike)
        boundaries.watch(engine)
        if start is not None:
            start.wait()
        _obey(orders, Worker(engine, orders.settings, f"faults:{os.getpid()}"))
        log.info("worker.ends", boundaries=boundaries.passed)


def _prepare(orders: Orders) -> None:
    """What makes this process another than the rest."""
    if orders.clock_hours:
        harm.bend_the_clock(orders.clock_hours * 3600)
    if orders.poison:
        harm.lay_poison(orders.poison, orders.venom)
    if orders.temporary is not None:
        os.environ["TMPDIR"] = str(orders.temporary)
    setattr(engine_module, "DEAD_PEER_SECONDS", orders.grace_seconds)  # noqa: B010  imported there by name


def _obey(orders: Orders, worker: Worker) -> None:
    if orders.load is not None:
        load(worker, orders.load)
        return
    if orders.ask:
        ask_for_all(worker)
    drain(worker, orders)


def load(worker: Worker, path: Path) -> None:
    """Load one file, in several batches; what became of it is logged."""
    options = LoadOptions(equipment="loaded", sample_rate_hz=1000.0, recorded_at=datetime(2025, 8, 25, tzinfo=UTC))
    settings = worker.settings
    for report in load_files(
        worker.engine, [path], options=options, settings=settings.ingest, features=settings.features
    ):
        log.info("loaded", outcome=report.outcome.value)


def drain(worker: Worker, orders: Orders) -> None:
    """Claim and work until nothing is left; a lost claim and a database that is away are not the end.

    Each look at the queue is logged, with the times (s since 1970) of its beginning and end: on one machine, the
    database's.
    """
    while True:
        began = time.time()
        try:
            got = claims.claim_pending(
                worker.engine, settings=worker.settings.claims, claimed_by=worker.name, limit=orders.limit
            )
            is_full = sum(len(c.signal_ids) for c in got.claims) >= orders.limit
            log.info("looked", at=began, until=time.time(), is_full=is_full)
            _run(worker, got.claims)
            if not got.claims:
                if not orders.wait or not _unfinished(worker.engine):
                    clear_left_over(worker)
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
