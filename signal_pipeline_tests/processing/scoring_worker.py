"""A process that scores and completes a claim whose windows are stored, and may be killed at any boundary on the way.

A boundary is the moment before a statement, before a commit, or when a connection is given back, which is right after
a commit. No heartbeat: its statements would come at any time, and the boundaries would not be the same in every run.
Not here: tests, and what they compare.
"""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine, event

from signal_pipeline.db.engine import create_engine
from signal_pipeline.processing import score
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.finalize import complete_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ModelSettings, Settings

COMMIT, GIVEN_BACK = "commit", "connection given back"


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What to score and where. `strike_at`: the boundary (counted from 1) at which the process kills itself; every
    boundary is written down in `passed`, a line each. `at_once`: windows a transaction."""

    url: str
    models: Path
    token: UUID
    signal_ids: tuple[UUID, ...]
    at_once: int
    passed: Path
    strike_at: int | None = None


def work(orders: Orders) -> None:
    """The process: scores, completes, or dies."""
    settings = Settings(models=ModelSettings(models_dir=orders.models))
    score.WINDOWS_A_TRANSACTION = orders.at_once
    engine = create_engine(orders.url, settings.database)
    worker, batch = Worker(engine, settings, f"scoring:{os.getpid()}"), Batch(orders.token, orders.signal_ids)
    watch(engine, orders)
    scored = score.score_batch(worker, batch, orders.signal_ids)
    complete_batch(worker, batch, list(scored.done))
    engine.dispose()


def watch(engine: Engine, orders: Orders) -> None:
    """Write every boundary down, and strike at the one that is asked for."""
    n = 0

    def arrive(boundary: str) -> None:
        nonlocal n
        n += 1
        with orders.passed.open("a") as file:
            file.write(f"{' '.join(boundary.split())}\n")
        if n == orders.strike_at:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(engine, "before_cursor_execute", lambda _conn, _cursor, statement, *_: arrive(statement))
    event.listen(engine, "commit", lambda _: arrive(COMMIT))
    event.listen(engine, "checkin", lambda *_: arrive(GIVEN_BACK))
