"""What is done to a worker from inside its own process: poison in a signal's work, and a wrong clock.

Not here: signals from outside, which its boundaries and the tests send.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from signal_pipeline.processing import extract
from signal_pipeline.processing.worker import Worker

REAL = datetime
"""By another name, so that it stays when `datetime` is replaced in every module."""


def lay_poison(poison: frozenset[UUID], venom: str) -> None:
    """Signals that do to their worker what a broken library would."""
    real: Callable[..., Any] = vars(extract)["extract_signal"]

    def poisonous(worker: Worker, signal_id: UUID, *rest: Any, **named: Any) -> Any:
        if signal_id in poison:
            VENOMS[venom]()
        return real(worker, signal_id, *rest, **named)

    setattr(extract, "extract_signal", poisonous)  # noqa: B010  imported there by name


def _segfault() -> None:
    """As from a broken extension: an address that is none is read. No core file of it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def _exhaust_memory() -> None:
    """Against a limit of the kernel's: Python raises MemoryError, as it does where a container does not kill."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, hard))
    try:
        hoard = [bytearray(2**26) for _ in range(1000)]
        raise AssertionError(f"{len(hoard)} blocks fitted below the limit")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _out_of_memory_killer() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


VENOMS = {"segfault": _segfault, "memory": _exhaust_memory, "killer": _out_of_memory_killer}


def bend_the_clock(seconds: float) -> None:
    """What this process takes for the time of day is wrong from here on, in every module that asks for it."""
    real_time = time.time
    time.time = lambda: real_time() + seconds

    class Likewise(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, REAL)

    class Wrong(datetime, metaclass=Likewise):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return REAL.now(tz) + timedelta(seconds=seconds)

    for module in list(sys.modules.values()):
        if getattr(module, "datetime", None) is REAL:
            module.datetime = Wrong  # type: ignore[attr-defined]
