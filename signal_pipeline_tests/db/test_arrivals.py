"""When each equipment last sent a signal, whatever has become of it since."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine

from signal_pipeline.db import claims, queue
from signal_pipeline_tests.db.rows import NOON, add_equipment, add_signals, change, claim_settings, expire, only_claim


def arrived(engine: Engine) -> dict[str, timedelta]:
    """By equipment, the longest silent first: how long after noon."""
    with engine.connect() as conn:
        return {arrival.equipment: arrival.at - NOON for arrival in queue.arrivals(conn)}


def complete(engine: Engine, n: int) -> None:
    """The `n` oldest that wait are claimed and finished."""
    claim = only_claim(engine, limit=n)
    with engine.begin() as conn:
        claims.complete(conn, claim.token, claim.signal_ids)


def test_the_last_arrival_is_the_same_while_it_waits_is_worked_on_and_is_finished(engine: Engine) -> None:
    add_signals(engine, 3, equipment_id=add_equipment(engine, "M1"))
    last = {"M1": timedelta(seconds=3)}
    assert arrived(engine) == last
    complete(engine, 2)
    assert arrived(engine) == last
    expire(engine, only_claim(engine).signal_ids)
    assert arrived(engine) == last
    complete(engine, 1)
    assert arrived(engine) == last


def test_an_older_one_that_comes_back_to_the_queue_hides_no_later_one(engine: Engine) -> None:
    first, *_ = add_signals(engine, 3, equipment_id=add_equipment(engine, "M1"))
    complete(engine, 3)
    asked: dict[str, Any] = {"token": uuid4(), "settings": claim_settings(), "claimed_by": "person"}
    assert claims.claim_requested(engine, [first], **asked, whole=True).refused == {}
    assert arrived(engine) == {"M1": timedelta(seconds=3)}


def test_a_row_of_the_future_is_no_arrival_and_who_sent_none_is_not_named(engine: Engine) -> None:
    add_equipment(engine, "M0")
    signals = add_signals(engine, 2, equipment_id=add_equipment(engine, "M1"))
    add_signals(engine, 5, equipment_id=add_equipment(engine, "M2"))
    change(engine, "UPDATE raw_signals SET created_at = now() + interval '1 h' WHERE id = :id", id=signals[1])
    assert list(arrived(engine).items()) == [("M1", timedelta(seconds=1)), ("M2", timedelta(seconds=5))]
