"""Results of signals that are worked on at once: how many bytes of them wait, and what stops the work."""

from collections.abc import Callable
from threading import Thread
from time import monotonic, sleep
from uuid import UUID, uuid4

import pytest

from signal_pipeline.processing.in_threads import WAITING_BYTES, in_threads

THREADS = 2


class Made:
    """Work that notes what was begun."""

    def __init__(self) -> None:
        self.begun: list[UUID] = []

    def __call__(self, signal_id: UUID) -> UUID:
        self.begun.append(signal_id)
        return signal_id


def when_it_stands(count: Callable[[], int], at_least: int) -> int:
    """The count once it has reached `at_least` and has not moved for a while."""
    deadline = monotonic() + 30
    while count() < at_least and monotonic() < deadline:
        sleep(0.01)
    before = -1
    while before != (now := count()):
        before = now
        sleep(0.2)
    return now


def test_no_signal_is_begun_while_too_many_bytes_wait() -> None:
    ids, work = [uuid4() for _ in range(30)], Made()
    results = in_threads(THREADS, ids, work, lambda _: WAITING_BYTES // 2)
    for taken in range(1, len(ids) + 1):
        next(results)
        if taken in (1, 15):
            untaken = when_it_stands(lambda: len(work.begun), min(len(ids), taken + 2)) - taken
            assert untaken <= 2 + THREADS - 1  # two fill the room; a thread may have been at work when they did
    assert sorted(work.begun) == sorted(ids)


def test_small_results_do_not_hold_the_threads_up() -> None:
    ids, work = [uuid4() for _ in range(30)], Made()
    results = in_threads(THREADS, ids, work, lambda _: 1000)
    next(results)
    assert when_it_stands(lambda: len(work.begun), THREADS + 1) > THREADS + 1
    results.close()


@pytest.mark.parametrize("size", [0, 10 * WAITING_BYTES])
def test_every_signal_comes_once_however_large_its_result(size: int) -> None:
    ids = [uuid4() for _ in range(20)]
    assert sorted(i for i, _ in in_threads(THREADS, ids, Made(), lambda _: size)) == sorted(ids)


def test_threads_that_wait_for_room_end_when_nobody_takes_any_more() -> None:
    ids, work = [uuid4() for _ in range(30)], Made()
    results = in_threads(THREADS, ids, work, lambda _: WAITING_BYTES)
    next(results)
    begun = when_it_stands(lambda: len(work.begun), 2)
    closing = Thread(target=results.close, daemon=True)
    closing.start()
    closing.join(timeout=30)
    assert not closing.is_alive()
    assert len(work.begun) == begun


def test_an_error_of_the_work_ends_it_though_threads_wait_for_room() -> None:
    ids = [uuid4() for _ in range(30)]

    def work(signal_id: UUID) -> UUID:
        if signal_id == ids[3]:
            raise ZeroDivisionError("the claim is lost")
        return signal_id

    with pytest.raises(ZeroDivisionError):
        list(in_threads(THREADS, ids, work, lambda _: WAITING_BYTES))
