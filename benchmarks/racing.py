"""Worker processes that race for a queue's pending jobs: started once, sent into one race after the other.

Each opens the queue by itself and finds it warm at the start. Not here: the queues, and what the figures mean.
"""

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import TracebackType
from typing import Any, Self

from benchmarks.queues import open_queue

Fetches = list[tuple[float, int]]
"""Seconds of each fetch, and how many jobs it brought."""


@dataclass(frozen=True, slots=True)
class Race:
    """Take all `jobs` pending jobs of the queue `name` at `url`, `batch` at a time."""

    name: str
    url: str
    batch: int
    jobs: int


@dataclass(frozen=True, slots=True)
class Result:
    """Wall time of the whole race, all fetches of all workers, and claims of single rows that came too late."""

    seconds: float
    fetches: Fetches
    refused: int


def work(pipe: Connection, taken: Any) -> None:
    """A worker's life: a race at a time, until it is told None."""
    while (race := pipe.recv()) is not None:
        queue = open_queue(race.name, race.url)
        queue.warm_up()
        pipe.send("ready")
        pipe.recv()
        fetches: Fetches = []
        while taken.value < race.jobs:
            began = time.perf_counter()
            n = queue.fetch(race.batch)
            fetches.append((time.perf_counter() - began, n))
            with taken.get_lock():
                taken.value += n
        pipe.send((time.perf_counter(), fetches, queue.refused))
        queue.close()


class Workers:
    """`with Workers(16) as workers`: processes that wait for races. Forked from a server that has imported all."""

    def __init__(self, n: int) -> None:
        context: ForkServerContext = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.queues"])
        self._taken = context.Value("q", 0)
        self._pipes: list[Connection] = []
        self._processes: list[ForkServerProcess] = []
        for _ in range(n):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, self._taken), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(30)

    def race(self, race: Race, workers: int) -> Result:
        """One race of the first `workers` processes. Raises `EOFError` if one of them died."""
        self._taken.value = 0
        pipes = self._pipes[:workers]
        for pipe in pipes:
            pipe.send(race)
        for pipe in pipes:
            pipe.recv()
        began = time.perf_counter()
        for pipe in pipes:
            pipe.send("go")
        ends = [pipe.recv() for pipe in pipes]
        fetches = [fetch for _, own, _ in ends for fetch in own]
        if (claimed := sum(n for _, n in fetches)) != race.jobs:
            raise RuntimeError(f"{race.name}: {claimed} claims of {race.jobs} jobs")
        return Result(max(end for end, _, _ in ends) - began, fetches, sum(refused for _, _, refused in ends))
