"""Rows of `raw_signals` that another program wrote: whatever they claim, each fails by itself and says why."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from signal_pipeline.db import claims
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.models.signals import SIGNAL_TIMES
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.observability.status import read_failures, read_status
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings
from signal_pipeline_tests.signals import change, failures, insert_signals, statuses

HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no count": ({"samples_count": None}, "corrupt_blob"),
    "a negative count": ({"samples_count": -1}, "corrupt_blob"),
    "no samples": ({"samples_count": 0}, "corrupt_blob"),
    "another count": ({"samples_count": 1999}, "corrupt_blob"),
    "a count of eight gigabytes": ({"samples_count": 2**31 - 1}, "too_large"),
    "another checksum": ({"crc32_b": 1}, "corrupt_blob"),
    "a senseless checksum": ({"crc32_b": -(2**60)}, "corrupt_blob"),
    "a pickle": ({"phase_a": b"\x80\x04\x95", "crc32_a": None}, "corrupt_blob"),
    "nothing in a phase": ({"phase_a": b"", "crc32_a": None}, "corrupt_blob"),
    "a rate of 0": ({"sample_rate_hz": 0.0}, "validation_failed"),
    "a negative rate": ({"sample_rate_hz": -25600.0}, "validation_failed"),
    "a rate that is no number": ({"sample_rate_hz": float("nan")}, "validation_failed"),
    "an endless rate": ({"sample_rate_hz": float("inf")}, "validation_failed"),
    "a huge rate": ({"sample_rate_hz": 1e300}, "validation_failed"),
    "a tiny rate": ({"sample_rate_hz": 1e-300}, "validation_failed"),
    "no rate": ({"sample_rate_hz": None}, "validation_failed"),
    "a lead-in beyond its samples": ({"lead_in": 2**31 - 1, "first_row": 2**40}, "validation_failed"),
    "a row at the end of the world": ({"first_row": 2**63 - 1}, "validation_failed"),
    "the year 9999": ({"recorded_at": "9999-12-31T23:59:59.9+00:00"}, "validation_failed"),
    "the year 2099": ({"recorded_at": "2099-01-01T00:00:00+00:00"}, "validation_failed"),
    "a last row in ten years": ({"first_row": 315_360_000_000, "lead_in": 999}, "validation_failed"),
    "the year 1": ({"recorded_at": "0001-01-01T00:00:00+00:00"}, "validation_failed"),
    "loaded in the year 1": ({"created_at": "0001-01-01T00:00:00+00:00", "sample_rate_hz": 0.0}, "validation_failed"),
    "loaded in the year 9999": ({"created_at": "9999-12-31T23:59:59.9+00:00", "samples_count": 0}, "corrupt_blob"),
    "as many attempts as there are": ({"attempts": 2**31 - 1, "samples_count": 0}, "corrupt_blob"),
}

NO_TIMES = ("infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "12000-01-01T00:00:00+00:00")
"""Python has no form for these. In a row that a fetch returns, one would break the fetch of everybody, each time."""


def put(engine: Engine, signal_id: UUID, changes: dict[str, Any]) -> None:
    casts = {name: f"CAST(:{name} AS timestamptz)" for name in SIGNAL_TIMES}
    columns = ", ".join(f"{name} = {casts.get(name, f':{name}')}" for name in changes)
    change(engine, f"UPDATE raw_signals SET {columns} WHERE id = :signal_id", signal_id=signal_id, **changes)


def process(engine: Engine) -> None:
    worker = Worker(engine, Settings(), "test-host/worker")
    got = claims.claim_pending(engine, settings=worker.settings.claims, claimed_by=worker.name)
    with structlog.testing.capture_logs():
        for claim in got.claims:
            run_batch(worker, Batch(claim.token, claim.signal_ids))


def completed(engine: Engine) -> set[UUID]:
    with engine.connect() as conn:
        return set(conn.execute(text("SELECT id FROM raw_signals WHERE processing_status = 'completed'")).scalars())


def test_every_hostile_row_fails_with_its_reason_and_its_neighbours_complete(engine: Engine) -> None:
    good = insert_signals(engine, 2, equipment="honest")
    ids = dict(zip(HOSTILE, insert_signals(engine, len(HOSTILE), equipment="hostile"), strict=True))
    for what, (changes, _) in HOSTILE.items():
        put(engine, ids[what], changes)
    process(engine)
    found = failures(engine)
    assert {what: found.get(ids[what]) for what in HOSTILE} == {what: reason for what, (_, reason) in HOSTILE.items()}
    assert completed(engine) == set(good)
    with engine.connect() as conn:
        messages = conn.execute(text("SELECT meta -> 'failure' ->> 'message' FROM raw_signals")).scalars()
        assert all(message is None or message.isprintable() for message in messages)


@pytest.mark.parametrize(
    "meta",
    [
        {"phases": 5},
        {"validation": [], "features": "x"},
        {"batch_index": 0, "byte_offset": "x"},
        [],
        [1, {"failure": 2}],
    ],
)
def test_meta_of_any_form_leaves_a_final_signal(engine: Engine, meta: Any) -> None:
    (signal_id,) = insert_signals(engine, 1, equipment="hostile")
    put(engine, signal_id, {"meta": json.dumps(meta)})
    process(engine)
    assert statuses(engine)[signal_id] in {"completed", "failed"}
    assert read_status(engine).unfinished == 0


@pytest.mark.parametrize(
    "said", ["\x00", "\ud800", "\x1b[31m\x1b]0;owned\x07", "'; DROP TABLE raw_signals; --", "x" * 10**6]
)
def test_a_failure_can_be_stored_and_shown_whatever_its_message_holds(engine: Engine, said: str) -> None:
    (signal_id,) = insert_signals(engine, 1)
    settings = Settings()
    (claim,) = claims.claim_pending(engine, settings=settings.claims, claimed_by="test").claims
    with engine.begin() as conn:
        claims.fail(
            conn, claim.token, [signal_id], Failure(FailureReason.CSV_ERROR, Stage.LOAD, f"before {said} after")
        )
    (shown,) = read_failures(engine, limit=10)
    assert shown.message.startswith("before ")
    assert shown.message.isprintable()
    assert len(shown.message) < 1000
    assert statuses(engine) == {signal_id: "failed"}


@pytest.mark.parametrize("column", SIGNAL_TIMES)
@pytest.mark.parametrize("time", NO_TIMES)
def test_the_database_itself_refuses_a_time_that_python_has_no_form_for(engine: Engine, column: str, time: str) -> None:
    (signal_id,) = insert_signals(engine, 1)
    claims.claim_pending(engine, settings=Settings().claims, claimed_by="test")
    with pytest.raises(IntegrityError, match="ck_raw_signals_times"):
        put(engine, signal_id, {column: time})


def test_the_database_itself_refuses_a_second_row_of_one_id(engine: Engine) -> None:
    insert_signals(engine, 1)
    with pytest.raises(IntegrityError):
        insert_signals(engine, 1)
    assert len(statuses(engine)) == 1


def test_an_id_that_is_asked_for_twice_is_one_signal(engine: Engine) -> None:
    (signal_id,) = insert_signals(engine, 1)
    settings = Settings().claims
    unknown = uuid4()
    got = claims.claim_requested(
        engine, [signal_id, signal_id, unknown], token=uuid4(), settings=settings, claimed_by="test", whole=True
    )
    assert got.claim.signal_ids == (signal_id,)
    with engine.connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM raw_signals")).scalar_one() == 1
