"""Starting, watching and ending the processes that this suite hurts. Not here: what they do (`worker`)."""

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

from signal_pipeline_tests.faults import worker
from signal_pipeline_tests.faults.stories import Story
from signal_pipeline_tests.faults.worker import LEASE_SECONDS, POLL_SECONDS, Orders

RECOVERY_SECONDS = 5 * (LEASE_SECONDS + POLL_SECONDS)
RECOVERY_LOOKS = 5
"""Promised is the lease and one look at the queue. Both five times is a broken promise, however loaded the machine:
on a busy one looks are late, and a dead worker's locks are let go late."""

PATIENCE_SECONDS = 600
"""After this long a process counts as hung. It is seconds, were the machine idle."""


def patience(story: Story) -> float:
    """After so many seconds the work on a whole story counts as hung."""
    return PATIENCE_SECONDS + len(story.ids)


def context() -> ForkServerContext:
    """Children come from a server that has imported everything once, and loaded the kernels."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["pytest", "signal_pipeline_tests.faults.preloaded"])  # pytest: its __main__
    return found


@contextmanager
def started(*all_orders: Orders, together: bool = False) -> Iterator[list[ForkServerProcess]]:
    """Workers at it, with `together` from one moment on; whatever still lives in the end, stopped or not, is killed."""
    ctx = context()
    start = ctx.Barrier(len(all_orders)) if together else None
    running = [ctx.Process(target=worker.work, args=(orders, start)) for orders in all_orders]
    for process in running:
        process.start()
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.join()


def run(orders: Orders, *, seconds: float = PATIENCE_SECONDS) -> int:
    """One worker, to its end; its exit code."""
    with started(orders) as (process,):
        return ended(process, seconds=seconds)


def supervised(give: Callable[[], Orders], n: int, *, on_death: Callable[[int], None] = lambda _: None) -> int:
    """Keep `n` workers at it, starting another for each that dies by a signal; how many did.

    `on_death` hears of each, by its process id, before its successor starts.
    """
    ctx = context()

    def start() -> ForkServerProcess:
        process = ctx.Process(target=worker.work, args=(give(),))
        process.start()
        return process

    running, died = [start() for _ in range(n)], 0
    try:
        while running:
            assert wait([p.sentinel for p in running], timeout=PATIENCE_SECONDS), "the workers hang"
            for process in [p for p in running if p.exitcode is not None]:
                running.remove(process)
                assert process.exitcode is not None
                assert process.exitcode <= 0, "a worker raised: see its log"
                if process.exitcode < 0:
                    died += 1
                    on_death(process.pid or 0)
                    running.append(start())
    finally:
        for process in running:
            process.kill()
            process.join()
    return died


def ended(process: ForkServerProcess, *, seconds: float = PATIENCE_SECONDS) -> int:
    """Wait for the end of a process; its exit code."""
    process.join(seconds)
    assert process.exitcode is not None, f"process {process.pid} hangs: nothing in {seconds:g} s"
    return process.exitcode


def wait_until(condition: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS, what: str = "") -> None:
    """Poll until `condition` holds; after `seconds` it counts as never."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what or condition} did not come true within {seconds:g} s"
        time.sleep(0.05)


def wait_until_stopped(process: ForkServerProcess) -> bool:
    """Wait for the SIGSTOP that a worker's orders hold for it; False if it ended before it came to that."""
    wait_until(lambda: process.exitcode is not None or _is_stopped(process.pid or 0), what="a worker that stops")
    return process.exitcode is None


def _is_stopped(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:  # it has ended, and its exit code is on its way
        return False


def said(log: Path) -> list[dict[str, Any]]:
    """What a worker has logged."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def events(log: Path) -> list[str]:
    """The names of what a worker has logged."""
    return [str(entry["event"]) for entry in said(log)]
