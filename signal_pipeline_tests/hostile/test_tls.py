"""TLS to Postgres by the URL's own options, for both drivers: ours and the one of Dagster's storage."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.engine import make_url

from signal_pipeline.cli.environment import ensure_database
from signal_pipeline.db.embedded.keeper import SOCKET_FILES
from signal_pipeline.db.engine import create_engine, ping
from signal_pipeline.db.urls import dagster_url, domain_url
from signal_pipeline.errors import DatabaseUnavailable
from signal_pipeline.orchestration.storage import shared_engine
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.hostile.tls import ADDRESS, authority, tls_only

DRIVERS = ("postgresql+psycopg", "postgresql+psycopg2")


@dataclass(frozen=True)
class Site:
    """A database that is reached by TLS only, as a person writes its URL but for the options of TLS."""

    url: str
    authority: Path
    stranger: Path

    def by(self, driver: str, options: str) -> sqlalchemy.Engine:
        """An engine for this driver, made as the pipeline and as Dagster make theirs."""
        written = f"{self.url}?{options}"
        if driver.endswith("psycopg"):
            return create_engine(domain_url(written), DatabaseSettings())
        return sqlalchemy.create_engine(dagster_url("", written))


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    known, stranger = authority(tmp_path, "known"), authority(tmp_path, "stranger")
    database = make_url(database_url)
    with tls_only(f"{database.query['host']}/{SOCKET_FILES[0]}", known.served) as port:
        yield Site(
            f"postgresql://{database.username}@{ADDRESS}:{port}/{database.database}",
            known.certificate,
            stranger.certificate,
        )


def answer(engine: sqlalchemy.Engine) -> str:
    with engine.connect() as conn:
        said = conn.execute(text("SELECT 'over TLS'")).scalar_one()
    engine.dispose()
    return str(said)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_is_verified_against_the_authority_that_the_url_names(site: Site, driver: str) -> None:
    assert answer(site.by(driver, f"sslmode=verify-full&sslrootcert={site.authority}")) == "over TLS"
    assert answer(site.by(driver, "sslmode=require")) == "over TLS"


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_of_another_authority_is_refused(site: Site, driver: str) -> None:
    engine = site.by(driver, f"sslmode=verify-full&sslrootcert={site.stranger}")
    with pytest.raises(sqlalchemy.exc.OperationalError, match="certificate verify failed"):
        answer(engine)
    engine.dispose()


@pytest.mark.parametrize("driver", DRIVERS)
def test_without_tls_there_is_no_connection(site: Site, driver: str) -> None:
    engine = site.by(driver, "sslmode=disable")
    with pytest.raises(sqlalchemy.exc.OperationalError, match="nothing but TLS"):
        answer(engine)
    engine.dispose()


def test_the_pipelines_error_says_what_was_wrong_with_the_certificate_and_where(site: Site) -> None:
    engine = site.by("postgresql+psycopg", f"sslmode=verify-full&sslrootcert={site.stranger}")
    with pytest.raises(DatabaseUnavailable, match=rf"{ADDRESS}:\d+.*certificate verify failed.*DATABASE_URL"):
        ping(engine)
    engine.dispose()


def test_a_missing_authority_is_named(site: Site, tmp_path: Path) -> None:
    engine = site.by("postgresql+psycopg", f"sslmode=verify-full&sslrootcert={tmp_path / 'absent.crt'}")
    with pytest.raises(DatabaseUnavailable, match=r"absent\.crt.*does not exist"):
        ping(engine)
    engine.dispose()


def test_dagsters_sibling_database_inherits_the_options_and_its_storage_connects(site: Site) -> None:
    options = f"sslmode=verify-full&sslrootcert={site.authority}"
    url = dagster_url(f"{site.url}?{options}")
    assert make_url(url).query == {"sslmode": "verify-full", "sslrootcert": str(site.authority)}
    here = dagster_url("", f"{site.url}?{options}")
    ensure_database(here)
    assert answer(shared_engine(here)) == "over TLS"
