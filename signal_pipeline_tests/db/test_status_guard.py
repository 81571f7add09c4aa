"""The rules of a signal's state that the database itself holds, whoever writes."""

import itertools
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from signal_pipeline.db.claim_sql import A_PERSON_ASKS
from signal_pipeline.domain import Status
from signal_pipeline_tests.db.rows import add_equipment, add_signals, change

BY_ITSELF = {
    (Status.PENDING, Status.PROCESSING),
    (Status.PROCESSING, Status.COMPLETED),
    (Status.PROCESSING, Status.FAILED),
    (Status.FAILED, Status.PENDING),
    (Status.COMPLETED, Status.PENDING),
}
FOR_A_PERSON = BY_ITSELF | {(Status.COMPLETED, Status.PROCESSING), (Status.FAILED, Status.PROCESSING)}
PATH_TO = {
    Status.PENDING: (),
    Status.PROCESSING: (Status.PROCESSING,),
    Status.COMPLETED: (Status.PROCESSING, Status.COMPLETED),
    Status.FAILED: (Status.PROCESSING, Status.FAILED),
}


def set_status(conn: Connection, signal_id: UUID, status: Status) -> None:
    claim = {"token": uuid4(), "by": "me"} if status is Status.PROCESSING else {"token": None, "by": None}
    conn.execute(
        text("""
            UPDATE raw_signals SET processing_status = :status, claim_token = :token, claimed_by = :by,
                   lease_expires_at = CASE WHEN CAST(:token AS uuid) IS NOT NULL THEN now() END
            WHERE id = :id
        """),
        {"status": status.value, "id": signal_id, **claim},
    )


def signal_in(engine: Engine, status: Status) -> UUID:
    (signal_id,) = add_signals(engine, 1)
    for next_status in PATH_TO[status]:
        with engine.begin() as conn:
            set_status(conn, signal_id, next_status)
    return signal_id


@pytest.mark.parametrize("asked", [False, True], ids=["by itself", "for a person"])
def test_exactly_the_allowed_transitions_are_possible(engine: Engine, asked: bool) -> None:
    allowed = FOR_A_PERSON if asked else BY_ITSELF
    for before, after in itertools.permutations(Status, 2):
        change(engine, "DELETE FROM raw_signals")
        change(engine, "DELETE FROM equipment")
        signal_id = signal_in(engine, before)
        with engine.connect() as conn:
            if asked:
                conn.execute(A_PERSON_ASKS)
            if (before, after) in allowed:
                set_status(conn, signal_id, after)
            else:
                with pytest.raises(IntegrityError, match=f"{signal_id}: status cannot go from {before} to {after}"):
                    set_status(conn, signal_id, after)
            conn.rollback()


def test_what_a_person_asks_for_ends_with_the_transaction(engine: Engine) -> None:
    signal_id = signal_in(engine, Status.COMPLETED)
    with engine.connect() as conn:
        conn.execute(A_PERSON_ASKS)
        conn.commit()
        with pytest.raises(IntegrityError, match="from completed to processing"):
            set_status(conn, signal_id, Status.PROCESSING)


def test_a_status_that_stays_the_same_needs_no_permission(engine: Engine) -> None:
    signal_id = signal_in(engine, Status.COMPLETED)
    assert change(engine, "UPDATE raw_signals SET processing_status = 'completed' WHERE id = :id", id=signal_id) == 1


def insert(engine: Engine, **columns: Any) -> None:
    wanted = {"equipment_id": add_equipment(engine, uuid4().hex), **columns}
    names, values = ", ".join(wanted), ", ".join(f":{name}" for name in wanted)
    change(engine, f"INSERT INTO raw_signals ({names}) VALUES ({values})", **wanted)


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_a_signal_is_born_pending_or_failed(engine: Engine, status: str) -> None:
    insert(engine, processing_status=status)


@pytest.mark.parametrize("status", ["processing", "completed"])
def test_no_signal_is_born_processing_or_completed(engine: Engine, status: str) -> None:
    with pytest.raises(IntegrityError, match=f"a new signal is pending .*, not {status}"):
        insert(engine, processing_status=status)


def test_an_unknown_status_is_refused(engine: Engine) -> None:
    (signal_id,) = add_signals(engine, 1)
    with pytest.raises(IntegrityError, match="status cannot go from pending to stuck"):
        change(engine, "UPDATE raw_signals SET processing_status = 'stuck' WHERE id = :id", id=signal_id)
    with pytest.raises(IntegrityError, match="not stuck"):
        insert(engine, processing_status="stuck")


@pytest.mark.parametrize(
    ("assignment", "constraint"),
    [
        ("claim_token = gen_random_uuid()", "claim_is_whole"),
        ("claimed_by = 'me'", "claim_is_whole"),
        ("lease_expires_at = now()", "claim_is_whole"),
        ("claim_token = gen_random_uuid(), claimed_by = 'me'", "claim_is_whole"),
        ("processing_status = 'processing'", "processing_is_claimed"),
        ("attempts = -1", "attempts"),
        ("lead_in = -1", "lead_in"),
        ("lead_in = 10, first_row = 9", "lead_in"),
        ("file_hash = 'abc', meta = '{\"batch_index\": 1}'", "hash_on_batch_0"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(engine: Engine, assignment: str, constraint: str) -> None:
    (signal_id,) = add_signals(engine, 1)
    with pytest.raises(IntegrityError, match=f"ck_raw_signals_{constraint}"):
        change(engine, f"UPDATE raw_signals SET {assignment} WHERE id = :id", id=signal_id)


@pytest.mark.parametrize("meta", ["{}", '{"batch_index": 0}'])
def test_batch_0_carries_the_hash_of_its_file(engine: Engine, meta: str) -> None:
    insert(engine, file_hash="abc", meta=meta)


def test_a_file_hash_is_unique(engine: Engine) -> None:
    insert(engine, file_hash="abc")
    with pytest.raises(IntegrityError, match="uq_raw_signals_file_hash"):
        insert(engine, file_hash="abc")
