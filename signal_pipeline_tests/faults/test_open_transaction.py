"""Fault 11: a transaction that stays open during the whole run, so that nothing dead can be cleaned away."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.db import claim_sql, counters
from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import Scene
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed
from signal_pipeline_tests.signals import change

pytestmark = [pytest.mark.faults(11), pytest.mark.processes, pytest.mark.timeout(1800)]

FETCH = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claim_sql.CLAIM_BATCH.text}")
PAGES_A_SIGNAL = 10
"""A finished signal leaves that many dead versions of its row at most: claimed, begun, renewed, stored, completed."""

# In a table of a few pages reading it whole is right, and says nothing of the fetch.
A_LONG_PAST = """
    SET LOCAL session_replication_role = replica;
    INSERT INTO raw_signals (equipment_id, processing_status, finalized_at, created_at, recorded_at)
    SELECT (SELECT min(id::text)::uuid FROM equipment), 'completed', now(), t, t
    FROM generate_series(now() - interval '5000 minutes', now() - interval '1 minute', interval '1 minute') AS t
"""

PARAMETERS = {
    "n": 4,
    "max_attempts": 3,
    "claimed_by": "explained",
    "token": "00000000-0000-0000-0000-000000000001",
    "lease_seconds": 60.0,
    "shards": counters.SHARDS,
}


def test_a_transaction_left_open_costs_the_fetch_a_few_pages_for_each_finished_signal(
    engine: Engine, scene: Scene, seed: int
) -> None:
    story, late = Story(seed=seed, motors=4, signals=20), Story(seed=1000 + seed, motors=1, signals=4)
    expected = scene.undisturbed(story)
    # new statistics change the plan, and when they come is chance; the pipeline's own plans are tested with them
    change(engine, "ALTER TABLE raw_signals SET (autovacuum_enabled = false)")
    with engine.connect() as forgotten:
        forgotten.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        forgotten.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        forgotten.execute(text("SELECT count(*) FROM raw_signals"))
        story.tell(engine)
        # as in life: a short lease is renewed the more often, and so the rows changed, the slower the machine is
        given = [scene.orders(engine, lease_seconds=60) for _ in range(2)]
        with processes.started(*given) as running:
            assert [processes.ended(process) for process in running] == [0, 0]
        assert_undisturbed(engine, expected)
        change(engine, A_LONG_PAST)
        late.tell(engine)
        littered = explained(engine)
        forgotten.rollback()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text("VACUUM (ANALYZE) raw_signals"))
    clean = explained(engine)
    assert "Seq Scan" not in scans(littered)
    assert pages(littered) <= pages(clean) + PAGES_A_SIGNAL * len(story.ids)
    scene.saw(signals=len(story.ids), fetches_by_index=1)


def explained(engine: Engine) -> dict[str, Any]:
    """The plan of a fetch, as it went; what it claimed is let go."""
    with engine.connect() as conn:
        found: Any = conn.execute(FETCH, PARAMETERS).scalar_one()
        conn.rollback()
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def pages(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def scans(plan: dict[str, Any]) -> list[str]:
    """The kinds of all nodes that read the table."""
    below = [kind for child in plan.get("Plans", ()) for kind in scans(child)]
    return [str(plan["Node Type"]), *below] if plan.get("Relation Name") == "raw_signals" else below
