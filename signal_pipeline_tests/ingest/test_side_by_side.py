"""Pieces worked on in threads: in order, bounded, and with errors where they belong."""

import threading
from collections.abc import Iterator

import pytest

from signal_pipeline.ingest.side_by_side import AHEAD, THREADS, side_by_side


def test_results_come_in_the_order_of_the_pieces_whichever_is_done_first() -> None:
    second_is_done = threading.Event()

    def work(piece: int) -> int:
        if piece == 0 and THREADS > 1 and not second_is_done.wait(60):
            raise TimeoutError("nothing is done side by side")
        second_is_done.set()
        return 10 * piece

    assert list(side_by_side(work, range(50))) == [(i, 10 * i) for i in range(50)]


def test_no_more_pieces_are_taken_than_may_wait() -> None:
    taken: list[int] = []

    def pieces() -> Iterator[int]:
        for i in range(1000):
            taken.append(i)
            yield i

    results = side_by_side(lambda piece: piece, pieces())
    for given in range(100):
        next(results)
        assert len(taken) <= given + AHEAD + 2
    results.close()  # type: ignore[attr-defined]  # a generator
    assert len(taken) < 1000


def test_an_error_in_making_pieces_comes_after_all_pieces_before_it() -> None:
    def pieces() -> Iterator[int]:
        yield from range(3)
        raise ValueError("the fourth line is blank")

    got: list[int] = []
    with pytest.raises(ValueError, match="fourth"):
        got.extend(result for _, result in side_by_side(lambda piece: piece, pieces()))
    assert got == [0, 1, 2]


def test_an_error_in_the_work_comes_before_one_of_a_later_piece() -> None:
    def pieces() -> Iterator[int]:
        yield from range(3)
        raise ValueError("later")

    def work(piece: int) -> int:
        if piece == 1:
            raise KeyError("earlier")
        return piece

    with pytest.raises(KeyError, match="earlier"):
        list(side_by_side(work, pieces()))
