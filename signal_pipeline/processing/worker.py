"""What every step needs: the engine, the settings, who we are; and retrying what may go away by itself."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Engine
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from signal_pipeline.db.engine import is_transient
from signal_pipeline.settings import Settings

T = TypeVar("T")

RETRY_SECONDS = 60
"""A database that stays away longer stops the run; the leases end, and another worker takes over."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One process at work. `name` is what `claimed_by` shows to people: instance, host, and process or run."""

    engine: Engine
    settings: Settings
    name: str

    @property
    def instance(self) -> str:
        """The part of the name that all workers of one Dagster instance share, whatever their hosts are called."""
        return self.name.partition("/")[0]


def worker_name(prefix: str | None = None) -> str:
    """`prefix` (default: the host's name) and the process id."""
    return f"{prefix or socket.gethostname()}:{os.getpid()}"


def retrying(function: Callable[[], T], *, seconds: float = RETRY_SECONDS) -> T:
    """Call `function`, a whole transaction, again with backoff while the database blips; other errors pass through."""
    policy = Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_delay(seconds),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        reraise=True,
    )
    return policy(function)
