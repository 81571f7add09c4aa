"""A worker on the test's own database, and batches as the queue and a person give them."""

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID, uuid4

import pytest
import structlog
from sqlalchemy import Engine

from signal_pipeline.db import claims
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings

Fetch = Callable[[], Batch]
Ask = Callable[[Sequence[UUID]], Batch]


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[structlog.typing.EventDict]]:
    """What was logged, as data. Nothing is rendered: a traceback with its locals would take seconds."""
    with structlog.testing.capture_logs() as events:
        yield events


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def worker(engine: Engine, settings: Settings) -> Worker:
    return Worker(engine, settings, "test-host/worker")


@pytest.fixture
def fetch(worker: Worker) -> Fetch:
    """What the queue has to offer, which must be one claim."""

    def take() -> Batch:
        got = claims.claim_pending(worker.engine, settings=worker.settings.claims, claimed_by=worker.name)
        (claim,) = got.claims
        return Batch(claim.token, claim.signal_ids)

    return take


@pytest.fixture
def ask(worker: Worker) -> Ask:
    """Signals in any state, as a person asks for them."""

    def take(signal_ids: Sequence[UUID]) -> Batch:
        got = claims.claim_requested(
            worker.engine,
            signal_ids,
            token=uuid4(),
            settings=worker.settings.claims,
            claimed_by=worker.name,
            whole=True,
        )
        assert not got.refused
        return Batch(got.claim.token, got.claim.signal_ids, recompute=True)

    return take
