"""What a person asks for: signals whatever their state, loans of them for some assets, failed ones once more."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from signal_pipeline.db import claims
from signal_pipeline.db.claims import Failure, Requested, claim_pending
from signal_pipeline.db.signals import clear_phases
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.errors import ClaimLost
from signal_pipeline_tests.db.rows import add_signals, at_work, change, claim_settings, expire, row_of

SETTINGS = claim_settings()


def request(engine: Engine, ids: list[UUID], *, whole: bool = True, by: str = "a person") -> Requested:
    return claims.claim_requested(engine, ids, token=uuid4(), settings=SETTINGS, claimed_by=by, whole=whole)


def one_of_each(engine: Engine) -> dict[str, UUID]:
    """A signal in every state: waiting, completed, failed, live with a worker, and left by a dead one."""
    ids = add_signals(engine, 5)
    (claim,) = claim_pending(engine, settings=SETTINGS, claimed_by="host:7", limit=4).claims
    with engine.begin() as conn:
        claims.complete(conn, claim.token, ids[:1])
        claims.fail(conn, claim.token, ids[1:2], Failure(FailureReason.CSV_ERROR, Stage.LOAD, "row 3"))
    change(engine, "UPDATE raw_signals SET attempts = 2 WHERE processing_status IN ('completed', 'failed')")
    expire(engine, ids[3:4])
    return dict(zip(("completed", "failed", "live", "expired", "pending"), ids, strict=True))


def test_a_whole_run_takes_every_signal_that_nobody_is_at(engine: Engine) -> None:
    each = one_of_each(engine)
    unknown = uuid4()
    got = request(engine, [*each.values(), unknown])
    assert set(got.refused) == {each["live"], unknown}
    assert "not in raw_signals" in got.refused[unknown]
    assert got.claim.signal_ids == (each["completed"], each["failed"], each["expired"], each["pending"])
    for signal_id in got.claim.signal_ids:
        row = row_of(engine, signal_id)
        assert (row.processing_status, row.claim_token, row.claimed_by) == ("processing", got.claim.token, "a person")
        assert row.is_live
        assert row.attempts == 0


def test_a_live_signal_is_refused_naming_its_holder_and_until_when(engine: Engine) -> None:
    each = one_of_each(engine)
    got = request(engine, [each["live"]])
    row = row_of(engine, each["live"])
    assert got.claim.signal_ids == ()
    assert "held by host:7 until" in got.refused[each["live"]]
    assert f"{row.lease_expires_at:%Y-%m-%d %H:%M:%S} UTC" in got.refused[each["live"]]
    assert row.claimed_by == "host:7"


def test_a_signal_that_is_asked_for_twice_is_claimed_once(engine: Engine) -> None:
    ids = add_signals(engine, 1)
    assert request(engine, ids * 2).claim.signal_ids == tuple(ids)


def test_asking_for_nothing_claims_nothing(engine: Engine) -> None:
    assert request(engine, []).claim.signal_ids == ()


def test_attempts_count_anew_only_for_final_signals(engine: Engine) -> None:
    """A signal left by a dead worker keeps its count: asking for it must not hide a crash loop."""
    each = one_of_each(engine)
    at_work(engine, [each["expired"]], attempts=2)
    expire(engine, [each["expired"]])
    request(engine, [each["expired"], each["failed"]])
    assert row_of(engine, each["expired"]).attempts == 2
    assert row_of(engine, each["failed"]).attempts == 0


def test_a_loan_changes_no_status_and_is_given_back_as_it_was(engine: Engine) -> None:
    each = one_of_each(engine)
    before = {name: row_of(engine, i) for name, i in each.items()}
    got = request(engine, list(each.values()), whole=False)
    assert set(got.refused) == {each["live"]}
    for name in ("completed", "failed", "expired", "pending"):
        row = row_of(engine, each[name])
        assert (row.processing_status, row.claim_token) == (before[name].processing_status, got.claim.token)
        assert row.attempts == before[name].attempts
    claims.start_work(engine, got.claim.token, each["pending"], lease_seconds=60)
    assert set(claims.give_back(engine, got.claim.token)) == set(got.claim.signal_ids)
    for name in ("completed", "failed", "pending"):
        row = row_of(engine, each[name])
        assert (row.processing_status, row.attempts) == (before[name].processing_status, before[name].attempts)
        assert (row.claim_token, row.claimed_by, row.lease_expires_at, row.work_started_at) == (None,) * 4


def test_a_dead_workers_signal_that_was_borrowed_can_be_fetched_right_after(engine: Engine) -> None:
    each = one_of_each(engine)
    got = request(engine, [each["expired"]], whole=False)
    assert row_of(engine, each["expired"]).is_live
    claims.give_back(engine, got.claim.token)
    found = claim_pending(engine, settings=SETTINGS, claimed_by="w").claims
    assert each["expired"] in found[0].signal_ids


@pytest.mark.parametrize("strategy", ["s1", "s2"])
def test_a_borrowed_signal_is_not_fetched_while_its_lease_lives(engine: Engine, strategy: str) -> None:
    ids = add_signals(engine, 2)
    settings = claim_settings(strategy=strategy)
    request(engine, ids[:1], whole=False)
    (first,) = claim_pending(engine, settings=settings, claimed_by="w").claims
    assert first.signal_ids == (ids[1],)
    expire(engine, ids[:1])
    (second,) = claim_pending(engine, settings=settings, claimed_by="w").claims
    assert second.signal_ids == (ids[0],)


def test_whoever_borrows_keeps_others_from_asking(engine: Engine) -> None:
    ids = add_signals(engine, 1)
    request(engine, ids, whole=False, by="the first")
    assert "held by the first" in request(engine, ids).refused[ids[0]]


def test_a_loan_cannot_be_finalized(engine: Engine) -> None:
    ids = add_signals(engine, 1)
    got = request(engine, ids, whole=False)
    with pytest.raises(ClaimLost), engine.begin() as conn:
        claims.complete(conn, got.claim.token, ids)
    assert row_of(engine, ids[0]).processing_status == "pending"


def failed_signals(engine: Engine) -> dict[FailureReason, UUID]:
    reasons = (FailureReason.CSV_ERROR, FailureReason.CRASH_LOOP, FailureReason.CANCELLED)
    ids = add_signals(engine, len(reasons))
    (claim,) = claim_pending(engine, settings=SETTINGS, claimed_by="w").claims
    at_work(engine, ids, attempts=3)
    with engine.begin() as conn:
        for signal_id, reason in zip(ids, reasons, strict=True):
            claims.fail(conn, claim.token, [signal_id], Failure(reason, Stage.LOAD, "it broke"))
    return dict(zip(reasons, ids, strict=True))


def test_failed_signals_are_tried_again_by_reason(engine: Engine) -> None:
    failed = failed_signals(engine)
    assert claims.retry_failed(engine, reason=FailureReason.CRASH_LOOP) == (failed[FailureReason.CRASH_LOOP],)
    row = row_of(engine, failed[FailureReason.CRASH_LOOP])
    assert (row.processing_status, row.attempts, row.finalized_at) == ("pending", 0, None)
    assert row.meta["failure"]["reason"] == "crash_loop"
    assert row_of(engine, failed[FailureReason.CSV_ERROR]).processing_status == "failed"


def test_all_failed_signals_are_tried_again_and_nothing_else(engine: Engine) -> None:
    failed = failed_signals(engine)
    others = add_signals(engine, 1, equipment_id=row_of(engine, failed[FailureReason.CSV_ERROR]).equipment_id)
    assert set(claims.retry_failed(engine)) == set(failed.values())
    assert claims.retry_failed(engine) == ()
    assert row_of(engine, others[0]).processing_status == "pending"


def test_a_borrowed_failed_signal_is_not_tried_again_until_the_loan_is_over(engine: Engine) -> None:
    signal_id = failed_signals(engine)[FailureReason.CSV_ERROR]
    request(engine, [signal_id], whole=False)
    assert claims.retry_failed(engine, reason=FailureReason.CSV_ERROR) == ()
    expire(engine, [signal_id])  # the borrower died, and never gave it back
    assert claims.retry_failed(engine, reason=FailureReason.CSV_ERROR) == (signal_id,)
    row = row_of(engine, signal_id)
    assert (row.claim_token, row.claimed_by, row.lease_expires_at) == (None, None, None)


def test_samples_are_not_cleared_under_a_borrower_but_a_dead_one_does_not_keep_them(engine: Engine) -> None:
    signal_id = one_of_each(engine)["completed"]
    change(engine, "UPDATE raw_signals SET phase_b = 'x'")
    request(engine, [signal_id], whole=False)
    with engine.begin() as conn:
        assert clear_phases(conn, [signal_id]) == ()
    expire(engine, [signal_id])
    with engine.begin() as conn:
        assert clear_phases(conn, [signal_id]) == (signal_id,)
