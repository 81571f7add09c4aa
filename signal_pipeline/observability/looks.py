"""Asking a database by a deadline, whatever it does: takes the connection and says nothing, goes silent, is slow.

The limits of the driver and of the server hold for one statement each, and a host's name may take long to resolve; only
who does not wait for the thread that asks is sure to be in time. Not here: what is asked (`readings`).
"""

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Generic, TypeVar

from signal_pipeline.errors import DatabaseUnavailable

T = TypeVar("T")


class Look(Generic[T]):
    """One question to one database, asked again and again, by one thread at a time."""

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self._name = name
        self._ask = ask
        self._answer: Future[T] | None = None
        self._is_late = False

    def begin(self) -> None:
        """Start to ask, unless the last question is still open: a silent database gets no second one."""
        self._is_late = self._answer is not None and not self._answer.done()
        if not self._is_late:
            self._answer = Future()
            Thread(target=self._work, args=(self._answer,), name=f"look-{self._name}", daemon=True).start()

    def answer(self, seconds: float) -> T:
        """What was found, within `seconds`. Raises `DatabaseUnavailable` without it, and whatever the look raised.

        An answer that comes later is never used: it would be of an earlier moment than it is told.
        """
        if self._answer is None or self._is_late:
            raise DatabaseUnavailable(f"{self._name} has not yet answered what it was asked before")
        wait([self._answer], timeout=max(0.0, seconds))
        if not self._answer.done():
            raise DatabaseUnavailable(f"{self._name} has not answered by the deadline, METRICS_TIMEOUT_SECONDS")
        return self._answer.result()

    def _work(self, answer: Future[T]) -> None:
        try:
            answer.set_result(self._ask())
        except BaseException as error:  # it is the asker's: raised by `answer`
            answer.set_exception(error)
