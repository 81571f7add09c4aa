"""A lease that is kept alive while work goes on, and never won back once it is lost."""

import threading
import time
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from signal_pipeline.db import claims
from signal_pipeline.dsp.extract import extract_features
from signal_pipeline.processing import signal_work
from signal_pipeline.processing.heartbeat import Heartbeat
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ClaimSettings, Settings
from signal_pipeline_tests.processing.conftest import Fetch
from signal_pipeline_tests.signals import change, insert_signals, row, statuses, steal, value

LEASE = 6.0
"""Beats come every two seconds; a machine that stands still for the other four takes the lease away."""


@pytest.fixture
def settings() -> Settings:
    return Settings(claims=ClaimSettings(claim_lease_seconds=LEASE))


def until_renewed(engine: Engine, signal_id: UUID) -> None:
    """Wait until the lease has moved; a heartbeat that never beats runs into pytest's own time limit."""
    lease = row(engine, signal_id).lease_expires_at
    while row(engine, signal_id).lease_expires_at == lease:
        time.sleep(0.05)


def test_work_that_lasts_longer_than_its_lease_is_not_taken_over(
    engine: Engine, worker: Worker, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    (signal_id,) = insert_signals(engine, 1)
    real, beginning, done = extract_features, threading.Event(), threading.Event()

    def slowly(*args: Any, **kwargs: Any) -> Any:
        beginning.set()
        done.wait()
        return real(*args, **kwargs)

    monkeypatch.setattr(signal_work, "extract_features", slowly)
    at_work = threading.Thread(target=run_batch, args=(worker, fetch()))
    at_work.start()
    beginning.wait()
    others: list[claims.Claim] = []
    for _ in range(4):  # more than a lease long
        until_renewed(engine, signal_id)
        others += claims.claim_pending(engine, settings=worker.settings.claims, claimed_by="other").claims
    done.set()
    at_work.join()
    assert others == []
    assert statuses(engine) == {signal_id: "completed"}
    assert value(engine, "SELECT attempts FROM raw_signals") == 1


def test_a_claim_that_was_lost_is_not_won_back(engine: Engine, fetch: Fetch) -> None:
    ids = insert_signals(engine, 2)
    with Heartbeat(engine, fetch().token, lease_seconds=LEASE):
        steal(engine, ids[:1])
        stolen = row(engine, ids[0])
        until_renewed(engine, ids[1])
        assert row(engine, ids[0]) == stolen


def test_a_missed_beat_is_made_up_for_by_the_next(
    engine: Engine, fetch: Fetch, logs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (signal_id,) = insert_signals(engine, 1)
    token, real, missed = fetch().token, claims.renew, threading.Event()

    def sometimes(on: Engine, token: UUID, *, lease_seconds: float) -> frozenset[UUID]:
        if not missed.is_set():
            missed.set()
            change(on, "SELECT pg_terminate_backend(pg_backend_pid())")
        return real(on, token, lease_seconds=lease_seconds)

    with Heartbeat(engine, token, lease_seconds=LEASE):
        monkeypatch.setattr(claims, "renew", sometimes)
        missed.wait()
        until_renewed(engine, signal_id)
    assert [event["event"] for event in logs if event["log_level"] == "warning"] == ["heartbeat.missed"]


def test_beats_end_with_the_block(engine: Engine, fetch: Fetch) -> None:
    insert_signals(engine, 1)
    before = threading.active_count()
    with Heartbeat(engine, fetch().token, lease_seconds=LEASE):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
