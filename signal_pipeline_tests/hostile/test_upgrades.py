"""An upgrade from every earlier migration, with data in it: nothing is lost, and the pipeline goes on from there."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from signal_pipeline.db import claims, migrate
from signal_pipeline.db.engine import create_engine
from signal_pipeline.db.sources import find_file
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import DatabaseSettings, Settings
from signal_pipeline_tests.hostile.old_rows import FILLERS, STATES, fill
from signal_pipeline_tests.signals import change, count, failure, failures, insert_signals, row, statuses

Rows = dict[str, list[dict[str, Any]]]

MOVED = {"durations": ("counters", {"what": "name", "observations": "value"})}
"""Tables that are no more: where their rows went, and what the columns are called there."""


def revisions() -> list[str]:
    """All of them, the first one first: found in `migrations/versions`, so a new one is covered, too."""
    return [script.revision for script in ScriptDirectory.from_config(migrate.config()).walk_revisions()][::-1]


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Engine]:
    engine = create_engine(empty_database_url, DatabaseSettings())
    yield engine
    engine.dispose()


def all_rows(engine: Engine) -> Rows:
    """Every row of every table of ours."""
    with engine.connect() as conn:
        return {
            table: [row[0] for row in conn.execute(text(f"SELECT to_jsonb(t) FROM {table} AS t ORDER BY 1"))]
            for table in inspect(engine).get_table_names()
            if table != migrate.VERSION_TABLE
        }


def where_they_went(rows: Rows) -> Rows:
    """The rows of tables that are no more, among those of the table that has taken them."""
    found = {table: list(own) for table, own in rows.items() if table not in MOVED}
    for table, (now, names) in MOVED.items():
        moved = [{names.get(name, name): value for name, value in old.items()} for old in rows.get(table, [])]
        found[now] = found[now] + moved
    return found


def assert_kept(before: Rows, after: Rows) -> None:
    """Every row is there still, with every value that it had; columns may have been added."""
    for table, rows in before.items():
        assert len(after[table]) == len(rows)
        for old in rows:
            there = any(all(found.get(name) == value for name, value in old.items()) for found in after[table])
            assert there, f"{table} lost {old}"


def drain(engine: Engine) -> None:
    worker = Worker(engine, Settings(), "test-host/worker")
    while got := claims.claim_pending(engine, settings=worker.settings.claims, claimed_by=worker.name).claims:
        for claim in got:
            run_batch(worker, Batch(claim.token, claim.signal_ids))


def test_every_migration_has_rows_of_its_time() -> None:
    assert list(FILLERS) == revisions(), "add the rows of the new migration's time to old_rows.FILLERS"


def test_times_that_do_not_fit_any_more_go_to_the_nearest_that_does_and_their_rows_are_worked_on(
    empty: Engine, empty_database_url: str
) -> None:
    """Left as they were they could not be changed, and so not even be claimed."""
    migrate.upgrade(empty_database_url, "0004")
    ids = insert_signals(empty, 5)
    unfit = {"recorded_at": "infinity", "created_at": "-infinity"}
    for signal_id, (column, time) in zip(ids, unfit.items(), strict=False):
        change(empty, f"UPDATE raw_signals SET {column} = '{time}' WHERE id = :id", id=signal_id)
    change(
        empty,
        "UPDATE raw_signals SET created_at = '12000-01-01', claimed_at = '0044-01-01 BC' WHERE id = :id",
        id=ids[2],
    )
    migrate.upgrade(empty_database_url)
    with structlog.testing.capture_logs():
        drain(empty)
    assert failures(empty) == {ids[0]: "validation_failed"}
    assert failure(empty, ids[0])["message"].startswith("recorded_at is 9999-12-31")
    assert {i for i, status in statuses(empty).items() if status == "completed"} == set(ids[1:])
    assert [row(empty, i).created_at.year for i in ids[1:3]] == [1, 9999]
    migrate.downgrade(empty_database_url, "0004")


def test_totals_and_durations_part_on_the_way_down_and_meet_again(empty: Engine, empty_database_url: str) -> None:
    for revision in revisions():
        migrate.upgrade(empty_database_url, revision)
        with empty.begin() as conn:
            fill(conn, revision)
    together = all_rows(empty)["counters"]
    migrate.downgrade(empty_database_url, "0010")
    apart = all_rows(empty)
    assert len(apart["counters"]) > 0 < len(apart["durations"])
    assert len(together) == len(apart["counters"]) + len(apart["durations"])
    migrate.upgrade(empty_database_url)
    assert all_rows(empty)["counters"] == together


@pytest.mark.parametrize("revision", revisions())
def test_an_upgrade_with_data_loses_nothing_and_the_pipeline_goes_on(
    empty: Engine, empty_database_url: str, revision: str
) -> None:
    for earlier in revisions()[: revisions().index(revision) + 1]:
        migrate.upgrade(empty_database_url, earlier)
        with empty.begin() as conn:
            fill(conn, earlier)
    before = all_rows(empty)
    assert [table for table, rows in before.items() if not rows] == [], "old_rows.FILLERS leaves tables empty"
    migrate.upgrade(empty_database_url)
    assert_kept(where_they_went(before), all_rows(empty))
    with empty.connect() as conn:
        assert [str(known.id) for known in find_file(conn, "abc")] == ["00000000-0000-0000-0000-000000000001"]
    with structlog.testing.capture_logs():
        drain(empty)
    found = [status for _, status in sorted(statuses(empty).items())]
    assert dict(zip(STATES, found, strict=True)) == {
        "completed": "completed",
        "failed": "failed",
        "pending": "completed",
        "processing": "completed",
    }
    assert count(empty, "features") == 3 + 2 * 3
    assert count(empty, "signal_diagnostics") >= 2
