"""The fetch and the lease: who gets which signals, and what becomes of a dead worker's. One process; see the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from signal_pipeline.db import claim_sql, claims, counters
from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.engine import create_engine
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.db.rows import (
    add_signals,
    at_work,
    change,
    claim_settings,
    expire,
    only_claim,
    row_of,
    statuses,
)

S2 = claim_settings()
strategies = pytest.mark.parametrize("strategy", ["s1", "s2"])


@strategies
def test_the_oldest_signals_are_claimed_first(engine: Engine, strategy: str) -> None:
    ids = add_signals(engine, 30)
    assert only_claim(engine, limit=10, strategy=strategy).signal_ids == tuple(ids[:10])
    assert only_claim(engine, limit=7, strategy=strategy).signal_ids == tuple(ids[10:17])
    assert statuses(engine) == {"processing": 17, "pending": 13}


@strategies
def test_a_claim_names_its_holder_and_ends_a_lease_from_now_on_the_databases_clock(
    engine: Engine, strategy: str
) -> None:
    add_signals(engine, 1)
    claim = only_claim(engine, strategy=strategy, by="host:42")
    with engine.connect() as conn:
        now = conn.execute(text("SELECT clock_timestamp()")).scalar_one()
    row = row_of(engine, claim.signal_ids[0])
    assert (row.processing_status, row.claim_token, row.claimed_by) == ("processing", claim.token, "host:42")
    assert timedelta() < row.lease_expires_at - now <= timedelta(seconds=60)
    assert row.lease_expires_at == row.claimed_at + timedelta(seconds=60)
    assert (row.attempts, row.work_started_at) == (0, None)


@strategies
@pytest.mark.parametrize("limit", [0, 5])
def test_an_empty_queue_gives_no_claim(engine: Engine, strategy: str, limit: int) -> None:
    found = claim_pending(engine, settings=claim_settings(strategy=strategy), claimed_by="worker", limit=limit)
    assert found == claims.Claimed((), ())


def test_a_fetch_is_one_statement_also_when_nothing_waits(engine: Engine) -> None:
    """Sensors and idle workers ask for ever: whether poison is left behind is answered on the way."""
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, statement, *_rest: sent.append(statement))
    add_signals(engine, 2)
    for n in (2, 0):
        sent.clear()
        found = claim_pending(engine, settings=S2, claimed_by="worker", limit=5)
        assert (sum(len(claim.signal_ids) for claim in found.claims), len(sent)) == (n, 1)


def test_the_default_limit_is_the_batch_size(engine: Engine) -> None:
    add_signals(engine, 203)
    assert len(only_claim(engine).signal_ids) == 200


def test_s2_passes_over_a_locked_row_without_waiting(engine: Engine) -> None:
    ids = add_signals(engine, 3)
    with engine.begin() as other:
        other.execute(text("SELECT 1 FROM raw_signals WHERE id = :id FOR UPDATE"), {"id": ids[0]})
        assert only_claim(engine).signal_ids == tuple(ids[1:])  # lock_timeout is 60 s: a fetch that waited would raise


def test_s1_skips_a_signal_that_was_taken_since_it_looked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = add_signals(engine, 3)
    other = only_claim(engine, limit=1)
    everything = text("SELECT id FROM raw_signals ORDER BY created_at LIMIT :n")
    monkeypatch.setattr(claim_sql, "CANDIDATES", everything)
    assert only_claim(engine, strategy="s1").signal_ids == tuple(ids[1:])
    assert row_of(engine, ids[0]).claim_token == other.token


@contextmanager
def taking_what_was_seen(engine: Engine, *, times: int) -> Iterator[list[int]]:
    """So often another worker claims all that a fetch by S1 has just seen; how many it took each time."""
    took: list[int] = []

    def take(conn: Connection, _cursor: Any, _s: str, _p: Any, context: Any, _many: bool) -> None:
        if getattr(context, "invoked_statement", None) is claim_sql.CANDIDATES and len(took) < times:
            took.append(len(only_claim(other, limit=10).signal_ids))

    other = create_engine(engine.url.render_as_string(hide_password=False), DatabaseSettings())
    event.listen(engine, "after_cursor_execute", take)
    yield took
    other.dispose()


def test_s1_looks_again_when_others_took_all_that_it_saw(engine: Engine) -> None:
    """An empty fetch ends `process`: it must not be empty while signals wait."""
    ids = add_signals(engine, 100)
    with taking_what_was_seen(engine, times=4) as took:
        assert only_claim(engine, limit=10, strategy="s1").signal_ids == tuple(ids[40:50])
    assert took == [10] * 4


def test_s1_does_not_look_for_ever_when_others_are_always_faster(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "S1_LOOKS", 3)
    add_signals(engine, 100)
    with taking_what_was_seen(engine, times=1000) as took:
        found = claim_pending(engine, settings=claim_settings(strategy="s1"), claimed_by="slow", limit=10)
    assert (found.claims, took) == ((), [10] * 3)


@strategies
def test_only_expired_leases_are_claimed_again(engine: Engine, strategy: str) -> None:
    ids = add_signals(engine, 4)
    before = only_claim(engine, strategy=strategy)
    expire(engine, ids[2:])
    again = only_claim(engine, strategy=strategy, by="second")
    assert again.signal_ids == tuple(ids[2:])
    assert again.token != before.token
    assert claims.held(engine, before.token).signal_ids == tuple(ids[:2])


@strategies
def test_expired_leases_come_before_waiting_signals(engine: Engine, strategy: str) -> None:
    ids = add_signals(engine, 4)
    lost = only_claim(engine, limit=4, strategy=strategy).signal_ids
    expire(engine, lost[2:])
    late = add_signals(engine, 1, equipment_id=row_of(engine, ids[0]).equipment_id)
    change(engine, "UPDATE raw_signals SET created_at = created_at - interval '1 day' WHERE id = ANY(:ids)", ids=late)
    assert only_claim(engine, limit=2, strategy=strategy).signal_ids == tuple(ids[2:])


@strategies
def test_no_statement_of_the_claim_takes_a_time_from_the_worker(engine: Engine, strategy: str) -> None:
    """So a clock that is off by an hour changes nothing: what is sent holds no time at all."""
    sent: list[object] = []

    def note(_c: object, _cursor: object, _statement: str, parameters: dict[str, object], *_rest: object) -> None:
        sent.extend(parameters.values() if isinstance(parameters, dict) else parameters)

    event.listen(engine, "before_cursor_execute", note)
    ids = add_signals(engine, 2)
    sent.clear()
    claim = only_claim(engine, strategy=strategy)
    claims.start_work(engine, claim.token, ids[0], lease_seconds=60)
    claims.renew(engine, claim.token, lease_seconds=60)
    claims.let_go(engine, claim.token)
    assert sent
    assert not [value for value in sent if isinstance(value, datetime)]


@strategies
def test_a_signal_whose_work_had_started_is_claimed_alone(engine: Engine, strategy: str) -> None:
    ids = add_signals(engine, 5)
    first = only_claim(engine, strategy=strategy)
    claims.start_work(engine, first.token, ids[1], lease_seconds=60)
    claims.start_work(engine, first.token, ids[3], lease_seconds=60)
    expire(engine, ids)
    found = claim_pending(engine, settings=claim_settings(strategy=strategy), claimed_by="second").claims
    assert [claim.signal_ids for claim in found] == [(ids[0], ids[2], ids[4]), (ids[1],), (ids[3],)]
    assert len({first.token, *(claim.token for claim in found)}) == 4
    assert [row_of(engine, i).attempts for i in ids] == [0, 1, 0, 1, 0]
    assert row_of(engine, ids[1]).work_started_at is None


@strategies
def test_signals_whose_work_had_ended_are_claimed_together(engine: Engine, strategy: str) -> None:
    """Finished, but not stored yet: their worker's death is not their fault."""
    ids = add_signals(engine, 4)
    first = only_claim(engine, strategy=strategy)
    for i in range(3):
        claims.start_work(engine, first.token, ids[i], lease_seconds=60, ended=ids[:i])
    expire(engine, ids)
    found = claim_pending(engine, settings=claim_settings(strategy=strategy), claimed_by="second").claims
    assert [claim.signal_ids for claim in found] == [(ids[0], ids[1], ids[3]), (ids[2],)]
    assert [row_of(engine, i).attempts for i in ids] == [1, 1, 1, 0]


def test_work_that_ended_under_another_claim_is_left_alone(engine: Engine) -> None:
    ids = add_signals(engine, 2)
    mine, others = only_claim(engine, limit=1), only_claim(engine, limit=1)
    claims.start_work(engine, others.token, ids[1], lease_seconds=60)
    claims.start_work(engine, mine.token, ids[0], lease_seconds=60, ended=[ids[1]])
    assert row_of(engine, ids[1]).work_started_at is not None


@strategies
def test_at_the_attempt_cap_a_signal_fails_as_a_crash_loop(engine: Engine, strategy: str) -> None:
    ids = add_signals(engine, 3)
    settings = claim_settings(strategy=strategy, max_attempts=2)
    for expected in (1, 2):
        found = {
            i: c.token for c in claim_pending(engine, settings=settings, claimed_by="w").claims for i in c.signal_ids
        }
        assert claims.start_work(engine, found[ids[1]], ids[1], lease_seconds=60) == expected
        expire(engine, ids)
    found_last = claim_pending(engine, settings=settings, claimed_by="w")
    assert found_last.crash_looped == (ids[1],)
    assert [claim.signal_ids for claim in found_last.claims] == [(ids[0], ids[2])]
    row = row_of(engine, ids[1])
    assert (row.processing_status, row.attempts) == ("failed", 2)
    assert (row.claim_token, row.claimed_by, row.lease_expires_at, row.work_started_at) == (None,) * 4
    assert row.finalized_at is not None
    failure = row.meta["failure"]
    assert (failure["reason"], failure["stage"]) == ("crash_loop", "claim")
    assert "started 2 times" in failure["message"]
    assert "(last: w)" in failure["message"]
    assert datetime.fromisoformat(failure["at"]) == row.finalized_at


def test_crash_loops_are_counted_where_they_are_buried(engine: Engine) -> None:
    ids = add_signals(engine, 2)
    only_claim(engine)
    at_work(engine, ids, attempts=3)
    expire(engine, ids)
    assert set(claim_pending(engine, settings=S2, claimed_by="w").crash_looped) == set(ids)
    with engine.connect() as conn:
        assert counters.totals(conn)["signals_failed_total:claim:crash_loop"] == 2


@strategies
def test_a_signal_whose_last_attempt_ended_well_is_no_crash_loop(engine: Engine, strategy: str) -> None:
    """Its third attempt succeeded; then its batch died of something else."""
    ids = add_signals(engine, 1)
    only_claim(engine, strategy=strategy)
    at_work(engine, ids, attempts=3)
    change(engine, "UPDATE raw_signals SET work_started_at = NULL")
    expire(engine, ids)
    found = claim_pending(engine, settings=claim_settings(strategy=strategy), claimed_by="w")
    assert (found.crash_looped, [c.signal_ids for c in found.claims]) == ((), [tuple(ids)])


@strategies
def test_a_live_worker_at_the_cap_is_left_alone(engine: Engine, strategy: str) -> None:
    ids = add_signals(engine, 1)
    only_claim(engine, strategy=strategy)
    at_work(engine, ids, attempts=3)
    assert claim_pending(engine, settings=claim_settings(strategy=strategy), claimed_by="w") == claims.Claimed((), ())


@strategies
def test_a_signal_at_the_cap_is_never_fetched_even_when_its_burial_was_missed(
    engine: Engine, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease may end between the two statements of a fetch."""
    ids = add_signals(engine, 1)
    only_claim(engine, strategy=strategy)
    at_work(engine, ids, attempts=3)
    expire(engine, ids)
    nobody = text("SELECT id FROM raw_signals WHERE :max_attempts < 0")
    monkeypatch.setattr(claim_sql, "BURY_CRASH_LOOPS", nobody)
    assert claim_pending(engine, settings=claim_settings(strategy=strategy), claimed_by="w") == claims.Claimed((), ())
    if strategy == "s1":
        monkeypatch.setattr(claim_sql, "CANDIDATES", text("SELECT id FROM raw_signals LIMIT :n"))
        assert claim_pending(engine, settings=claim_settings(strategy="s1"), claimed_by="w").claims == ()
