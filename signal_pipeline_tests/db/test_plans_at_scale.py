"""What people and workers ask keeps its indexes over millions of windows: no big table is read whole.

The statements are those that the functions really send, explained with the parameters that they were sent with. 200,000
windows here; SIGNAL_PIPELINE_TESTS_FEATURE_ROWS (`make test-scale`) says how many otherwise.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, event, text

from signal_pipeline import read
from signal_pipeline.db import claims, diagnostics, features, fleet, history, hours, lessons, streams
from signal_pipeline.db.engine import create_engine
from signal_pipeline.observability import readings
from signal_pipeline.observability.status import read_failures, read_status
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.db.conftest import copy_of
from signal_pipeline_tests.db.plenty import MOTORS, WINDOWS_A_SIGNAL, grow_long
from signal_pipeline_tests.db.rows import claim_settings
from signal_pipeline_tests.db.test_query_plans import nodes

ROWS = int(os.environ.get("SIGNAL_PIPELINE_TESTS_FEATURE_ROWS", "200000"))
BIG = {"raw_signals", "features", "anomaly_scores"}
EXPLAINED = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "(SELECT")

Sent = tuple[str, Any]
"""A statement as the driver got it, and its parameters."""


class Motor(NamedTuple):
    """One motor of many, its last signal, and when that begins."""

    id: UUID
    name: str
    last: UUID
    at: datetime


@pytest.fixture(scope="module")
def long(server_url: str, template_database: str) -> Iterator[Engine]:
    with copy_of(server_url, template_database) as url:
        filling = create_engine(url, DatabaseSettings(database_statement_timeout_seconds=0))
        grow_long(filling, ROWS)
        filling.dispose()
        engine = create_engine(url, DatabaseSettings())
        yield engine
        engine.dispose()


@pytest.fixture
def motor(long: Engine) -> Motor:
    query = """
        SELECT e.id, e.name, r.id, r.recorded_at FROM raw_signals AS r JOIN equipment AS e ON e.id = r.equipment_id
        WHERE e.name = 'motor 007' ORDER BY r.recorded_at DESC LIMIT 1
    """
    with long.connect() as conn:
        return Motor(*conn.execute(text(query)).one())


@contextmanager
def listening(engine: Engine) -> Iterator[list[Sent]]:
    sent: list[Sent] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if statement.lstrip().upper().startswith(EXPLAINED):
            sent.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def read_whole(conn: Connection, sent: Sent) -> list[str]:
    """The big tables that the plan of a statement reads from end to end."""
    statement, parameters = sent
    answer = conn.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    plan = list(nodes(answer[0]["Plan"]))
    found = [n["Relation Name"] for n in plan if n["Node Type"] == "Seq Scan" and n["Relation Name"] in BIG]
    if found:
        print(json.dumps(plan[0], indent=1))
    return found


def assert_by_index(engine: Engine, asking: Callable[[Connection], object]) -> None:
    """Do it, and explain all that was sent; what it changed is taken back."""
    with engine.connect() as conn:
        with listening(engine) as sent:
            asking(conn)
        assert sent, "nothing was asked"
        for one in sent:
            assert read_whole(conn, one) == [], one[0]
        conn.rollback()


def wanted(motor: Motor) -> streams.Wanted:
    return streams.Wanted(["rms_a", "rms_b"], "v1", [motor.last])


def position(motor: Motor) -> streams.Position:
    return streams.Position(motor.at - timedelta(minutes=1), UUID(int=0))


def stream(motor: Motor, version: str = "m1") -> streams.StreamKey:
    return streams.StreamKey(motor.id, "stream", version)


STORE: dict[str, Callable[[Connection, Motor], object]] = {
    "recompute hours": lambda c, m: hours.recompute_hours(
        c, [(m.id, hours.hour_of(m.at) - n * timedelta(hours=1)) for n in range(3)]
    ),
    "hours of signals": lambda c, m: hours.hours_of_signals(c, [m.last] * 50),
    "windows that are there": lambda c, m: c.execute(features.EXISTING, {"ids": [m.last] * 50}).all(),
    "another version goes": lambda c, m: c.execute(
        features.DELETE_OTHER_VERSIONS, {"ids": [m.last] * 50, "versions": ["v2"] * 50}
    ),
    "parts of a record": lambda c, m: diagnostics.record_parts(c, [m.last] * 50),
    "stream: what it waits for": lambda c, m: streams.read_barrier(c, m.id, feature_version="v1"),
    "stream: next": lambda c, m: streams.next_windows(
        c, stream(m), wanted(m), after=position(m), barrier=None, since=m.at, waited=position(m), limit=2000
    ),
    "stream: next of a new model": lambda c, m: streams.next_windows(
        c, stream(m, "m2"), wanted(m), after=None, barrier=None, since=m.at, waited=position(m), limit=2000
    ),
    "stream: which are late": lambda c, m: streams.late_signals(c, stream(m, "m2"), wanted(m), after=position(m)),
    "stream: late": lambda c, m: streams.late_windows(c, stream(m), wanted(m), after=position(m), raw_id=m.last),
    "detect": lambda c, m: history.unscored_windows(
        c, stream(m, "m2"), history.Range(["rms_a"], "v1", start=m.at - timedelta(hours=1)), limit=2000
    ),
    "train": lambda c, m: history.read_windows(c, m.id, history.Range(["rms_a"], "v1"), limit=2000),
    "what there is to learn": lambda c, m: lessons.read_lesson(c, m.id, history.Range(["rms_a"], "v1"), limit=2000),
    "where the stream came from": lambda c, m: streams.predecessor(c, stream(m, "m2")),
    "events of other versions": lambda c, m: streams.close_other_events(c, stream(m, "m2")),
}


@pytest.mark.parametrize("name", STORE)
def test_what_workers_ask_goes_by_indexes(long: Engine, motor: Motor, name: str) -> None:
    assert_by_index(long, lambda conn: STORE[name](conn, motor))


LOOK: dict[str, Callable[[Engine, Motor], object]] = {
    "status": lambda e, _: read_status(e),
    "scrape": lambda e, _: readings.read(e, max_equipment=100),
    "latest failures": lambda e, _: read_failures(e, limit=20),
    "features of a day": lambda e, m: read.load_features(
        equipment=m.name, start=m.at - timedelta(days=1), columns=["rms_a"], engine=e
    ),
    "features of a minute": lambda e, m: read.load_features(start=m.at, end=m.at + timedelta(minutes=1), engine=e),
    "scores of a day": lambda e, m: read.load_scores(equipment=m.name, start=m.at - timedelta(days=1), engine=e),
    "signals of a day": lambda e, m: read.load_signals(equipment=m.name, start=m.at - timedelta(days=1), engine=e),
    "hours": lambda e, m: read.load_hours(equipment=m.name, engine=e),
    "how all motors are": lambda e, _: fleet.read_motors(e),
    "a fetch": lambda e, _: claims.claim_pending(e, settings=claim_settings(), claimed_by=str(uuid4()), limit=1),
}


@pytest.mark.parametrize("name", LOOK)
def test_what_people_ask_goes_by_indexes(long: Engine, motor: Motor, name: str) -> None:
    assert_by_index(long, lambda _: LOOK[name](long, motor))


def test_there_are_as_many_rows_as_were_asked_for(long: Engine) -> None:
    with long.connect() as conn:
        stored = conn.execute(text("SELECT (SELECT count(*) FROM features), (SELECT count(*) FROM anomaly_scores)"))
        assert set(stored.one()) == {ROWS // WINDOWS_A_SIGNAL * WINDOWS_A_SIGNAL}
        assert ROWS >= 1000 * MOTORS


def test_a_statement_that_does_read_a_big_table_whole_is_noticed(long: Engine) -> None:
    with pytest.raises(AssertionError, match="avg"):
        assert_by_index(long, lambda conn: conn.execute(text("SELECT avg(rms_a) FROM features")))
