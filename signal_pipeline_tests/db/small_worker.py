"""A worker that may be killed between any two of its steps: the claim and the store as `processing` uses them.

Its features are a function of the signal's id alone, so what an undisturbed run would store is known beforehand. Not
here: samples, Dagster, and tests.
"""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, text

from signal_pipeline.db import claims, counters
from signal_pipeline.db.claims import Claim
from signal_pipeline.db.engine import create_engine
from signal_pipeline.db.features import SignalFeatures, store_features
from signal_pipeline.db.signals import load_signal, work_done
from signal_pipeline.errors import ClaimLost
from signal_pipeline.settings import ClaimSettings, DatabaseSettings
from signal_pipeline_tests.db.rows import NOON, VERSION, features_of, values_of

WINDOWS = 3
GROUP = 10

UNFINISHED = text("SELECT count(*) FROM raw_signals WHERE processing_status IN ('pending', 'processing')")


def expected_values(signal_id: UUID) -> NDArray[np.float64]:
    """What every run, disturbed or not, must store for a signal."""
    return values_of(WINDOWS, signal_id.int % 2**32)


@dataclass(slots=True)
class Fuse:
    """SIGKILL after so many steps, or never."""

    steps: int | None

    def burn(self) -> None:
        if self.steps is not None:
            self.steps -= 1
            if self.steps <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class SmallWorker:
    """One process at work, until every signal is final. `poison`: signals that kill whoever works on them."""

    engine: Engine
    settings: ClaimSettings
    fuse: Fuse
    poison: frozenset[UUID]

    def drain(self) -> None:
        while True:
            found = claims.claim_pending(
                self.engine, settings=self.settings, claimed_by=f"test:{os.getpid()}", limit=30
            )
            self.fuse.burn()
            for claim in found.claims:
                try:
                    self.work_on(claim)
                except ClaimLost:
                    continue  # somebody else has them; a machine under load may well be slower than a lease of a second
            if not found.claims:
                with self.engine.connect() as conn:
                    if not conn.execute(UNFINISHED).scalar_one():
                        return
                time.sleep(0.05)

    def work_on(self, claim: Claim) -> None:
        held = claims.held(self.engine, claim.token).signal_ids
        stored = claims.already_extracted(self.engine, claim.token, version=VERSION)
        todo = [i for i in held if i not in stored]
        for first in range(0, len(todo), GROUP):
            group = todo[first : first + GROUP]
            self.store(claim.token, [self.extract(claim.token, i, group[:n]) for n, i in enumerate(group)])
            claims.renew(self.engine, claim.token, lease_seconds=self.settings.claim_lease_seconds)
            self.fuse.burn()
        with self.engine.begin() as conn:
            claims.complete(conn, claim.token, held)
            counters.add(conn, {"signals_completed_total": len(held)})
            self.fuse.burn()
        self.fuse.burn()

    def extract(self, token: UUID, signal_id: UUID, ended: Sequence[UUID]) -> SignalFeatures:
        lease = self.settings.claim_lease_seconds
        claims.start_work(self.engine, token, signal_id, lease_seconds=lease, ended=ended)
        if signal_id in self.poison:
            os.kill(os.getpid(), signal.SIGKILL)
        self.fuse.burn()
        with self.engine.connect() as conn:
            equipment_id = load_signal(conn, signal_id).equipment_id
        plain = features_of(signal_id, equipment_id, n=WINDOWS, start=NOON)
        plain.values[:] = expected_values(signal_id)
        return plain

    def store(self, token: UUID, group: Sequence[SignalFeatures]) -> None:
        with self.engine.begin() as conn:
            claims.fence(conn, token, [f.raw_id for f in group])
            self.fuse.burn()
            stored = store_features(conn, group)
            self.fuse.burn()
            work_done(conn, {f.raw_id: {"features": {"version": VERSION, "windows": WINDOWS}} for f in group})
            counters.add(conn, {"features_total": sum(stored.inserted.values())})
            self.fuse.burn()
        self.fuse.burn()


def run(url: str, settings: ClaimSettings, steps: int | None, poison: frozenset[UUID]) -> None:
    """The process: drains the queue, or dies of its fuse after so many steps."""
    engine = create_engine(url, DatabaseSettings())
    SmallWorker(engine, settings, Fuse(steps), poison).drain()
    engine.dispose()
