"""The engine: its limits, what may be tried again, and that no password is ever shown."""

import socket
import threading
import traceback
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from signal_pipeline.db import engine as engine_module
from signal_pipeline.db import features
from signal_pipeline.db.engine import create_engine, is_transient, ping
from signal_pipeline.db.hours import Hour, lock_hours
from signal_pipeline.errors import DatabaseUnavailable
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.db.rows import add_signals, change, features_of, row_of

SECRET = "hunter2"  # noqa: S105  what must not be shown
PATIENT = DatabaseSettings(
    database_pool_size=1,
    database_pool_timeout_seconds=0.2,
    database_connect_timeout_seconds=2,
    database_statement_timeout_seconds=1,
    database_lock_timeout_seconds=0.25,
)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + str(error)


def test_a_server_that_is_down_is_named_without_the_password(closed_port: int) -> None:
    engine = create_engine(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:{closed_port}/plant", PATIENT)
    with pytest.raises(DatabaseUnavailable, match=rf"127\.0\.0\.1:{closed_port}, database 'plant'") as caught:
        ping(engine)
    assert "DATABASE_URL" in str(caught.value)
    assert SECRET not in everything_said(caught.value)
    assert SECRET not in repr(engine)
    assert caught.value.__cause__ is not None


def test_a_server_that_stays_silent_is_given_up(silent_port: int) -> None:
    engine = create_engine(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:{silent_port}/plant", PATIENT)
    with pytest.raises(DatabaseUnavailable, match="timeout") as caught:
        ping(engine)
    assert SECRET not in everything_said(caught.value)


def test_a_socket_folder_and_several_hosts_are_named_as_they_are(tmp_path: object) -> None:
    for query, where in (
        (f"host={tmp_path}&port=5499", f"{tmp_path}:5499"),
        ("host=a.invalid:1&host=b.invalid:2", "a"),
    ):
        engine = create_engine(f"postgresql+psycopg://me:{SECRET}@/plant?{query}", PATIENT)
        with pytest.raises(DatabaseUnavailable, match=f"Postgres at {where}") as caught:
            ping(engine)
        assert SECRET not in everything_said(caught.value)


@pytest.mark.parametrize("wrong", ["database", "username"])
def test_a_server_that_refuses_is_not_said_to_be_down(engine: Engine, wrong: str) -> None:
    url = engine.url.set(database="nowhere") if wrong == "database" else engine.url.set(username="nowhere")
    elsewhere = create_engine(url.render_as_string(hide_password=False), PATIENT)
    with pytest.raises(DatabaseUnavailable, match="refuses the connection") as caught:
        ping(elsewhere)
    assert "nowhere" in str(caught.value)
    assert "does not answer" not in str(caught.value)


def test_a_server_that_answers_passes(engine: Engine) -> None:
    ping(engine)


@pytest.fixture
def limited(engine: Engine) -> Iterator[Engine]:
    limited = create_engine(engine.url.render_as_string(hide_password=False), PATIENT)
    yield limited
    limited.dispose()


def test_every_connection_has_its_limits_and_speaks_utc(limited: Engine) -> None:
    expected = {
        "statement_timeout": "1s",
        "lock_timeout": "250ms",
        "idle_in_transaction_session_timeout": "1min",
        "timezone": "UTC",
        "application_name": "signal_pipeline",
    }
    with limited.connect() as conn:
        assert {name: conn.execute(text(f"SHOW {name}")).scalar_one() for name in expected} == expected


def test_zero_waits_for_ever(engine: Engine) -> None:
    settings = DatabaseSettings(database_statement_timeout_seconds=0, database_lock_timeout_seconds=0)
    unlimited = create_engine(engine.url.render_as_string(hide_password=False), settings)
    with unlimited.connect() as conn:
        assert conn.execute(text("SHOW statement_timeout")).scalar_one() == "0"
        assert conn.execute(text("SHOW lock_timeout")).scalar_one() == "0"
    unlimited.dispose()


def test_options_of_the_url_are_kept_and_win(engine: Engine) -> None:
    url = engine.url.update_query_dict({"options": "-c search_path=plant,public -c lock_timeout=7s"})
    own = create_engine(url.render_as_string(hide_password=False), PATIENT)
    with own.connect() as conn:
        assert conn.execute(text("SHOW search_path")).scalar_one() == "plant,public"
        assert conn.execute(text("SHOW lock_timeout")).scalar_one() == "7s"
        assert conn.execute(text("SHOW statement_timeout")).scalar_one() == "1s"
    own.dispose()


def test_parameters_of_a_failing_statement_are_not_shown(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as caught:
        change(engine, "SELECT CAST(:mine AS text) FROM nowhere", mine=SECRET)
    assert SECRET not in everything_said(caught.value)


def failing(engine: Engine, statement: str) -> BaseException:
    with pytest.raises(DBAPIError) as caught:
        change(engine, statement)
    return caught.value


def test_a_statement_and_a_lock_that_take_too_long_may_be_tried_again(engine: Engine, limited: Engine) -> None:
    assert is_transient(failing(limited, "SELECT pg_sleep(10)"))
    with engine.begin() as other:
        other.execute(text("LOCK TABLE equipment"))
        assert is_transient(failing(limited, "INSERT INTO equipment (name) VALUES ('a')"))


def test_what_is_wrong_with_the_data_is_not_tried_again(engine: Engine) -> None:
    change(engine, "INSERT INTO equipment (name) VALUES ('a')")
    twice = failing(engine, "INSERT INTO equipment (name) VALUES ('a')")
    nonsense = failing(engine, "SELECT CAST('x' AS integer)")
    assert (type(twice), type(nonsense)) == (IntegrityError, DataError)
    assert not any(is_transient(error) for error in (twice, nonsense, ValueError("no"), KeyError("no")))


def test_a_pool_without_a_free_connection_may_be_tried_again(limited: Engine) -> None:
    held = [limited.connect() for _ in range(6)]
    with pytest.raises(DatabaseUnavailable) as caught:
        ping(limited)
    cause = caught.value.__cause__
    assert cause is not None
    assert is_transient(caught.value)
    assert is_transient(cause)
    for conn in held:
        conn.close()
    ping(limited)


def test_a_connection_that_is_cut_may_be_tried_again_and_the_next_one_works(engine: Engine) -> None:
    error = failing(engine, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert is_transient(error)
    ping(engine)


@pytest.fixture
def questions(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The connections of engines made after this that were asked whether they are alive."""
    asked: list[object] = []
    kind = type(engine.dialect)
    ask = kind.do_ping

    def noted(dialect: Any, connection: Any) -> bool:
        asked.append(connection)
        return ask(dialect, connection)

    monkeypatch.setattr(kind, "do_ping", noted)
    return asked


def backend(engine: Engine) -> int:
    with engine.connect() as conn:
        return int(conn.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_a_connection_that_was_in_use_a_moment_ago_is_not_asked_whether_it_is_alive(
    questions: list[object], limited: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "WARM_SECONDS", 3600)
    assert backend(limited) == backend(limited)
    assert questions == []
    monkeypatch.setattr(engine_module, "WARM_SECONDS", 0)
    assert backend(limited) == backend(limited)
    assert len(questions) == 2


def test_a_session_that_the_server_ended_is_noticed_however_lately_it_was_used(
    engine: Engine, questions: list[object], limited: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "WARM_SECONDS", 3600)
    first = backend(limited)
    with engine.connect() as conn:
        assert conn.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": first}).scalar_one()
    assert backend(limited) != first
    assert len(questions) == 1


def test_a_connection_that_is_cut_before_the_copy_may_be_tried_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COPY speaks to the driver past SQLAlchemy, so its errors are the driver's own."""
    ids = add_signals(engine, 1)
    mine = features_of(ids[0], row_of(engine, ids[0]).equipment_id)

    def lock_and_be_cut(conn: Connection, hours: set[Hour]) -> tuple[Hour, ...]:
        locked = lock_hours(conn, hours)
        pid = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
        change(engine, "SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
        return locked

    def store() -> dict[UUID, int]:
        with engine.begin() as conn:
            return features.store_features(conn, [mine]).inserted

    with monkeypatch.context() as patch:
        patch.setattr(features, "lock_hours", lock_and_be_cut)
        with pytest.raises((DBAPIError, psycopg.Error)) as caught:
            store()
    assert is_transient(caught.value)
    assert store() == {ids[0]: 3}


def test_a_deadlock_may_be_tried_again(engine: Engine) -> None:
    ids = add_signals(engine, 2)
    barrier = threading.Barrier(2, timeout=30)
    errors: list[BaseException] = []

    def cross(first: int) -> None:
        try:
            with engine.begin() as conn:
                for n in (first, 1 - first):
                    conn.execute(text("UPDATE raw_signals SET attempts = 1 WHERE id = :id"), {"id": ids[n]})
                    if n == first:
                        barrier.wait()
        except (DBAPIError, psycopg.Error) as error:
            errors.append(error)

    threads = [threading.Thread(target=cross, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [is_transient(error) for error in errors] == [True]
