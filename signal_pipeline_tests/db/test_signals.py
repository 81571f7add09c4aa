"""Raw signals as rows: what the work reads of one, what it leaves on it, and when samples may go."""

from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import NoResultFound

from signal_pipeline.db import claims
from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.signals import Clearable, clear_phases, clearable, load_signal, store_phases, work_done
from signal_pipeline_tests.db.rows import NOON, add_signals, change, claim_settings, row_of


def load(engine: Engine, signal_id: UUID) -> Any:
    with engine.connect() as conn:
        return load_signal(conn, signal_id)


def test_a_signal_comes_back_as_it_was_stored(engine: Engine) -> None:
    (signal_id,) = add_signals(engine, 1)
    change(engine, "UPDATE raw_signals SET first_row = 100, lead_in = 10, sample_rate_hz = 25600.5")
    with engine.begin() as conn:
        blobs = (b"\x00\xff", None, b"")
        store_phases(conn, signal_id, phases=blobs, checksums=(2**32 - 1, None, 0), samples_count=60)
    found = load(engine, signal_id)
    assert (found.phases, found.checksums) == (blobs, (2**32 - 1, None, 0))
    assert (found.samples_count, found.n_rows, found.first_row, found.lead_in) == (60, 50, 100, 10)
    assert (found.sample_rate_hz, found.recorded_at, found.file_name) == (25600.5, NOON, "file 1")
    assert found.has_samples
    assert found.source is None


def test_a_signal_without_samples_says_so(engine: Engine) -> None:
    (signal_id,) = add_signals(engine, 1)
    found = load(engine, signal_id)
    assert (found.has_samples, found.n_rows, found.phases) == (False, None, (None, None, None))


def test_a_signal_that_does_not_exist_is_an_error(engine: Engine) -> None:
    with pytest.raises(NoResultFound):
        load(engine, uuid4())


def test_finished_work_merges_into_meta_and_ends_the_attempt(engine: Engine) -> None:
    ids = add_signals(engine, 3)
    change(engine, """UPDATE raw_signals SET meta = '{"batch_index": 0, "validation": {"old": 1}}'""")
    (claim,) = claim_pending(engine, settings=claim_settings(), claimed_by="w").claims
    for signal_id in ids:
        claims.start_work(engine, claim.token, signal_id, lease_seconds=60)
    metas: dict[UUID, dict[str, Any]] = {
        ids[0]: {"validation": {"peak": np.float32("nan"), "name": "a\x00"}},
        ids[1]: {"features": {"windows": 2}},
    }
    with engine.begin() as conn:
        work_done(conn, metas)
        work_done(conn, {})
    assert row_of(engine, ids[0]).meta == {"batch_index": 0, "validation": {"peak": None, "name": "a"}}
    assert row_of(engine, ids[1]).meta == {"batch_index": 0, "validation": {"old": 1}, "features": {"windows": 2}}
    assert [row_of(engine, i).work_started_at is None for i in ids] == [True, True, False]
    assert [row_of(engine, i).attempts for i in ids] == [1, 1, 1]


def split_file(engine: Engine, name: str) -> tuple[UUID, list[UUID]]:
    """A file in three batches, each with samples."""
    source = uuid4()
    change(
        engine,
        "INSERT INTO sources (id, path, sha256, size_bytes, n_rows) VALUES (:id, :path, :name, 1, 1)",
        id=source,
        path=f"/data/{name}",
        name=name,
    )
    ids = add_signals(engine, 3)
    change(engine, "UPDATE raw_signals SET source_id = :s, phase_a = 'x' WHERE id = ANY(:ids)", s=source, ids=ids)
    return source, ids


def finish(engine: Engine, ids: list[UUID]) -> None:
    token = uuid4()
    claims.claim_requested(engine, ids, token=token, settings=claim_settings(), claimed_by="w", whole=True)
    with engine.begin() as conn:
        claims.complete(conn, token, ids)


def found_clearable(engine: Engine, ids: list[UUID]) -> tuple[Clearable, ...]:
    with engine.connect() as conn:
        return clearable(conn, ids)


def test_a_file_can_be_cleared_once_all_its_batches_are_final(engine: Engine) -> None:
    _, ids = split_file(engine, "a.csv")
    finish(engine, ids[:2])
    assert found_clearable(engine, ids[:1]) == ()
    finish(engine, ids[2:])
    assert found_clearable(engine, ids[:1]) == (Clearable("/data/a.csv", "a.csv", tuple(sorted(ids))),)


def test_signals_without_a_file_are_never_clearable(engine: Engine) -> None:
    ids = add_signals(engine, 1)
    finish(engine, ids)
    assert found_clearable(engine, ids) == ()


def test_only_completed_signals_lose_their_samples_and_only_once(engine: Engine) -> None:
    _, ids = split_file(engine, "a.csv")
    finish(engine, ids[:1])
    for expected in ((ids[0],), ()):
        with engine.begin() as conn:
            assert clear_phases(conn, ids) == expected
    assert [load(engine, i).has_samples for i in ids] == [False, True, True]


def test_samples_that_somebody_is_using_now_are_left(engine: Engine) -> None:
    _, ids = split_file(engine, "a.csv")
    finish(engine, ids)
    with engine.connect() as other, engine.begin() as conn:
        other.execute(text("SELECT 1 FROM raw_signals WHERE id = :id FOR UPDATE"), {"id": ids[0]})
        assert set(clear_phases(conn, ids)) == set(ids[1:])
