"""Work on several signals at once in threads, with results as they come, in bounded memory.

Threads go on while their caller stores what it has taken, but results that wait hold samples where a CSV is read again
to be kept, gigabytes of them with the largest batches. So they are bounded by their bytes. Not here: what the work is.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from threading import Condition
from typing import Final, TypeVar
from uuid import UUID

T = TypeVar("T")

AHEAD: Final = 8
"""Signals begun beyond one a thread while results wait to be stored: threads go on while a transaction runs."""

WAITING_BYTES: Final = 64 * 2**20
"""No signal is begun while the results that nobody has taken hold so much: twenty signals of ten seconds with their
samples, hundreds of thousands without. What is held at most is this, and one result a thread."""


class Untaken:
    """How many bytes the results hold that are made, but not taken; threads wait here before they add to them."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._bytes = 0
        self._over = False

    def wait_for_room(self) -> None:
        """Raises `CancelledError` if nobody will take another result."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._bytes < WAITING_BYTES)
            if self._over:
                raise CancelledError

    def add(self, n_bytes: int) -> None:
        """A result of so many bytes was made (or, below zero, taken)."""
        with self._changed:
            self._bytes += n_bytes
            self._changed.notify_all()

    def give_up(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()


def in_threads(
    n_threads: int, signal_ids: Sequence[UUID], work: Callable[[UUID], T], size: Callable[[T], int]
) -> Generator[tuple[UUID, T]]:
    """Each signal with its result, of `size` bytes, as they come. An error of `work` is raised, and the others end.

    Samples of no more signals are held than there are threads, beside what the results hold.
    """
    waiting = iter(signal_ids)
    untaken = Untaken()
    running: dict[Future[T], UUID] = {}

    def one(signal_id: UUID) -> T:
        untaken.wait_for_room()
        result = work(signal_id)
        untaken.add(size(result))
        return result

    def take(future: Future[T]) -> tuple[UUID, T]:
        signal_id, result = running.pop(future), future.result()
        untaken.add(-size(result))
        return signal_id, result

    with ThreadPoolExecutor(n_threads, thread_name_prefix="extract") as pool:
        try:
            while True:
                while len(running) < n_threads + AHEAD and (signal_id := next(waiting, None)) is not None:
                    # a copy each: what a step has bound for its log lines (run, claim) is not a thread's by itself
                    running[pool.submit(copy_context().run, one, signal_id)] = signal_id
                if not running:
                    return
                finished = wait(running, return_when=FIRST_COMPLETED).done
                while finished:
                    yield take(finished.pop())  # neither name nor set holds it while its taker works
        finally:
            untaken.give_up()
            pool.shutdown(wait=True, cancel_futures=True)
