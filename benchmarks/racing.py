"""Worker processes that race for a queue's pending jobs: started once, sent into one race after the other.

Each opens a queue by itself and keeps it, as a worker does that lives for days, unless the race is to be run on new
connections: those plan their first statements anew, and touch each page of the server's for the first time. A worker
that finds nothing left rests before it looks again, as workers do, and leaves the processors to those that have work.
Not here: the queues, and what the figures mean.
"""

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import TracebackType
from typing import Any, Self

from benchmarks.queues import Queue, open_queue

REHEARSED = 12
"""Looks at a queue that is opened to be kept: psycopg prepares at the sixth, and Postgres plans five more times."""
REST_SECONDS = 0.01

Fetches = list[tuple[float, int]]
"""Seconds of each fetch, and how many jobs it brought."""


@dataclass(frozen=True, slots=True)
class Race:
    """Take `jobs` pending jobs of the queue `name` at `url`, `batch` at a time."""

    name: str
    url: str
    batch: int
    jobs: int
    anew: bool = False
    """On new connections, which are closed afterwards."""


@dataclass(frozen=True, slots=True)
class Result:
    """Wall time until the last job was taken, all fetches of all workers, and claims of a row that came too late."""

    seconds: float
    fetches: Fetches
    refused: int


def work(pipe: Connection, taken: Any) -> None:
    """A worker's life: a race at a time, until it is told None."""
    kept: dict[tuple[str, str], Queue] = {}
    while (race := pipe.recv()) is not None:
        if race.anew:
            queue = opened(race, looks=0)
        else:
            for place in [place for place in kept if place[1] != race.url]:
                kept.pop(place).close()
            queue = kept[race.name, race.url] = kept.get((race.name, race.url)) or opened(race, looks=REHEARSED)
        queue.warm_up()
        before = queue.refused
        pipe.send("ready")
        pipe.recv()
        last, fetches = run(queue, race, taken)
        pipe.send((last, fetches, queue.refused - before))
        if race.anew:
            queue.close()
    for queue in kept.values():
        queue.close()


def opened(race: Race, *, looks: int) -> Queue:
    queue = open_queue(race.name, race.url)
    for _ in range(looks):
        queue.warm_up()
    return queue


def run(queue: Queue, race: Race, taken: Any) -> tuple[float, Fetches]:
    """A worker's part in a race: when it took its last job (0: it took none), and all its fetches."""
    last, fetches = 0.0, []
    while taken.value < race.jobs:
        began = time.perf_counter()
        n = queue.fetch(race.batch)
        ended = time.perf_counter()
        fetches.append((ended - began, n))
        if n:
            last = ended
            with taken.get_lock():
                taken.value += n
        else:
            time.sleep(REST_SECONDS)
    return last, fetches


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
        return Result(max(last for last, _, _ in ends) - began, fetches, sum(refused for _, _, refused in ends))
