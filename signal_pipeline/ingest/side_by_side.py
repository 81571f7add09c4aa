"""Work on a stream of pieces in a few threads, results in the order of the pieces, in bounded memory.

For work that releases the interpreter's lock: parsing a block, compressing a phase. Not here: what the work is.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS: Final = min(4, os.cpu_count() or 1)
AHEAD: Final = 2 * THREADS
"""Pieces that are under way or wait for their turn; this bounds the memory."""


def side_by_side(work: Callable[[T], R], pieces: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Each piece with its result. An error of `work`, or of making the pieces, comes when it is that piece's turn."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="ingest") as pool:
        under_way: deque[tuple[T, Future[R]]] = deque()
        source = iter(pieces)
        broken: Exception | None = None
        try:
            while True:
                try:
                    piece = next(source)
                except StopIteration:
                    break
                except Exception as error:
                    broken = error
                    break
                under_way.append((piece, pool.submit(work, piece)))
                if len(under_way) > AHEAD:
                    yield _first(under_way)
            while under_way:
                yield _first(under_way)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if broken is not None:
        raise broken


def _first(under_way: "deque[tuple[T, Future[R]]]") -> tuple[T, R]:
    piece, future = under_way.popleft()
    return piece, future.result()
