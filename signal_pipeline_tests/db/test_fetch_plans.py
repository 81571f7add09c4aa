"""The fetch goes by the two indexes that are made for it and by no other, whatever the statistics say of the queue.

The planner hears of a backlog only when the table is analyzed next, so its statistics may be those of an empty queue,
of a full one, or of nothing at all. An index that also holds what is not wanted then looks as cheap as the right one,
and each fetch visits all that is under way, or sorts all that waits.
"""

import json
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, TextClause, text

from signal_pipeline.db import claim_sql
from signal_pipeline.orchestration import fetch
from signal_pipeline_tests.db.test_query_plans import BY_AGE, BY_ID, BY_LEASE, FETCH, planned, planned_blindly

Node = dict[str, Any]

BORN_FINAL = text("SET LOCAL session_replication_role = replica")
NOTHING_WAITS = text("""
    UPDATE raw_signals
    SET processing_status = 'completed', claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL
    WHERE processing_status IN ('pending', 'processing')
""")
SOME_WAIT = text("""
    UPDATE raw_signals SET processing_status = 'pending'
    WHERE id IN (SELECT id FROM raw_signals WHERE processing_status = 'completed' ORDER BY created_at LIMIT :n)
""")
SOME_UNDER_WAY = text("""
    UPDATE raw_signals
    SET processing_status = 'processing', claim_token = gen_random_uuid(), claimed_by = 'w', claimed_at = now(),
        lease_expires_at = now() + make_interval(secs => :lease), attempts = 3, work_started_at = now()
    WHERE id IN (SELECT id FROM raw_signals WHERE processing_status = 'completed' ORDER BY created_at LIMIT :n)
""")
ANALYZE = text("ANALYZE raw_signals")
FORGET = (
    text("DELETE FROM pg_statistic WHERE starelid = CAST('raw_signals' AS regclass)"),
    text("""
        UPDATE pg_class SET reltuples = -1, relpages = 0
        WHERE oid = CAST('raw_signals' AS regclass)
           OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = CAST('raw_signals' AS regclass))
    """),
)


def queue(conn: Connection, *, pending: int, under_way: int, lease: float = 3600) -> None:
    """So many wait, and so many are under way, each at its last attempt, under leases that end in `lease` seconds."""
    conn.execute(NOTHING_WAITS)
    conn.execute(SOME_WAIT, {"n": pending})
    conn.execute(SOME_UNDER_WAY, {"n": under_way, "lease": lease})


def last_analyzed(conn: Connection, known: str) -> None:
    """Leave statistics that say of the queue what is `known` of it."""
    match known:
        case "an empty queue":
            queue(conn, pending=0, under_way=0)
        case "a backlog":
            queue(conn, pending=5000, under_way=0)
        case "a busy queue":
            queue(conn, pending=100, under_way=5000)
        case "dead workers":
            queue(conn, pending=100, under_way=5000, lease=-3600)
    conn.execute(ANALYZE)
    if known == "nothing":
        for statement in FORGET:
            conn.execute(statement)


def explained(conn: Connection, statement: TextClause, parameters: dict[str, Any]) -> tuple[list[Node], list[Node]]:
    """The plan for these parameters, and the one for any."""
    return planned(conn, statement, parameters), planned_blindly(conn, statement)


STATEMENTS: dict[str, tuple[TextClause, dict[str, Any], set[str]]] = {
    "CLAIM_BATCH": (claim_sql.CLAIM_BATCH, FETCH, {BY_AGE, BY_LEASE}),
    "CANDIDATES": (claim_sql.CANDIDATES, {"n": 200, "max_attempts": 3}, {BY_AGE, BY_LEASE}),
    "BURY_CRASH_LOOPS": (claim_sql.BURY_CRASH_LOOPS, {"max_attempts": 3}, {BY_LEASE, BY_ID}),
    "WAITING": (fetch.WAITING, {"n": 1000, "unknown": 1}, {BY_AGE, BY_LEASE}),
}


@pytest.mark.parametrize("under_way", [0, 3000])
@pytest.mark.parametrize(
    "known", ["the truth", "an empty queue", "a backlog", "a busy queue", "dead workers", "nothing"]
)
def test_a_fetch_goes_by_its_own_indexes_whatever_is_known_of_the_queue(
    grown: Engine, known: str, under_way: int
) -> None:
    with grown.connect() as conn:
        conn.execute(BORN_FINAL)
        last_analyzed(conn, known)
        queue(conn, pending=3000, under_way=under_way)
        if known == "the truth":
            conn.execute(ANALYZE)
        plans = {name: explained(conn, asked, given) for name, (asked, given, _) in STATEMENTS.items()}
        conn.rollback()
    for name, both in plans.items():
        for plan in both:
            shown = f"{name}: {json.dumps(plan[0], indent=1)}"
            assert {n["Index Name"] for n in plan if "Index Name" in n} == STATEMENTS[name][-1], shown
            assert not [n for n in plan if n["Node Type"] == "Seq Scan"], shown
            assert name != "CLAIM_BATCH" or "Tid Scan" in {n["Node Type"] for n in plan}, shown
