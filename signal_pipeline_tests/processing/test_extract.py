"""The work on a batch, without Dagster: what is stored, what is skipped, and who fails with whom."""

import threading
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from signal_pipeline.db import claims
from signal_pipeline.db.signals import work_done
from signal_pipeline.dsp.extract import extract_features
from signal_pipeline.processing import extract, signal_work
from signal_pipeline.processing.extract import extract_batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker, retrying
from signal_pipeline.settings import FeatureSettings, Settings
from signal_pipeline_tests.processing.conftest import Ask, Fetch
from signal_pipeline_tests.signals import (
    change,
    count,
    expire,
    failure,
    failures,
    features_hash,
    insert_signals,
    recording,
    row,
    statuses,
    totals,
    value,
)


class CountedExtraction:
    """`extract_features` as it is, counted; `fail_at` breaks that call (from 0)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> None:
        self.calls = 0
        self._real = extract_features
        self._fail_at = fail_at
        monkeypatch.setattr(signal_work, "extract_features", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls - 1 == self._fail_at:
            raise ZeroDivisionError("nobody foresaw this")
        return self._real(*args, **kwargs)


def with_features(worker: Worker, **changes: Any) -> Worker:
    settings = Settings(features=FeatureSettings(**changes), ingest=worker.settings.ingest)
    return Worker(worker.engine, settings, worker.name)


def test_a_batch_is_completed_and_counted(engine: Engine, worker: Worker, fetch: Fetch) -> None:
    ids = insert_signals(engine, 3)
    outcomes = run_batch(worker, fetch())
    assert set(outcomes.done) == set(ids)
    assert set(statuses(engine).values()) == {"completed"}
    assert count(engine, "features") == 9
    first = row(engine, ids[0])
    assert (first.attempts, first.work_started_at, first.claim_token) == (1, None, None)
    assert first.meta["features"]["windows"] == 3
    assert "validation" in first.meta
    assert totals(engine) == {"claims_total": 3, "features_total": 9, "signals_completed_total": 3}


def test_one_signal_after_the_other_gives_the_same_features(engine: Engine, worker: Worker, fetch: Fetch) -> None:
    insert_signals(engine, 4)
    run_batch(worker, fetch())
    together = features_hash(engine)
    change(engine, "DELETE FROM raw_signals")
    insert_signals(engine, 4)
    run_batch(with_features(worker, feature_extraction_parallel=False), fetch())
    assert features_hash(engine) == together


def test_an_unforeseen_error_in_one_signal_fails_that_signal_alone(
    engine: Engine, worker: Worker, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_signals(engine, 4)
    CountedExtraction(monkeypatch, fail_at=1)
    outcomes = run_batch(worker, fetch())
    (bad,) = outcomes.failed
    assert sorted(statuses(engine).values()) == ["completed"] * 3 + ["failed"]
    assert failure(engine, bad) | {"at": ""} == {
        "reason": "internal_error",
        "stage": "extract",
        "message": "ZeroDivisionError: nobody foresaw this",
        "at": "",
    }
    assert totals(engine)["signals_failed_total:extract:internal_error"] == 1


def test_a_signal_whose_rows_the_database_refuses_fails_alone(engine: Engine, worker: Worker, fetch: Fetch) -> None:
    change(engine, "ALTER TABLE features ADD CONSTRAINT test_limit CHECK (rms_a < 100)")
    good = insert_signals(engine, 2)
    (bad,) = insert_signals(engine, 1, equipment="loud", phases=1000 * recording())
    outcomes = run_batch(worker, fetch())
    assert set(outcomes.done) == set(good)
    assert failures(engine) == {bad: "internal_error"}
    assert failure(engine, bad)["stage"] == "store"
    assert "test_limit" in failure(engine, bad)["message"]
    assert "Failing row contains" not in failure(engine, bad)["message"]
    assert count(engine, "features") == 6


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sample_rate_hz": None}, ("validation_failed", "validate")),
        ({"sample_rate_hz": -50.0}, ("validation_failed", "validate")),
        ({"phases": recording(seconds=0.2)}, ("insufficient_data", "validate")),
        ({"phases": np.full((3, 2000), np.nan, dtype=np.float32)}, ("validation_failed", "validate")),
        ({"phase_b": b"no blob of ours"}, ("corrupt_blob", "load")),
        ({"crc32_a": 1}, ("corrupt_blob", "load")),
        ({"samples_count": 1999}, ("corrupt_blob", "load")),
        ({"samples_count": None}, ("corrupt_blob", "load")),
    ],
)
def test_bad_signals_fail_with_reason_and_stage_and_neighbours_complete(
    engine: Engine, worker: Worker, fetch: Fetch, changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    (good,) = insert_signals(engine, 1)
    (bad,) = insert_signals(engine, 1, equipment="bad", **changes)
    run_batch(worker, fetch())
    assert failures(engine) == {bad: expected[0]}
    assert failure(engine, bad)["stage"] == expected[1]
    assert statuses(engine)[good] == "completed"


def test_what_an_earlier_worker_stored_is_not_computed_again(
    engine: Engine, worker: Worker, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_signals(engine, 3)
    extract_batch(worker, fetch())  # and then this worker died
    before = features_hash(engine)
    expire(engine)
    extraction = CountedExtraction(monkeypatch)
    outcomes = extract_batch(worker, batch := fetch())
    assert [o.details for o in outcomes.done.values()] == [{"windows": 3, "features_new": 0}] * 3
    run_batch(worker, batch)
    assert extraction.calls == 0
    assert set(statuses(engine).values()) == {"completed"}
    assert features_hash(engine) == before


def test_a_failed_signal_that_is_retried_is_computed_again_though_its_features_are_stored(
    engine: Engine, fetch: Fetch, worker: Worker, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be completed on the strength of what was there before it failed."""
    ids = insert_signals(engine, 1)
    run_batch(worker, fetch())
    extraction = CountedExtraction(monkeypatch, fail_at=0)
    run_batch(worker, ask(ids))
    assert failures(engine) == {ids[0]: "internal_error"}
    assert claims.retry_failed(engine) == tuple(ids)
    run_batch(worker, fetch())
    assert extraction.calls == 2
    assert statuses(engine) == {ids[0]: "completed"}


def test_a_person_who_asks_again_gets_it_computed_again_and_nothing_twice(
    engine: Engine, worker: Worker, fetch: Fetch, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = insert_signals(engine, 2)
    run_batch(worker, fetch())
    before = features_hash(engine)
    extraction = CountedExtraction(monkeypatch)
    run_batch(worker, ask(ids))
    assert extraction.calls == 2
    assert features_hash(engine) == before
    assert totals(engine)["features_total"] == 6


def test_a_rerun_that_fails_keeps_the_old_results(engine: Engine, worker: Worker, fetch: Fetch, ask: Ask) -> None:
    ids = insert_signals(engine, 2)
    run_batch(worker, fetch())
    before = features_hash(engine)
    hours = value(engine, "SELECT jsonb_agg(h) FROM hourly_feature_summary AS h")
    change(engine, "UPDATE raw_signals SET crc32_a = 1 WHERE id = :id", id=ids[0])
    run_batch(worker, ask(ids))
    assert failures(engine) == {ids[0]: "corrupt_blob"}
    assert features_hash(engine) == before
    assert value(engine, "SELECT jsonb_agg(h) FROM hourly_feature_summary AS h") == hours


def test_a_new_feature_version_replaces_features_scores_and_hours(
    engine: Engine, worker: Worker, fetch: Fetch, ask: Ask
) -> None:
    ids = insert_signals(engine, 2)
    run_batch(worker, fetch())
    add_scores(engine)
    shorter = with_features(worker, window_ms=500)
    run_batch(shorter, ask(ids[:1]))
    windows = {i: value(engine, "SELECT count(*) FROM features WHERE raw_id = :id", id=i) for i in ids}
    assert windows == {ids[0]: 7, ids[1]: 3}
    assert value(engine, "SELECT count(DISTINCT feature_version) FROM features WHERE raw_id = :id", id=ids[0]) == 1
    assert value(engine, "SELECT array_agg(DISTINCT raw_id) FROM anomaly_scores") == [ids[1]]
    assert value(engine, "SELECT array_agg(windows ORDER BY hour_start) FROM hourly_feature_summary") == [7, 3]


def add_scores(engine: Engine) -> None:
    change(
        engine,
        "INSERT INTO anomaly_scores (feature_id, raw_id, equipment_id, window_start, model_kind, model_version, score, "
        "threshold, is_anomaly) SELECT id, raw_id, equipment_id, window_start, 'stream', '1', 0, 1, false "
        "FROM features",
    )


def test_signals_whose_results_wait_to_be_stored_are_not_blamed_for_a_crash(
    engine: Engine, worker: Worker, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_signals(engine, 3)
    at_work: list[int] = []

    def look(*args: Any, **kwargs: Any) -> Any:
        at_work.append(value(engine, "SELECT count(*) FROM raw_signals WHERE work_started_at IS NOT NULL"))
        return extract_features(*args, **kwargs)

    monkeypatch.setattr(signal_work, "extract_features", look)
    run_batch(with_features(worker, feature_extraction_parallel=False), fetch())
    assert at_work == [1, 1, 1]


def test_a_connection_that_breaks_in_a_transaction_is_no_failure(
    engine: Engine, worker: Worker, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_signals(engine, 3)
    broken: list[Any] = []

    def break_once(conn: Any, metas: dict[UUID, Any]) -> None:
        if not broken:
            broken.append(conn)
            conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        work_done(conn, metas)

    monkeypatch.setattr(extract, "work_done", break_once)
    run_batch(worker, fetch())
    assert broken
    assert set(statuses(engine).values()) == {"completed"}
    assert totals(engine) == {"claims_total": 3, "features_total": 9, "signals_completed_total": 3}


class BreaksAt:
    """Ends the session on the server, just before the statement of this number (from 1) goes to it."""

    def __init__(self, at: int) -> None:
        self.at, self.passed, self._lock = at, 0, threading.Lock()

    def __call__(self, conn: Any, *_: Any) -> None:
        with self._lock:
            self.passed += 1
            if self.passed != self.at:
                return
        url = conn.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.connection.driver_connection.info.backend_pid])


def test_a_connection_that_breaks_at_any_statement_stops_no_batch(engine: Engine, worker: Worker, fetch: Fetch) -> None:
    for at in range(1, 100):
        insert_signals(engine, 1, equipment=f"M{at}")
        claimed, breaks = fetch(), BreaksAt(at)
        event.listen(engine, "before_cursor_execute", breaks)
        try:
            run_batch(worker, claimed)
        finally:
            event.remove(engine, "before_cursor_execute", breaks)
        assert set(statuses(engine).values()) == {"completed"}
        if breaks.passed < at:
            break
    assert 10 < at < 99


def test_a_database_that_stays_away_stops_the_batch_and_fails_no_signal(
    engine: Engine, worker: Worker, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_signals(engine, 3)

    def always_broken(conn: Any, _: dict[UUID, Any]) -> None:
        conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with monkeypatch.context() as patch:
        patch.setattr(extract, "work_done", always_broken)
        patch.setattr(extract, "retrying", lambda function: retrying(function, seconds=0.3))
        with pytest.raises(OperationalError):
            run_batch(worker, fetch())
    assert set(statuses(engine).values()) == {"processing"}
    assert count(engine, "features") == 0
    change(engine, "UPDATE raw_signals SET work_started_at = NULL")
    expire(engine)
    run_batch(worker, fetch())
    assert set(statuses(engine).values()) == {"completed"}
