"""Keeping a claim and letting it go: heartbeat, the start of the work, and what a claim still holds."""

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from signal_pipeline.db import claims
from signal_pipeline.db.claims import Claim, claim_pending
from signal_pipeline.errors import ClaimLost
from signal_pipeline_tests.db.rows import add_signals, change, claim_settings, expire, only_claim, row_of

S2 = claim_settings()


def test_a_heartbeat_renews_the_claims_own_signals_only(engine: Engine) -> None:
    ids = add_signals(engine, 4)
    mine, others = only_claim(engine, limit=2), only_claim(engine, limit=2)
    before = row_of(engine, ids[2]).lease_expires_at
    assert claims.renew(engine, mine.token, lease_seconds=3000) == frozenset(ids[:2])
    assert row_of(engine, ids[0]).lease_expires_at > before + timedelta(seconds=2000)
    assert row_of(engine, ids[2]).lease_expires_at == before
    assert claims.held(engine, others.token).signal_ids == tuple(ids[2:])


def test_a_heartbeat_never_wins_back_what_was_lost(engine: Engine) -> None:
    ids = add_signals(engine, 3)
    first = only_claim(engine)
    expire(engine, ids[:2])
    second = only_claim(engine, by="second")
    expire(engine, ids[:2])
    assert claims.renew(engine, first.token, lease_seconds=60) == frozenset(ids[2:])
    assert row_of(engine, ids[0]).claim_token == second.token
    assert not row_of(engine, ids[0]).is_live


def test_a_heartbeat_in_time_saves_a_lease_that_nobody_took(engine: Engine) -> None:
    ids = add_signals(engine, 1)
    claim = only_claim(engine)
    expire(engine, ids)
    assert claims.renew(engine, claim.token, lease_seconds=60) == frozenset(ids)
    assert claim_pending(engine, settings=S2, claimed_by="second").claims == ()


def test_starting_work_counts_an_attempt_and_renews_the_lease(engine: Engine) -> None:
    ids = add_signals(engine, 2)
    claim = only_claim(engine)
    expire(engine, ids)
    assert claims.start_work(engine, claim.token, ids[0], lease_seconds=60) == 1
    assert claims.start_work(engine, claim.token, ids[0], lease_seconds=60) == 2
    row = row_of(engine, ids[0])
    assert row.is_live
    assert row.work_started_at is not None
    assert row_of(engine, ids[1]).attempts == 0


def test_work_does_not_start_on_a_signal_that_was_lost(engine: Engine) -> None:
    ids = add_signals(engine, 1)
    first = only_claim(engine)
    expire(engine, ids)
    only_claim(engine, by="second")
    with pytest.raises(ClaimLost, match=str(ids[0])):
        claims.start_work(engine, first.token, ids[0], lease_seconds=60)
    assert row_of(engine, ids[0]).attempts == 0


def test_letting_go_gives_unfinished_attempts_back_and_the_signals_to_the_next_worker(engine: Engine) -> None:
    ids = add_signals(engine, 4)
    claim = only_claim(engine, limit=3)
    claims.start_work(engine, claim.token, ids[0], lease_seconds=60)
    claims.start_work(engine, claim.token, ids[1], lease_seconds=60)
    with engine.begin() as conn:
        claims.complete(conn, claim.token, ids[1:2])
    assert set(claims.let_go(engine, claim.token)) == {ids[0], ids[2]}
    again = only_claim(engine, by="second")
    assert again.signal_ids == (ids[0], ids[2], ids[3])
    assert [row_of(engine, i).attempts for i in ids] == [0, 1, 0, 0]


def test_letting_go_of_some_keeps_the_rest(engine: Engine) -> None:
    """Two runs may share a claim; one that stops must not take the other's signals away from it."""
    ids = add_signals(engine, 3)
    claim = only_claim(engine)
    assert claims.let_go(engine, claim.token, signal_ids=ids[:2]) == tuple(sorted(ids[:2]))
    assert [row_of(engine, i).is_live for i in ids] == [False, False, True]


def test_held_signals_come_oldest_first_and_none_left_is_a_lost_claim(engine: Engine) -> None:
    ids = add_signals(engine, 3)
    claim = only_claim(engine)
    assert claims.held(engine, claim.token) == Claim(claim.token, tuple(ids))
    with pytest.raises(ClaimLost):
        claims.held(engine, uuid4())


def test_own_claims_are_those_of_the_instance_and_its_parts_oldest_first(engine: Engine) -> None:
    ids = add_signals(engine, 8)
    own = [only_claim(engine, limit=2, by=by) for by in ("instance/a", "instance", "instance-2", "other")]
    expire(engine, ids[2:3])
    found = claims.own_claims(engine, claimed_by="instance", due_below=20)
    assert found == (
        claims.OwnClaim(own[0], is_live=True, is_due=False),
        claims.OwnClaim(own[1], is_live=False, is_due=True),
    )


def test_a_claim_with_less_left_of_its_lease_than_asked_is_due(engine: Engine) -> None:
    add_signals(engine, 2)
    claim = only_claim(engine, by="instance")
    for seconds, is_due in ((10, False), (3000, True)):
        (own,) = claims.own_claims(engine, claimed_by="instance", due_below=seconds)
        assert own == claims.OwnClaim(claim, is_live=True, is_due=is_due)


def test_only_features_of_the_current_version_count_as_extracted(engine: Engine) -> None:
    ids = add_signals(engine, 4)
    claim = only_claim(engine, limit=3)
    for signal_id, version in ((ids[0], "v2"), (ids[1], "v1"), (ids[3], "v2")):
        change(
            engine,
            """UPDATE raw_signals SET meta = jsonb_build_object('features',
               jsonb_build_object('version', CAST(:v AS text), 'windows', 7)) WHERE id = :id""",
            v=version,
            id=signal_id,
        )
    assert claims.already_extracted(engine, claim.token, version="v2") == {ids[0]: 7}
