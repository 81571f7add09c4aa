"""The engine: one small pool a process, with time limits everywhere.

A server that goes silent must not hang a worker for ever: connecting, waiting for a lock, a statement and a dead TCP
peer each have their own limit. Errors of the driver are wrapped once, here.
"""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
import sqlalchemy
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from signal_pipeline.db.urls import DEAD_PEER_SECONDS, limits
from signal_pipeline.errors import DatabaseUnavailable
from signal_pipeline.settings import DatabaseSettings

NO_CONNECTION = (OperationalError, InterfaceError, PoolTimeout, psycopg.OperationalError, psycopg.InterfaceError)
"""What a statement raises when the server does not answer; psycopg's own where COPY goes past SQLAlchemy."""


WAKE_SECONDS = 0.1
"""How often a wait for an answer looks at signals such as Ctrl-C, as in psycopg."""

WARM_SECONDS = 1.0
"""So long after its last use a connection is believed to be alive, unless its socket says otherwise."""


def create_engine(url: str, settings: DatabaseSettings, *, grace_seconds: float = DEAD_PEER_SECONDS) -> Engine:
    """An engine for the domain database at `url` (`postgresql+psycopg://…`). Connects lazily.

    What `url` itself says, in its query or in its `?options=`, wins. `grace_seconds`: how long beyond the statement
    timeout an answer is waited for, from a server that should have ended the statement itself.
    """
    options = {
        "timezone": "UTC",
        "statement_timeout": f"{settings.database_statement_timeout_seconds * 1000:.0f}",
        "lock_timeout": f"{settings.database_lock_timeout_seconds * 1000:.0f}",
        # a worker that is frozen in a transaction holds its rows beyond its lease: nobody could take them over
        "idle_in_transaction_session_timeout": f"{settings.database_idle_transaction_seconds * 1000:.0f}",
    }
    engine = sqlalchemy.create_engine(
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
    _ping_seldom(engine)
    if settings.database_statement_timeout_seconds:
        impatient = _impatient(settings.database_statement_timeout_seconds + grace_seconds)
        event.listen(engine, "do_connect", lambda _dialect, _record, args, kwargs: impatient.connect(*args, **kwargs))
    return engine


def _ping_seldom(engine: Engine) -> None:
    """Ask the server whether a pooled connection is alive only where that can be doubted: a claim is one round trip.

    A server that stops, or ends a session, says so, and the socket has something to be read. One that goes silent
    within `WARM_SECONDS` meets the next statement instead of the ping, as it may after any ping.
    """
    used: WeakKeyDictionary[psycopg.Connection, float] = WeakKeyDictionary()
    ask = engine.dialect.do_ping

    def remember(connection: Any, _record: Any) -> None:
        if connection is not None:
            used[connection] = monotonic()

    def is_alive(connection: Any) -> bool:
        return (monotonic() - used.get(connection, 0.0) < WARM_SECONDS and _is_quiet(connection)) or ask(connection)

    event.listen(engine, "checkin", remember)
    engine.dialect.do_ping = is_alive  # type: ignore[method-assign, assignment]


def _is_quiet(connection: psycopg.Connection) -> bool:
    """Whether the connection is open, and nothing has come from the server that nobody asked for."""
    if connection.closed:
        return False
    look = select.poll()
    look.register(connection.fileno(), select.POLLIN)
    return not look.poll(0)


def _impatient(seconds: float) -> type[psycopg.Connection]:
    """Connections that wait no longer than that for an answer.

    A server, or a proxy before it, that takes a statement and says nothing more acknowledges every packet, so TCP never
    notices; and its own statement timeout is not to be relied on.
    """

    class Impatient(psycopg.Connection):
        def wait(self, gen: Any, interval: float = WAKE_SECONDS, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, seconds if timeout is None else timeout)
            except psycopg.OperationalError as error:
                if error.sqlstate is None and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                    self.pgconn.finish()  # an answer that came now would be taken for that of the next statement
                    raise psycopg.OperationalError(f"no answer within {seconds:g} s") from error
                raise

    return Impatient


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
        # libpq says one thing on several indented lines, and ends some of them like a question
        said = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split()).removesuffix("?")
        # libpq hands on no code of a refusal, but these are the server's own words
        what, remedy = (
            ("refuses the connection", "Check the user, the password and the database that DATABASE_URL names.")
            if "FATAL:" in said
            else ("does not answer", "Check DATABASE_URL and that the server is up.")
        )
        raise DatabaseUnavailable(f"Postgres at {_where(engine)} {what}: {said}. {remedy}") from error
    except UnicodeError as error:
        if "idna" not in str(error):
            raise
        # PGHOST and service files can say it, too, where no URL was checked
        raise DatabaseUnavailable(f"Postgres at {_where(engine)}: the host is no name. Check DATABASE_URL.") from error


def _where(engine: Engine) -> str:
    url = engine.url
    hosts = url.query.get("host", ())
    host = url.host or (hosts if isinstance(hosts, str) else ", ".join(hosts)) or "local socket"
    port = url.port or url.query.get("port") or 5432
    return f"{host}:{port}, database {url.database!r},"
