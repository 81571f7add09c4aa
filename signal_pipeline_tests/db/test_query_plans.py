"""EXPLAIN as a test: no statement of the queue or the summary reads a whole table, however long it has grown.

Each is planned twice: for its parameters, and blindly (GENERIC_PLAN), as a statement that psycopg prepared may be.
"""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, TextClause, text

from signal_pipeline.db import claim_sql, features, hours, queue, signals
from signal_pipeline_tests.db.rows import NOON


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def planned(conn: Connection, statement: TextClause, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    answer = conn.execute(text(f"EXPLAIN (FORMAT JSON) {statement.text}"), parameters).scalar_one()
    return list(nodes(answer[0]["Plan"]))


def planned_blindly(conn: Connection, statement: TextClause) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(re.findall(r"(?<![:\w]):(\w+)", statement.text)))
    numbered = re.sub(r"(?<![:\w]):(\w+)", lambda m: f"${names.index(m.group(1)) + 1}", statement.text)
    driver: Any = conn.connection.driver_connection
    answer = driver.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {numbered}").fetchone()[0]
    return list(nodes(answer[0]["Plan"]))


def check(engine: Engine, statement: TextClause, parameters: dict[str, Any], *, table: str, indexes: set[str]) -> None:
    with engine.connect() as conn:
        for plan in (planned(conn, statement, parameters), planned_blindly(conn, statement)):
            shown = json.dumps(plan[0], indent=1)
            assert not [n for n in plan if n["Node Type"] == "Seq Scan" and n["Relation Name"] == table], shown
            assert indexes <= {n["Index Name"] for n in plan if "Index Name" in n}, shown
        conn.rollback()


FETCH = {"claimed_by": "w", "lease_seconds": 60.0, "max_attempts": 3, "token": UUID(int=1), "n": 200, "shards": 16}
BY_LEASE, BY_AGE, BY_ID, BY_TOKEN = (
    "ix_raw_signals_lease",
    "ix_raw_signals_pending",
    "pk_raw_signals",
    "ix_raw_signals_claim_token",
)
SOME = [UUID(int=n) for n in range(1, 150)]
QUEUE: dict[str, tuple[dict[str, Any], set[str]]] = {
    "BURY_CRASH_LOOPS": ({"max_attempts": 3}, {BY_LEASE, BY_ID}),
    "CLAIM_BATCH": (FETCH, {BY_AGE, BY_LEASE}),  # and no other: test_fetch_plans
    "CANDIDATES": ({"n": 200, "max_attempts": 3}, {BY_AGE, BY_LEASE}),
    "CLAIM_ONE": ({**FETCH, "id": SOME[0]}, {BY_ID}),
    "LOCK_REQUESTED": ({"ids": SOME}, {BY_ID}),
    "TAKE_REQUESTED": ({**FETCH, "ids": SOME, "whole": True}, {BY_ID}),
    "RENEW": ({"token": SOME[0], "lease_seconds": 60.0}, {BY_TOKEN, BY_ID}),
    "FENCE": ({"token": SOME[0], "ids": SOME}, set()),
    "START_WORK": ({"token": SOME[0], "id": SOME[0], "ids": SOME[:3], "lease_seconds": 60.0}, {BY_ID}),
    "COMPLETE": ({"token": SOME[0], "ids": SOME}, {BY_ID}),
    "FAIL": ({"token": SOME[0], "ids": SOME, "failure": "{}"}, {BY_ID}),
    "GIVE_BACK": ({"token": SOME[0]}, {BY_TOKEN, BY_ID}),
    "LET_GO": ({"token": SOME[0], "ids": None}, {BY_TOKEN, BY_ID}),
    "HELD": ({"token": SOME[0]}, {BY_TOKEN}),
    "ALREADY_EXTRACTED": ({"token": SOME[0], "version": "v1"}, {BY_TOKEN}),
    "OWN_CLAIMS": ({"claimed_by": "instance", "due_below": 40.0}, set()),
    "RETRY_FAILED": ({"reason": None}, {BY_ID}),
}


def test_every_statement_of_the_claim_is_checked() -> None:
    statements = {name for name, value in vars(claim_sql).items() if isinstance(value, TextClause)}
    assert set(QUEUE) == statements - {"A_PERSON_ASKS"}


@pytest.mark.parametrize("name", QUEUE)
def test_a_statement_of_the_claim_goes_by_its_indexes(grown: Engine, name: str) -> None:
    parameters, indexes = QUEUE[name]
    check(grown, getattr(claim_sql, name), parameters, table="raw_signals", indexes=indexes)


def test_the_last_arrival_of_each_equipment_is_a_step_down_two_indexes(grown: Engine) -> None:
    indexes = {"ix_raw_signals_finished", "ix_raw_signals_unfinished"}
    check(grown, queue.ARRIVALS, {"n": 100}, table="raw_signals", indexes=indexes)


MOTOR_HOURS = {"equipment": [UUID(int=1)] * 3, "hours": [NOON] * 3}


@pytest.mark.parametrize(
    ("statement", "parameters", "index"),
    [
        pytest.param(hours.RECOMPUTE, MOTOR_HOURS, "ix_features_equipment_window", id="recompute hours"),
        pytest.param(hours.DROP_EMPTY, MOTOR_HOURS, "ix_features_equipment_window", id="drop empty hours"),
        pytest.param(
            hours.HOURS_OF_SIGNALS, {"ids": SOME[:5]}, "uq_features_raw_id_window_start", id="hours of signals"
        ),
        pytest.param(features.EXISTING, {"ids": SOME[:5]}, "uq_features_raw_id_window_start", id="existing windows"),
        pytest.param(
            features.DELETE_OTHER_VERSIONS,
            {"ids": SOME[:5], "versions": ["v1"] * 5},
            "uq_features_raw_id_window_start",
            id="other versions",
        ),
    ],
)
def test_features_are_read_by_their_indexes(
    grown: Engine, statement: TextClause, parameters: dict[str, Any], index: str
) -> None:
    check(grown, statement, parameters, table="features", indexes={index})


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        pytest.param(signals.LOAD, {"id": SOME[0]}, id="load"),
        pytest.param(signals.WORK_DONE, {"ids": SOME, "metas": ["{}"] * len(SOME)}, id="work done"),
        pytest.param(signals.CLEARABLE, {"ids": SOME[:5]}, id="clearable"),
        pytest.param(signals.CLEAR_PHASES, {"ids": SOME[:5]}, id="clear phases"),
    ],
)
def test_signals_are_found_by_their_indexes(grown: Engine, statement: TextClause, parameters: dict[str, Any]) -> None:
    check(grown, statement, parameters, table="raw_signals", indexes=set())
