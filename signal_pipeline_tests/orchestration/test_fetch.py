"""How many signals a run takes: by their length, by what waits, and never beyond the setting."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.event import listen

from signal_pipeline.orchestration.dispatch import (
    SAMPLES_A_RUN,
    SAMPLES_WORTH_A_RUN,
    SIGNAL_IN_SAMPLES,
    signals_a_run,
)
from signal_pipeline.orchestration.fetch import fetch, fetch_for
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ClaimSettings, Settings
from signal_pipeline_tests.signals import insert_signals

FS = 25_600


def test_runs_of_a_long_backlog_last_alike_whether_recordings_are_short_or_long() -> None:
    sizes = {s: signals_a_run([s * FS] * 4000, runs=2, at_most=1000) for s in (10, 30, 60)}
    work = [n * (s * FS + SIGNAL_IN_SAMPLES) for s, n in sizes.items()]
    assert sizes[10] > sizes[30] > sizes[60] > 10
    assert min(work) > 2 / 3 * max(work)  # shared evenly, so that none is left over


def test_a_run_of_very_short_recordings_ends_at_the_setting() -> None:
    """A claim is one bulk write, of a thousand rows at most: runs of 1 s recordings are a third as long as others."""
    assert signals_a_run([FS] * 4000, runs=2, at_most=1000) == 1000
    assert SAMPLES_A_RUN / 3 < 1000 * (FS + SIGNAL_IN_SAMPLES) < SAMPLES_A_RUN


def test_a_small_backlog_is_shared_between_the_runs() -> None:
    assert signals_a_run([10 * FS] * 300, runs=2, at_most=1000) == 150
    assert signals_a_run([10 * FS] * 300, runs=1, at_most=1000) == 300


def test_no_short_run_is_left_for_the_end() -> None:
    waiting = [10 * FS] * 1000
    sizes = []
    for runs in (2, 1, 1):
        sizes.append(signals_a_run(waiting, runs=runs, at_most=1000))
        del waiting[: sizes[-1]]
        if not waiting:
            break
    assert sizes == [500, 500]


def test_what_is_not_worth_two_runs_is_one() -> None:
    assert signals_a_run([FS] * 100, runs=2, at_most=1000) == 100


def test_a_recording_longer_than_a_run_is_claimed_alone() -> None:
    assert signals_a_run([2 * SAMPLES_A_RUN, FS], runs=2, at_most=1000) == 1


@given(st.lists(st.integers(0, 2**29), max_size=50), st.integers(1, 8), st.integers(1, 1000))
def test_a_run_is_never_empty_nor_beyond_the_setting_nor_longer_than_planned(
    samples: list[int], runs: int, at_most: int
) -> None:
    n = signals_a_run(samples, runs=runs, at_most=at_most)
    assert 1 <= n <= at_most
    assert n == 1 or sum(samples[:n]) + n * SIGNAL_IN_SAMPLES <= SAMPLES_A_RUN
    assert SAMPLES_WORTH_A_RUN < SAMPLES_A_RUN


def worker_of(engine: Engine, *, batch: int) -> Worker:
    return Worker(engine, Settings(claims=ClaimSettings(claim_batch_size=batch)), "instance/host")


def claimed(worker: Worker) -> list[int]:
    return [len(claim.signal_ids) for claim in fetch(worker).claims]


def test_fetching_goes_on_until_nothing_waits_and_never_beyond_the_setting(engine: Engine) -> None:
    insert_signals(engine, 5)
    worker = worker_of(engine, batch=2)
    assert [claimed(worker) for _ in range(4)] == [[2], [2], [1], []]


def test_the_runs_of_one_look_share_what_waits_and_look_once(engine: Engine) -> None:
    insert_signals(engine, 7)
    looks = []
    listen(engine, "after_cursor_execute", lambda *a: looks.append(a[2]) if "coalesce(samples_count" in a[2] else None)
    found = [len(claim.signal_ids) for got in fetch_for(worker_of(engine, batch=3), runs=5) for claim in got.claims]
    assert found == [3, 3, 1]
    assert len(looks) == 1


def test_fewer_long_recordings_are_claimed_for_a_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal_pipeline.orchestration.dispatch.SAMPLES_A_RUN", 3 * (2000 + SIGNAL_IN_SAMPLES))
    insert_signals(engine, 5)
    assert claimed(worker_of(engine, batch=1000)) == [3]


def test_signals_of_a_dead_worker_count_as_those_that_wait(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    insert_signals(engine, 4)
    dead = worker_of(engine, batch=4)
    assert claimed(dead) == [4]
    with engine.begin() as conn:
        conn.execute(text("UPDATE raw_signals SET lease_expires_at = now() - interval '1 second'"))
    assert claimed(worker_of(engine, batch=1000)) == [4]


def test_a_signal_whose_length_is_unknown_counts_as_a_whole_batch_of_its_csv(engine: Engine) -> None:
    insert_signals(engine, 300, samples_count=None)
    per_run = SAMPLES_A_RUN // (Settings().ingest.csv_batch_size + SIGNAL_IN_SAMPLES)
    assert claimed(worker_of(engine, batch=1000)) == [300 // ceil(300 / per_run)]
