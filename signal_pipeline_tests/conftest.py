"""What every test may rely on: no settings of the person who runs it, and databases of its own.

Here: the environment and the databases. Not here: fixtures of one room, they stand beside its tests. One embedded
server (fsync off) serves the whole run, shared by pytest-xdist's workers; it starts with the first test that asks for
a database. Migrations run once, into a template; each test that commits gets a copy of it (`database_url`).
"""

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import structlog
from pydantic_settings import BaseSettings
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from signal_pipeline.db import migrate
from signal_pipeline.db.embedded import embedded_server, keeper, places
from signal_pipeline.db.engine import create_engine
from signal_pipeline.settings import DatabaseSettings, Settings

HOME_VARIABLE = "SIGNAL_PIPELINE_TESTS_HOME"
"""Tells pytest-xdist's workers where the run's server lives; set by the process that started them."""

TEMPLATE = "template_migrated"

LASTING = ("faults", "processes", "programs", "dagster")
"""Marks of tests that start processes, and wait for them."""


def pytest_configure(config: pytest.Config) -> None:
    """Before anything of ours is imported by a test: forget the person's settings, and make the server's home."""
    for group in _settings_groups():
        group.model_config["env_file"] = None
        for name in group.model_fields:
            os.environ.pop(name.upper(), None)
    # Pictures cost more than all the rest of a test's small runs; the tests of pictures ask for theirs.
    os.environ["PICTURES_PER_RUN"] = "0"
    if not hasattr(config, "workerinput"):
        # not below pytest's own temporary folder: that is closed to the user whom root runs the server as
        home = Path(tempfile.mkdtemp(prefix="signal_pipeline-tests-"))
        home.chmod(0o711)
        os.environ[HOME_VARIABLE] = str(home)
        _sweep()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lasts goes first: pytest-xdist hands out whole files, and would leave a worker alone with the last one."""
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in LASTING))


def _sweep() -> None:
    """Remove data that tests and benchmarks left which were killed: its home was a temporary folder, and is gone."""
    for note in places.SHARED_FOLDER.glob(f"home-*/{places.OWNER_NOTE}"):
        home = Path(note.read_text(encoding="utf-8", errors="surrogateescape").strip())
        if home.is_relative_to(tempfile.gettempdir()) and not home.exists():
            shutil.rmtree(note.parent, ignore_errors=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        home = Path(os.environ.pop(HOME_VARIABLE))
        place = keeper.Place(home / "postgres")
        # a worker that was killed leaves the stop to the keeper, which then is still at it
        keeper.wait_for(lambda: keeper.is_free(place.server_lock) and keeper.is_free(place.users_lock), 30)
        if place.data_link.is_symlink():
            shutil.rmtree(place.data_link.readlink().parent)
        shutil.rmtree(home)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What a test that passed wants said at the end (its user property `said`): how much was generated, say."""
    for report in terminalreporter.getreports("passed"):
        for name, value in getattr(report, "user_properties", ()):
            if name == "said":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")


def _settings_groups() -> list[type[BaseSettings]]:
    annotations = [field.annotation for field in Settings.model_fields.values()]
    return [group for group in annotations if isinstance(group, type) and issubclass(group, BaseSettings)]


@pytest.fixture(autouse=True, scope="session")
def _nobody_elses_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run in an empty folder, so that no child process finds a `.env` or a `.signal_pipeline` of the person."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that a test runs in this process configures the logs; the next test starts with the defaults."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The run's embedded server: the URL of a database on it that no test writes to."""
    with embedded_server(Path(os.environ[HOME_VARIABLE]), fsync=False) as url:
        yield url


@pytest.fixture(scope="session")
def template_database(server_url: str) -> str:
    """The name of a database with all migrations applied, to be copied and never connected to."""
    with Path(os.environ[HOME_VARIABLE], "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _administrator(server_url) as conn:
            if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone():
                # renamed when it is done: a worker that was killed halfway leaves no half template
                conn.execute("DROP DATABASE IF EXISTS template_in_the_making WITH (FORCE)")
                conn.execute("CREATE DATABASE template_in_the_making")
                migrate.upgrade(_with_database(server_url, "template_in_the_making"))
                conn.execute(f"ALTER DATABASE template_in_the_making RENAME TO {TEMPLATE}")
    return TEMPLATE


@pytest.fixture
def database_url(server_url: str, template_database: str) -> Iterator[str]:
    """The URL (`postgresql+psycopg://…`) of a migrated, empty database for this test alone; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    with _administrator(server_url) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield _with_database(server_url, name)
    with _administrator(server_url) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """The URL of a database without any table, for tests of the migrations themselves; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    with _administrator(server_url) as conn:
        conn.execute(f"CREATE DATABASE {name}")
    yield _with_database(server_url, name)
    with _administrator(server_url) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on this test's own migrated database."""
    engine = create_engine(database_url, DatabaseSettings())
    yield engine
    engine.dispose()


def _administrator(server_url: str) -> psycopg.Connection:
    url = make_url(server_url).set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


def _with_database(server_url: str, name: str) -> str:
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)
