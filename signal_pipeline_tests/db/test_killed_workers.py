"""kill -9 between any two steps, and a worker that slept past its lease: nothing is lost, twice, or changed by it."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine, text

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.db import claims, counters
from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.engine import create_engine
from signal_pipeline.db.features import store_features
from signal_pipeline.db.hours import lock_hours, recompute_hours
from signal_pipeline.db.signals import load_signal
from signal_pipeline.errors import ClaimLost
from signal_pipeline.settings import ClaimSettings, DatabaseSettings
from signal_pipeline_tests.db import small_worker
from signal_pipeline_tests.db.contenders import context
from signal_pipeline_tests.db.rows import add_equipment, add_signals, claim_settings, features_of, row_of, statuses

pytestmark = pytest.mark.processes

WORKERS = 4
DEADLINE_SECONDS = 400
SEEDS = range(1, 1 + int(os.environ.get("SEEDS", "1")))
"""One in everyday runs; SEEDS=20 for the long one. Odd seeds claim by s2, even ones by s1."""


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def run_until_final(
    engine: Engine, settings: ClaimSettings, fuses: Iterator[int | None], poison: frozenset[UUID] = frozenset()
) -> int:
    """Keep workers at it, each with the next fuse, starting another for each that was killed; how many were."""
    ctx = context()

    def start() -> ForkServerProcess:
        process = ctx.Process(target=small_worker.run, args=(url_of(engine), settings, next(fuses), poison))
        process.start()
        return process

    running = [start() for _ in range(WORKERS)]
    killed = 0
    until = time.monotonic() + DEADLINE_SECONDS
    try:
        while running:
            assert wait([p.sentinel for p in running], timeout=max(0, until - time.monotonic())), "workers are stuck"
            for process in [p for p in running if not p.is_alive()]:
                running.remove(process)
                assert process.exitcode in (0, -signal.SIGKILL)
                if process.exitcode:
                    killed += 1
                    running.append(start())
    finally:
        for process in running:
            process.kill()
            process.join()
    return killed


def stored_by_signal(engine: Engine) -> dict[UUID, NDArray[np.float64]]:
    columns = ", ".join(COLUMNS)
    with engine.connect() as conn:
        rows = conn.execute(text(f"SELECT raw_id, {columns} FROM features ORDER BY raw_id, window_start")).all()
    found: dict[UUID, list[tuple[float, ...]]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(tuple(row[1:]))
    return {signal_id: np.array(values) for signal_id, values in found.items()}


def assert_as_undisturbed(engine: Engine, ids: list[UUID]) -> None:
    """Features, hours and totals are those of a run that nobody disturbed."""
    found = stored_by_signal(engine)
    assert set(found) == set(ids)
    assert all(found[i].tobytes() == small_worker.expected_values(i).tobytes() for i in ids)
    n = len(ids) * small_worker.WINDOWS
    with engine.begin() as conn:
        assert counters.totals(conn)["features_total"] == n
        hours = conn.execute(text("SELECT * FROM hourly_feature_summary")).all()
        assert sum(hour.windows for hour in hours) == n
        recompute_hours(conn, lock_hours(conn, [(hour.equipment_id, hour.hour_start) for hour in hours]))
        again = conn.execute(text("SELECT * FROM hourly_feature_summary")).all()
        assert {tuple(hour[:-1]) for hour in again} == {tuple(hour[:-1]) for hour in hours}


@pytest.mark.parametrize("seed", SEEDS)
def test_workers_that_are_killed_between_any_steps_leave_nothing_undone_and_nothing_twice(
    engine: Engine, seed: int
) -> None:
    motors = [add_equipment(engine, name) for name in "abcdef"]
    ids = [i for motor in motors for i in add_signals(engine, 50, equipment_id=motor)]
    rng = random.Random(seed)
    kills = 24

    def fuses() -> Iterator[int | None]:
        yield from (rng.randint(1, 40) for _ in range(kills))
        while True:
            yield None

    settings = claim_settings(strategy="s2" if seed % 2 else "s1", lease_seconds=1, max_attempts=100)
    killed = run_until_final(engine, settings, fuses())
    assert killed > kills / 2
    assert statuses(engine) == {"completed": len(ids)}
    assert_as_undisturbed(engine, ids)
    with engine.connect() as conn:
        assert counters.totals(conn)["signals_completed_total"] == len(ids)


def test_a_signal_that_kills_its_workers_is_buried_at_the_cap_and_its_neighbours_finish(engine: Engine) -> None:
    ids = add_signals(engine, 30)
    poison = ids[7]

    def never() -> Iterator[None]:
        while True:
            yield None

    # a neighbour whose lease is lost because the machine stands still comes nearer to the cap, too
    settings = claim_settings(lease_seconds=5, max_attempts=3)
    assert run_until_final(engine, settings, never(), frozenset([poison])) == 3
    assert statuses(engine) == {"completed": 29, "failed": 1}
    row = row_of(engine, poison)
    assert (row.attempts, row.meta["failure"]["reason"]) == (3, "crash_loop")
    healthy = [i for i in ids if i != poison]
    assert_as_undisturbed(engine, healthy)
    assert max(row_of(engine, i).attempts for i in healthy) <= 2


def sleeper(url: str, pipe: Connection) -> None:
    """Claims, starts to work, falls asleep, and when it wakes tries to go on in every way."""
    engine = create_engine(url, DatabaseSettings())
    (claim,) = claim_pending(engine, settings=claim_settings(lease_seconds=1), claimed_by="sleeper").claims
    claims.start_work(engine, claim.token, claim.signal_ids[0], lease_seconds=1)
    with engine.connect() as conn:
        equipment_id = load_signal(conn, claim.signal_ids[0]).equipment_id
    pipe.send(claim.signal_ids)
    pipe.recv()  # asleep: the parent stops this process here, and lets it go on much later

    def store() -> None:
        with engine.begin() as conn:
            claims.fence(conn, claim.token, claim.signal_ids)
            store_features(conn, [features_of(i, equipment_id, seed=666) for i in claim.signal_ids])

    def store_first() -> None:
        with engine.begin() as conn:
            store_features(conn, [features_of(i, equipment_id, seed=666, version="v0") for i in claim.signal_ids])
            claims.fence(conn, claim.token, claim.signal_ids)

    def complete() -> None:
        with engine.begin() as conn:
            claims.complete(conn, claim.token, claim.signal_ids)

    def start() -> None:
        claims.start_work(engine, claim.token, claim.signal_ids[1], lease_seconds=1)

    refused = [is_refused(write) for write in (store, store_first, complete, start)]
    changed = (claims.renew(engine, claim.token, lease_seconds=1), claims.let_go(engine, claim.token))
    pipe.send((refused, changed))


def is_refused(write: Callable[[], None]) -> bool:
    try:
        write()
    except ClaimLost:
        return True
    return False


def test_a_worker_that_slept_past_its_lease_changes_nothing_when_it_wakes(engine: Engine) -> None:
    add_signals(engine, 5)
    ctx = context()
    here, there = ctx.Pipe()
    process = ctx.Process(target=sleeper, args=(url_of(engine), there))
    process.start()
    try:
        assert here.poll(DEADLINE_SECONDS)
        ids = list(here.recv())
        os.kill(process.pid or 0, signal.SIGSTOP)
        small_worker.run(url_of(engine), claim_settings(lease_seconds=1), None, frozenset())
        before = [tuple(row_of(engine, i)) for i in ids]
        os.kill(process.pid or 0, signal.SIGCONT)
        here.send("wake up")
        assert here.poll(DEADLINE_SECONDS)
        assert here.recv() == ([True] * 4, (frozenset(), ()))
    finally:
        process.kill()
        process.join()
    assert [tuple(row_of(engine, i)) for i in ids] == before
    assert statuses(engine) == {"completed": 5}
    assert_as_undisturbed(engine, ids)
