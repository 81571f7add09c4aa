"""The claim under contention: real processes with connections of their own, let go at a barrier."""

import itertools
from collections import Counter
from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.db import claims, counters
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.engine import create_engine
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.db.contenders import contend
from signal_pipeline_tests.db.rows import add_signals, claim_settings, expire, statuses

pytestmark = pytest.mark.processes

Start = Callable[[], object]

WAITING = text("SELECT count(*) FROM raw_signals WHERE processing_status = 'pending' OR lease_expires_at < now()")


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def connected(url: str) -> Engine:
    engine = create_engine(url, DatabaseSettings(database_pool_size=2))
    with engine.connect() as conn:
        conn.execute(text("SELECT 1"))
    return engine


def claim_all(start: Start, url: str, strategy: str, name: str) -> list[tuple[UUID, UUID]]:
    """Claim until nothing waits; every (signal, token) that was answered."""
    engine = connected(url)
    settings = claim_settings(strategy=strategy)
    start()
    got: list[tuple[UUID, UUID]] = []
    while True:
        found = claims.claim_pending(engine, settings=settings, claimed_by=name, limit=20).claims
        got += [(i, claim.token) for claim in found for i in claim.signal_ids]
        if not found:
            with engine.connect() as conn:
                if not conn.execute(WAITING).scalar_one():
                    return got


@pytest.mark.parametrize("strategy", ["s1", "s2"])
def test_eight_processes_claim_a_thousand_signals_once_each(engine: Engine, strategy: str) -> None:
    ids = add_signals(engine, 1000)
    expired = claims.claim_pending(engine, settings=claim_settings(), claimed_by="dead", limit=100).claims[0]
    expire(engine, expired.signal_ids)
    results = contend(claim_all, [(url_of(engine), strategy, f"host:{n}") for n in range(8)])
    answered = list(itertools.chain.from_iterable(results))
    assert Counter(i for i, _ in answered) == Counter(ids)
    with engine.connect() as conn:
        stored = {(r.id, r.claim_token) for r in conn.execute(text("SELECT id, claim_token FROM raw_signals"))}
    assert stored == set(answered)
    assert statuses(engine) == {"processing": 1000}
    assert sum(1 for result in results if result) > 1


def claim_and_complete(start: Start, url: str, strategy: str, name: str) -> int:
    """Claim and complete until nothing waits, all that is counted on one shard; how many there were."""
    engine = connected(url)
    settings = claim_settings(strategy=strategy)
    completed = 0
    start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counters, "SHARDS", 1)
        while found := claims.claim_pending(engine, settings=settings, claimed_by=name, limit=5).claims:
            for claim in found:
                with engine.begin() as conn:
                    claims.complete(conn, claim.token, claim.signal_ids)
                    done = len(claim.signal_ids)
                    counters.add(conn, {"signals_completed_total": done}, {Stage.FINALIZE: [0.1] * done})
                completed += done
    engine.dispose()
    return completed


@pytest.mark.parametrize("strategy", ["s1", "s2"])
def test_eight_processes_that_claim_and_finalize_on_one_shard_count_all_and_do_not_deadlock(
    engine: Engine, strategy: str
) -> None:
    add_signals(engine, 400)
    done = contend(claim_and_complete, [(url_of(engine), strategy, f"host:{n}") for n in range(8)])
    assert sum(done) == 400
    with engine.connect() as conn:
        assert counters.totals(conn) == {"claims_total": 400, "signals_completed_total": 400}
        lasted = counters.durations(conn)
    waits, stages = (sum(n for n, _ in lasted[what].values()) for what in (counters.QUEUE, Stage.FINALIZE))
    assert (waits, stages) == (400, 400)
    assert sum(n for n, _ in lasted[Stage.CLAIM].values()) >= 400 / 5


def ask_for(start: Start, url: str, ids: list[UUID], token: UUID) -> list[UUID]:
    engine = connected(url)
    start()
    got = claims.claim_requested(engine, ids, token=token, settings=claim_settings(), claimed_by=str(token), whole=True)
    assert set(got.refused) == set(ids) - set(got.claim.signal_ids)
    return list(got.claim.signal_ids)


def test_people_who_ask_for_the_same_signals_at_once_never_share_one(engine: Engine) -> None:
    ids = add_signals(engine, 300)
    asked = [ids[:200], list(reversed(ids[100:])), ids[::2]]
    tokens = [UUID(int=n + 1) for n in range(3)]
    results = contend(ask_for, [(url_of(engine), own, token) for own, token in zip(asked, tokens, strict=True)])
    assert Counter(itertools.chain.from_iterable(results)) == Counter(ids)


def beat(start: Start, url: str, token: UUID) -> int:
    """Renew until nothing is held any more; how many beats it took."""
    engine = connected(url)
    start()
    for n in itertools.count(1):
        if not claims.renew(engine, token, lease_seconds=60):
            return n
    raise AssertionError("never reached")


def finalize(start: Start, url: str, token: UUID, ids: list[UUID]) -> int:
    """Start the work on each signal and fence and finalize them in groups, as fast as it goes."""
    engine = connected(url)
    start()
    for n, first in enumerate(range(0, len(ids), 10)):
        group = ids[first : first + 10]
        claims.start_work(engine, token, group[0], lease_seconds=60, ended=group[1:])
        with engine.begin() as conn:
            claims.fence(conn, token, group)
            if n % 2:
                claims.complete(conn, token, group[::-1])
            else:
                claims.fail(conn, token, group, BROKEN)
    return len(ids)


BROKEN = Failure(FailureReason.CSV_ERROR, Stage.LOAD, "row 3")


def test_heartbeat_and_finalize_of_one_claim_never_deadlock(engine: Engine) -> None:
    """Both lock many rows of the claim; in different orders each would wait for the other."""
    ids = add_signals(engine, 400)
    (claim,) = claims.claim_pending(engine, settings=claim_settings(), claimed_by="host", limit=400).claims
    url = url_of(engine)
    halves = [(url, claim.token, ids[:200]), (url, claim.token, ids[200:])]
    results = contend(work_or_beat, [*halves, *[(url, claim.token, None)] * 2])
    assert results[:2] == [200, 200]
    assert statuses(engine) == {"completed": 200, "failed": 200}


def work_or_beat(start: Start, url: str, token: UUID, ids: list[UUID] | None) -> int:
    return beat(start, url, token) if ids is None else finalize(start, url, token, ids)
