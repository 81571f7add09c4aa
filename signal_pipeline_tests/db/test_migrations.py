"""Migrations: up, down, up again; the same schema as the models say; a version table of our own."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from signal_pipeline.db import migrate
from signal_pipeline.db.engine import create_engine
from signal_pipeline.db.models import Base
from signal_pipeline.domain import Status
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.db.contenders import contend

COLUMNS_OF_THE_SCHEMA = """
    SELECT table_name, column_name, data_type, udt_name, is_nullable, column_default, is_identity
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> :versions ORDER BY 1, 2
"""
CONSTRAINTS_OF_THE_SCHEMA = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> :versions ORDER BY 1, 2
"""
INDEXES_OF_THE_SCHEMA = """
    SELECT tablename, indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename <> :versions ORDER BY 1, 2
"""
STORAGE_OF_THE_SCHEMA = """
    SELECT relname, reloptions FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relname <> :versions AND reloptions IS NOT NULL ORDER BY 1
"""
EVERYTHING_OF_OURS = """
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
"""


def schema(engine: Engine) -> list[list[tuple[Any, ...]]]:
    parameters = {"versions": migrate.VERSION_TABLE}
    with engine.connect() as conn:
        questions = (COLUMNS_OF_THE_SCHEMA, CONSTRAINTS_OF_THE_SCHEMA, INDEXES_OF_THE_SCHEMA, STORAGE_OF_THE_SCHEMA)
        return [[tuple(row) for row in conn.execute(text(q), parameters)] for q in questions]


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Engine]:
    """An engine on a database without any table."""
    engine = create_engine(empty_database_url, DatabaseSettings())
    yield engine
    engine.dispose()


def alembic(*arguments: str, database_url: str | None) -> subprocess.CompletedProcess[str]:
    """Alembic's own command line, as a person calls it."""
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    if database_url is not None:
        environment["DATABASE_URL"] = database_url
    ini = migrate.PROJECT_ROOT / "alembic.ini"
    command = [sys.executable, "-m", "alembic", "-c", str(ini), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def revisions() -> list[str]:
    """All of them, the first one first."""
    return [script.revision for script in ScriptDirectory.from_config(migrate.config()).walk_revisions()][::-1]


def test_migrations_go_up_down_and_up_again_each_step_as_it_was(empty: Engine, empty_database_url: str) -> None:
    assert migrate.current_revision(empty) is None
    after = {}
    for revision in revisions():
        migrate.upgrade(empty_database_url, revision)
        after[revision] = schema(empty), guards(empty)
    assert migrate.current_revision(empty) == migrate.head_revision()
    for revision in revisions()[-2::-1]:
        migrate.downgrade(empty_database_url, revision)
        assert (schema(empty), guards(empty)) == after[revision]
    migrate.downgrade(empty_database_url)
    assert migrate.current_revision(empty) is None
    with empty.connect() as conn:
        left = set(conn.execute(text(EVERYTHING_OF_OURS)).scalars())
    assert left == {migrate.VERSION_TABLE, f"{migrate.VERSION_TABLE}_pkc"}
    migrate.upgrade(empty_database_url)
    assert (schema(empty), guards(empty)) == after[migrate.head_revision()]


def test_upgrading_twice_changes_nothing(engine: Engine) -> None:
    before = schema(engine)
    migrate.upgrade(engine.url.render_as_string(hide_password=False))
    assert schema(engine) == before


def test_autogenerate_finds_nothing_to_do(engine: Engine) -> None:
    with engine.connect() as conn:
        options = {"compare_type": True, "compare_server_default": True, "version_table": migrate.VERSION_TABLE}
        context = MigrationContext.configure(conn, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrated_schema_is_that_of_the_models(engine: Engine, empty: Engine) -> None:
    """Also what autogenerate does not compare: CHECKs, the conditions of indexes, and how tables are kept."""
    Base.metadata.create_all(empty)
    assert schema(engine) == schema(empty)


def test_the_check_on_the_status_lists_the_enum(engine: Engine) -> None:
    with engine.connect() as conn:
        check = conn.execute(
            text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name"),
            {"name": "ck_raw_signals_processing_status"},
        ).scalar_one()
    assert set(re.findall(r"'(\w+)'", check)) == {status.value for status in Status}


def test_dagsters_version_table_in_the_same_database_is_left_alone(empty: Engine, empty_database_url: str) -> None:
    with empty.begin() as conn:
        conn.execute(text("CREATE TABLE alembic_version (version_num text)"))
        conn.execute(text("INSERT INTO alembic_version VALUES ('of dagster')"))
    migrate.upgrade(empty_database_url)
    with empty.connect() as conn:
        assert conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "of dagster"
    assert migrate.current_revision(empty) == migrate.head_revision()


def upgrade_at_once(start: Callable[[], object], url: str) -> str:
    start()
    migrate.upgrade(url)
    return url


def test_two_hosts_that_migrate_at_the_same_moment_both_succeed(empty: Engine, empty_database_url: str) -> None:
    contend(upgrade_at_once, [(empty_database_url,), (empty_database_url,)])
    assert migrate.current_revision(empty) == migrate.head_revision()


def test_offline_mode_writes_sql_that_makes_the_same_schema(
    engine: Engine, empty: Engine, empty_database_url: str
) -> None:
    done = alembic("upgrade", "head", "--sql", database_url=empty_database_url)
    assert done.returncode == 0, done.stderr
    url = make_url(empty_database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(done.stdout.encode())
    assert schema(empty) == schema(engine)
    assert guards(empty) == guards(engine)
    assert migrate.current_revision(empty) == migrate.head_revision()


def guards(engine: Engine) -> list[tuple[Any, ...]]:
    """Functions and triggers, which the models do not know."""
    question = """
        SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1
    """
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(question))]


def test_alembic_by_hand_without_a_url_says_what_to_set() -> None:
    done = alembic("upgrade", "head", database_url=None)
    assert done.returncode != 0
    assert "DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr
