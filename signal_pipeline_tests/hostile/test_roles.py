"""Who may do what in the database: the roles of `deploy/postgres/roles.sql` on a real server, each as its own login."""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pandas.testing import assert_frame_equal
from psycopg import errors
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from signal_pipeline import read
from signal_pipeline.cli.app import app
from signal_pipeline.db import migrate
from signal_pipeline.db.engine import create_engine
from signal_pipeline.db.models import Base
from signal_pipeline.db.urls import domain_url
from signal_pipeline.observability.metrics import PipelineCollector
from signal_pipeline.settings import DatabaseSettings, MetricsSettings
from signal_pipeline_tests.cli.conftest import write_csv
from signal_pipeline_tests.processing.test_forecasting import add_hours
from signal_pipeline_tests.signals import count

ROLES = (migrate.PROJECT_ROOT / "deploy" / "postgres" / "roles.sql").read_text()

SHAPE_CHANGING = (
    "CREATE TABLE mine (x int)",
    "CREATE SCHEMA mine",
    "ALTER TABLE features ADD COLUMN mine int",
    "ALTER TABLE raw_signals DISABLE TRIGGER guard_status",
    "ALTER TABLE raw_signals DROP CONSTRAINT ck_raw_signals_processing_status",
    "DROP TABLE anomaly_scores",
    "DROP INDEX ix_raw_signals_pending",
    "TRUNCATE features",
    "CREATE TRIGGER mine BEFORE UPDATE ON features FOR EACH ROW EXECUTE FUNCTION signal_pipeline_guard_status()",
    "CREATE OR REPLACE FUNCTION signal_pipeline_guard_status() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
    "UPDATE signal_pipeline_alembic_version SET version_num = 'none'",
    "COPY features TO PROGRAM 'true'",
    "COPY counters FROM '/etc/passwd'",
    "SET ROLE signal_pipeline_owner",
)
"""What neither worker nor reader may do. `SET ROLE`: nor become somebody who may."""

ROW_CHANGING = (
    "INSERT INTO equipment (name) VALUES ('mine')",
    "UPDATE raw_signals SET meta = '{}'",
    "DELETE FROM features",
    "SELECT * FROM raw_signals FOR UPDATE",
    "CREATE TEMPORARY TABLE mine (x int)",
    "SELECT nextval('anomaly_events_id_seq')",
)
"""What the reader may not do either."""


@dataclass(frozen=True)
class Logins:
    """URLs of the same database by who comes, and of the database that Dagster owns."""

    administrator: str
    migrator: str
    worker: str
    reader: str
    dagster: str


@pytest.fixture
def logins(empty_database_url: str) -> Iterator[Logins]:
    """The roles on a new database, and a login for each, as the script's first lines say; then the migrations."""
    mark = uuid.uuid4().hex[:8]
    database = make_url(empty_database_url)
    names = {name: f"{name}_{mark}" for name in ("migrator", "worker", "reader", "dagster")}
    administer(empty_database_url, ROLES)
    administer(
        empty_database_url,
        f"""
        CREATE ROLE {names["migrator"]} LOGIN IN ROLE signal_pipeline_owner;
        ALTER ROLE {names["migrator"]} SET role = signal_pipeline_owner;
        CREATE ROLE {names["worker"]} LOGIN IN ROLE signal_pipeline_worker;
        CREATE ROLE {names["reader"]} LOGIN IN ROLE signal_pipeline_reader;
        CREATE ROLE {names["dagster"]} LOGIN
        """,
    )
    administer(empty_database_url, f"CREATE DATABASE {names['dagster']} OWNER {names['dagster']}")
    urls = {n: database.set(username=u).render_as_string(hide_password=False) for n, u in names.items()}
    dagsters = make_url(urls.pop("dagster")).set(database=names["dagster"]).render_as_string(hide_password=False)
    migrate.upgrade(urls["migrator"])
    administer(empty_database_url, ROLES)
    yield Logins(administrator=empty_database_url, dagster=dagsters, **urls)
    administer(empty_database_url, f"DROP DATABASE {names['dagster']} WITH (FORCE)")
    administer(empty_database_url, f"DROP OWNED BY {', '.join(names.values())}; DROP ROLE {', '.join(names.values())}")


def administer(url: str, statements: str) -> None:
    with psycopg.connect(plain(url), autocommit=True) as conn:
        conn.execute(statements.encode())


def plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def administrator(logins: Logins) -> Iterator[Engine]:
    engine = create_engine(logins.administrator, DatabaseSettings())
    yield engine
    engine.dispose()


@pytest.fixture
def as_login(logins: Logins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`as_login("worker", "status", "--json")`: the command's standard output."""
    monkeypatch.setenv("DAGSTER_DATABASE_URL", logins.dagster)
    monkeypatch.setenv("SIGNAL_PIPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    monkeypatch.setenv("MODELS_DIR", str(tmp_path / "models"))

    def run(who: str, *arguments: str) -> str:
        monkeypatch.setenv("DATABASE_URL", getattr(logins, who))
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_the_worker_runs_the_whole_pipeline(
    administrator: Engine, as_login: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "pump"
    for i in range(12):
        write_csv(folder / f"2025-08-25T12-{i:02}-00Z.csv", rows=10_000, seed=i)
    as_login("worker", "ingest", str(folder), "--sample-rate", "1000")
    as_login("worker", "process")
    as_login("worker", "train", "--equipment", "pump", "--from", "2025-08-25", "--to", "2025-08-26")
    as_login("worker", "detect")
    write_csv(folder / "2025-08-25T13-00-00Z.csv", rows=10_000, seed=99)
    as_login("worker", "ingest", str(folder), "--sample-rate", "1000")
    as_login("worker", "process")
    add_hours(administrator, "fan", range(24 * 12))
    as_login("worker", "forecast")
    assert json.loads(as_login("worker", "status", "--json"))["signals"]["completed"] == 13
    assert count(administrator, "anomaly_scores") == 13 * 19
    assert count(administrator, "forecasts") > 0


@pytest.mark.parametrize("who", ["worker", "reader"])
def test_neither_worker_nor_reader_can_change_the_schema(logins: Logins, administrator: Engine, who: str) -> None:
    with psycopg.connect(plain(getattr(logins, who)), autocommit=True) as conn:
        for statement in SHAPE_CHANGING:
            assert_refused(conn, statement)
    assert migrate.current_revision(administrator) == migrate.head_revision()


def test_the_reader_can_only_read(logins: Logins) -> None:
    tables = [table.name for table in Base.metadata.sorted_tables]
    with psycopg.connect(plain(logins.reader), autocommit=True) as conn:
        for table in tables:
            conn.execute(f"SELECT count(*) FROM {table}".encode())
            for statement in (f"DELETE FROM {table}", f"INSERT INTO {table} DEFAULT VALUES", f"TRUNCATE {table}"):
                assert_refused(conn, statement)
        for statement in ROW_CHANGING:
            assert_refused(conn, statement)


def assert_refused(conn: "psycopg.Connection[Any]", statement: str) -> None:
    try:
        conn.execute(statement.encode())
    except errors.InsufficientPrivilege:
        return
    pytest.fail(f"{conn.info.user} may {statement}")


def test_status_and_health_and_the_numbers_of_the_metrics_work_as_reader(as_login: Callable[..., str]) -> None:
    assert json.loads(as_login("reader", "status", "--json"))["signals"]["pending"] == 0
    assert json.loads(as_login("reader", "health", "--json"))["healthy"] is True


Value = tuple[str, tuple[tuple[str, str], ...], float]

CHANGING = ("scrape_duration_seconds", "disk_free_bytes", "oldest_pending_seconds", "database_size_bytes")
"""What another look, a moment later, may find otherwise."""


def exported(url: str, dagster: str) -> tuple[set[Value], dict[str, float]]:
    """What the exporter serves of the databases that these URLs open: its values, but for those that change by
    themselves, and by name those without labels."""
    engines = [create_engine(domain_url(each), DatabaseSettings()) for each in (url, dagster)]
    collector = PipelineCollector(engines[0], engines[1], MetricsSettings(), Path.cwd())
    found = [sample for family in collector.collect() for sample in family.samples]
    for engine in engines:
        engine.dispose()
    values = {(s.name, tuple(sorted(s.labels.items())), s.value) for s in found if not s.name.endswith(CHANGING)}
    return values, {s.name.removeprefix("signal_pipeline_"): s.value for s in found if not s.labels}


def test_the_reader_is_told_by_the_exporter_and_a_notebook_what_the_worker_is(
    logins: Logins, as_login: Callable[..., str], tmp_path: Path
) -> None:
    """The dashboards ask Prometheus alone, so what the exporter reads is what they need."""
    for i in range(2):
        write_csv(tmp_path / "pump" / f"2025-08-25T12-0{i}-00Z.csv", rows=10_000, seed=i)
    as_login("worker", "ingest", str(tmp_path / "pump"), "--sample-rate", "1000")
    as_login("worker", "process")
    told, plain_values = exported(logins.reader, logins.dagster)
    assert plain_values["database_up"] == plain_values["dagster_up"] == 1
    assert (plain_values["scrape_errors_total"], plain_values["signals_completed_total"]) == (0, 2)
    assert told == exported(logins.worker, logins.dagster)[0]
    reader, worker = (create_engine(getattr(logins, who), DatabaseSettings()) for who in ("reader", "worker"))
    for load in (read.load_features, read.load_signals, read.load_hours, read.load_scores, read.load_diagnoses):
        assert_frame_equal(load(engine=reader), load(engine=worker))
    assert len(read.load_features(engine=reader)) == 2 * 19
    assert read.load_forecasts(engine=reader).empty
    reader.dispose()
    worker.dispose()


def test_an_exporter_that_may_not_read_dagsters_database_says_so_and_tells_the_rest(
    logins: Logins, as_login: Callable[..., str]
) -> None:
    as_login("worker", "process")  # makes Dagster's tables
    dagsters = make_url(logins.dagster).set(username=make_url(logins.reader).username)
    _, plain_values = exported(logins.reader, dagsters.render_as_string(hide_password=False))
    assert (plain_values["database_up"], plain_values["dagster_up"]) == (1, 0)


def test_what_a_later_migration_makes_has_the_same_rights(logins: Logins) -> None:
    with psycopg.connect(plain(logins.migrator), autocommit=True) as conn:
        conn.execute("CREATE TABLE later (id bigint GENERATED ALWAYS AS IDENTITY, x int)")
    with psycopg.connect(plain(logins.worker), autocommit=True) as conn:
        conn.execute("INSERT INTO later (x) VALUES (1)")
        assert_refused(conn, "DROP TABLE later")
    with psycopg.connect(plain(logins.reader), autocommit=True) as conn:
        assert conn.execute("SELECT x FROM later").fetchall() == [(1,)]
        assert_refused(conn, "DELETE FROM later")


def test_a_stranger_has_no_part_in_the_database(logins: Logins) -> None:
    stranger = make_url(plain(logins.administrator)).set(username=make_url(logins.dagster).username)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(stranger.render_as_string(hide_password=False))


def test_the_script_takes_over_a_database_that_was_made_without_it_and_changes_nothing_when_run_again(
    engine: Engine, database_url: str
) -> None:
    rights = text("""
        SELECT relname, pg_get_userbyid(relowner), relacl::text FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1
    """)
    administer(database_url, ROLES)
    with engine.connect() as conn:
        first = [tuple(row) for row in conn.execute(rights)]
    assert {owner for _, owner, _ in first} == {"signal_pipeline_owner"}
    administer(database_url, ROLES)
    with engine.connect() as conn:
        assert [tuple(row) for row in conn.execute(rights)] == first
