"""Real processes that start their work at the same moment. Not here: what they do, and tests.

They come from a fork server that has imported the database code once: no process inherits a connection or a thread
of pytest, and starting eight costs little.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 400


def context() -> ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["pytest", "signal_pipeline_tests.db.small_worker"])  # pytest: its __main__
    return found


def contend(work: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> list[T]:
    """`work(*arguments[i])` in a process each, let go at a barrier; their results in order.

    `work` is a module's function; it is called as `work(start, *arguments)` and calls `start()` once it is connected.
    """
    ctx = context()
    barrier = ctx.Barrier(len(arguments))
    started: list[tuple[ForkServerProcess, Connection]] = []
    for own in arguments:
        receiver, sender = ctx.Pipe(duplex=False)
        process = ctx.Process(target=_contender, args=(barrier, sender, work, own))
        process.start()
        sender.close()
        started.append((process, receiver))
    try:
        return [_result(process, receiver) for process, receiver in started]
    finally:
        for process, receiver in started:
            process.kill()
            process.join()
            receiver.close()


def _result(process: ForkServerProcess, receiver: Connection) -> Any:
    if not receiver.poll(PATIENCE_SECONDS):
        raise TimeoutError(f"process {process.pid} has said nothing for {PATIENCE_SECONDS} s")
    result = receiver.recv()
    if isinstance(result, BaseException):
        raise result
    return result


def _contender(barrier: Barrier, sender: Connection, work: Callable[..., Any], own: tuple[Any, ...]) -> None:
    try:
        result = work(lambda: barrier.wait(PATIENCE_SECONDS), *own)
    except BaseException as error:
        barrier.abort()
        sender.send(RuntimeError(f"{type(error).__name__}: {error}"))
        raise
    sender.send(result)
