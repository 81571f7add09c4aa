"""The engine: one small pool a process, with time limits everywhere.

A server that goes silent must not hang a worker for ever: connecting, waiting for a lock, a statement and a dead TCP
peer each have their own limit. Errors of the driver are wrapped once, here.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from signal_pipeline.db.urls import limits
from signal_pipeline.errors import DatabaseUnavailable
from signal_pipeline.settings import DatabaseSettings

NO_CONNECTION = (OperationalError, InterfaceError, PoolTimeout, psycopg.OperationalError, psycopg.InterfaceError)
"""What a statement raises when the server does not answer; psycopg's own where COPY goes past SQLAlchemy."""


def create_engine(url: str, settings: DatabaseSettings) -> Engine:
    """An engine for the domain database at `url` (`postgresql+psycopg://…`). Connects lazily.

    What `url` itself says, in its query or in its `?options=`, wins.
    """
    options = {
        "timezone": "UTC",
        "statement_timeout": f"{settings.database_statement_timeout_seconds * 1000:.0f}",
        "lock_timeout": f"{settings.database_lock_timeout_seconds * 1000:.0f}",
        "idle_in_transaction_session_timeout": "600000",
    }
    return sqlalchemy.create_engine(
        url,
        pool_size=settings.database_pool_size,
        max_overflow=5,
        pool_timeout=settings.database_pool_timeout_seconds,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"application_name": "signal_pipeline"}
        | limits(
            url,
            connect_timeout=settings.database_connect_timeout_seconds,
            options=" ".join(f"-c {name}={value}" for name, value in options.items()),
        ),
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed when tried again.

    A lost or refused connection, none free in the pool, a lock or statement that took too long, a deadlock.
    """
    if isinstance(error, (DatabaseUnavailable, *NO_CONNECTION)):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def ping(engine: Engine) -> None:
    """Raise `DatabaseUnavailable`, naming host and database but never the password, unless the server answers."""
    with wrapped(engine), engine.connect() as conn:
        conn.execute(text("SELECT 1"))


@contextmanager
def wrapped(engine: Engine) -> Iterator[None]:
    """Turn the driver's connection errors into `DatabaseUnavailable`, with the cause kept."""
    try:
        yield
    except NO_CONNECTION as error:
        said = error.orig if isinstance(error, DBAPIError) else error
        raise DatabaseUnavailable(
            f"Postgres at {_where(engine)} does not answer: {str(said).strip()}. "
            "Check DATABASE_URL and that the server is up."
        ) from error


def _where(engine: Engine) -> str:
    url = engine.url
    hosts = url.query.get("host", ())
    host = url.host or (hosts if isinstance(hosts, str) else ", ".join(hosts)) or "local socket"
    port = url.port or url.query.get("port") or 5432
    return f"{host}:{port}, database {url.database!r},"
