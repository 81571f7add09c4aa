"""Keeping a claim alive while its signals are worked on.

A thread renews the lease at a third of its length. It never wins back what was lost: the fence of each writing
transaction is what protects the data; the heartbeat only keeps others from taking over a live worker's signals.
"""

import threading
from contextvars import copy_context
from types import TracebackType
from typing import Self
from uuid import UUID

import structlog
from sqlalchemy import Engine

from signal_pipeline.db import claims
from signal_pipeline.db.engine import is_transient

log = structlog.get_logger(__name__)


class Heartbeat:
    """`with Heartbeat(...)`: renews at once, then every third of the lease, until the block ends."""

    def __init__(self, engine: Engine, token: UUID, *, lease_seconds: float) -> None:
        self._engine = engine
        self._token = token
        self._lease_seconds = lease_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._beat,), name=f"heartbeat-{token}", daemon=True
        )

    def __enter__(self) -> Self:
        self._renew()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._lease_seconds / 3):
            self._renew()

    def _renew(self) -> None:
        """One beat. A database that does not answer may be back for the next; until then the lease runs on."""
        try:
            still = claims.renew(self._engine, self._token, lease_seconds=self._lease_seconds)
        except Exception as error:
            if not is_transient(error):
                log.exception("heartbeat.died", claim=str(self._token))
                raise
            log.warning("heartbeat.missed", claim=str(self._token), error=str(error))
            return
        log.debug("heartbeat", claim=str(self._token), signals=len(still))
