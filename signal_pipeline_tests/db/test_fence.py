"""Writing under a claim: whoever lost it changes nothing, and finalizing is all or nothing."""

import threading
import time
from datetime import datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.db import claims
from signal_pipeline.db.claims import Claim, Failure
from signal_pipeline.db.features import store_features
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.errors import ClaimLost
from signal_pipeline_tests.db.rows import add_signals, expire, features_of, only_claim, row_of, statuses

BROKEN = Failure(FailureReason.VALIDATION_FAILED, Stage.VALIDATE, "the phases are noise")


def count(engine: Engine, table: str) -> int:
    with engine.connect() as conn:
        found: int = conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    return found


def test_a_fence_holds_for_a_claims_own_signals(engine: Engine) -> None:
    ids = add_signals(engine, 3)
    mine = only_claim(engine)
    with engine.begin() as conn:
        claims.fence(conn, mine.token, [ids[2], ids[0]])
        claims.fence(conn, mine.token, [])


def test_one_lost_signal_among_many_loses_the_fence_and_what_was_written(engine: Engine) -> None:
    ids = add_signals(engine, 3)
    first = only_claim(engine)
    expire(engine, ids[1:2])
    only_claim(engine)
    equipment = row_of(engine, ids[0]).equipment_id

    def write_then_fence() -> None:
        with engine.begin() as conn:
            store_features(conn, [features_of(ids[0], equipment)])
            claims.fence(conn, first.token, ids)

    with pytest.raises(ClaimLost, match=rf"1 of 3 signals were taken over, the first: {ids[1]}"):
        write_then_fence()
    assert (count(engine, "features"), count(engine, "hourly_feature_summary")) == (0, 0)


def test_an_expired_lease_that_nobody_took_is_still_ours(engine: Engine) -> None:
    ids = add_signals(engine, 1)
    mine = only_claim(engine)
    expire(engine, ids)
    with engine.begin() as conn:
        claims.fence(conn, mine.token, ids)
        claims.complete(conn, mine.token, ids)
    assert statuses(engine) == {"completed": 1}


def test_nobody_takes_over_what_is_fenced_at_this_moment(engine: Engine) -> None:
    ids = add_signals(engine, 2)
    mine = only_claim(engine)
    expire(engine, ids)
    with engine.begin() as conn:
        claims.fence(conn, mine.token, ids[:1])
        assert only_claim(engine).signal_ids == (ids[1],)


def waiting_for_a_lock(engine: Engine, *, seconds: float = 20) -> bool:
    """Whether somebody on this database comes to wait for a lock."""
    question = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with engine.connect() as conn:
            if conn.execute(question).scalar_one():
                return True
        time.sleep(0.01)
    return False


def test_a_fence_waits_for_a_concurrent_finalize_and_then_finds_the_claim_gone(engine: Engine) -> None:
    ids = add_signals(engine, 2)
    mine = only_claim(engine)
    caught: list[BaseException] = []

    def fenced() -> None:
        try:
            with engine.begin() as conn:
                claims.fence(conn, mine.token, ids)
        except ClaimLost as error:
            caught.append(error)

    with engine.begin() as finalizing:
        claims.complete(finalizing, mine.token, ids[:1])
        thread = threading.Thread(target=fenced)
        thread.start()
        assert waiting_for_a_lock(engine)
    thread.join()
    assert str(ids[0]) in str(caught[0])


def test_completing_clears_the_claim_and_an_old_failure(engine: Engine) -> None:
    ids = add_signals(engine, 2)
    with engine.begin() as conn:
        claims.fail(conn, only_claim(engine).token, ids[:1], BROKEN)
    claims.retry_failed(engine)
    assert row_of(engine, ids[0]).meta["failure"]["reason"] == "validation_failed"
    mine = Claim(row_of(engine, ids[1]).claim_token, tuple(ids[1:]))
    again = only_claim(engine)
    for found in (mine, again):
        claims.start_work(engine, found.token, found.signal_ids[0], lease_seconds=60)
        with engine.begin() as conn:
            claims.complete(conn, found.token, found.signal_ids)
    for signal_id in ids:
        row = row_of(engine, signal_id)
        assert (row.processing_status, row.meta, row.attempts) == ("completed", {}, 1)
        assert (row.claim_token, row.claimed_by, row.lease_expires_at, row.work_started_at) == (None,) * 4
        assert row.finalized_at is not None


def test_failing_says_why_and_when_on_the_databases_clock(engine: Engine) -> None:
    ids = add_signals(engine, 1)
    mine = only_claim(engine)
    claims.start_work(engine, mine.token, ids[0], lease_seconds=60)
    with engine.begin() as conn:
        claims.fail(conn, mine.token, ids, BROKEN)
    row = row_of(engine, ids[0])
    assert row.processing_status == "failed"
    assert set(row.meta["failure"]) == {"reason", "stage", "message", "at"}
    assert row.meta["failure"]["reason"] == "validation_failed"
    assert row.meta["failure"]["stage"] == "validate"
    assert row.meta["failure"]["message"] == "the phases are noise"
    assert datetime.fromisoformat(row.meta["failure"]["at"]) == row.finalized_at
    assert (row.claim_token, row.claimed_by, row.lease_expires_at, row.work_started_at) == (None,) * 4


@pytest.mark.parametrize(
    "message", ["NUL \x00 inside", "a lone surrogate \udcff", 'quotes " and \\u0000', "x" * 10_000]
)
def test_a_signal_can_be_failed_whatever_the_message_holds(engine: Engine, message: str) -> None:
    ids = add_signals(engine, 1)
    mine = only_claim(engine)
    with engine.begin() as conn:
        claims.fail(conn, mine.token, ids, Failure(FailureReason.INTERNAL_ERROR, Stage.EXTRACT, message))
    stored = row_of(engine, ids[0]).meta["failure"]["message"]
    assert stored == message.replace("\x00", "").replace("\udcff", "\\udcff")[:4000]


def test_failing_all_leaves_what_is_final_and_what_others_hold(engine: Engine) -> None:
    ids = add_signals(engine, 5)
    mine, others = only_claim(engine, limit=4), only_claim(engine)
    with engine.begin() as conn:
        claims.complete(conn, mine.token, ids[:1])
        assert claims.fail_all(conn, mine.token, BROKEN, signal_ids=[ids[1], ids[4]]) == (ids[1],)
        assert set(claims.fail_all(conn, mine.token, BROKEN)) == set(ids[2:4])
        assert claims.fail_all(conn, mine.token, BROKEN) == ()
    assert [row_of(engine, i).processing_status for i in ids] == [
        "completed",
        "failed",
        "failed",
        "failed",
        "processing",
    ]
    assert claims.held(engine, others.token).signal_ids == (ids[4],)


@pytest.mark.parametrize("verb", ["complete", "fail"])
def test_a_stale_token_finalizes_nothing(engine: Engine, verb: str) -> None:
    ids = add_signals(engine, 3)
    stale = only_claim(engine)
    expire(engine, ids[:1])
    current = only_claim(engine)

    def finalize(token: UUID) -> None:
        with engine.begin() as conn:
            if verb == "complete":
                claims.complete(conn, token, ids)
            else:
                claims.fail(conn, token, ids, BROKEN)

    for token in (stale.token, current.token, uuid4()):
        with pytest.raises(ClaimLost):
            finalize(token)
    assert statuses(engine) == {"processing": 3}
    assert row_of(engine, ids[0]).claim_token == current.token


def test_a_signal_is_finalized_once(engine: Engine) -> None:
    ids = add_signals(engine, 1)
    mine = only_claim(engine)
    with engine.begin() as conn:
        claims.complete(conn, mine.token, ids)
    with pytest.raises(ClaimLost), engine.begin() as conn:
        claims.complete(conn, mine.token, ids)
    with engine.begin() as conn:
        assert claims.fail_all(conn, mine.token, BROKEN) == ()
    assert row_of(engine, ids[0]).processing_status == "completed"
