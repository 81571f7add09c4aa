"""A database that the tests of this folder share, one after the other: each finds it migrated and empty.

Emptying takes a tenth of the time of a copy of the template. Tests that leave more behind than rows (statistics,
another schema) take `database_url` of the conftest above, or `grown_engine`.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from signal_pipeline.db.engine import create_engine
from signal_pipeline.db.models import Base
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.db.plenty import grow

EMPTY = text(f"TRUNCATE {', '.join(table.name for table in Base.metadata.sorted_tables)} RESTART IDENTITY")


@contextmanager
def copy_of(server_url: str, template: str) -> Iterator[str]:
    """The URL of a database copied from `template`, dropped afterwards."""
    name = f"shared_{uuid.uuid4().hex}"
    administrator = make_url(server_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(administrator, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(administrator, autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def shared_database_url(server_url: str, template_database: str) -> Iterator[str]:
    """A migrated database for as long as this process tests."""
    with copy_of(server_url, template_database) as url:
        yield url


@pytest.fixture
def engine(shared_database_url: str) -> Iterator[Engine]:
    """An engine on the shared database, emptied; other processes reach the same one by `engine.url`."""
    engine = create_engine(shared_database_url, DatabaseSettings())
    with engine.begin() as conn:
        conn.execute(EMPTY)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def grown(server_url: str, template_database: str) -> Iterator[Engine]:
    """An engine on a database with the rows of `plenty`, which tests leave as they are."""
    with copy_of(server_url, template_database) as url:
        engine = create_engine(url, DatabaseSettings())
        grow(engine)
        yield engine
        engine.dispose()
