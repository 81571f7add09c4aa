"""What a person may write into DATABASE_URL, and what must never be shown of it."""

import pytest
from sqlalchemy.engine import make_url

from signal_pipeline.db.urls import DEAD_PEER_SECONDS, dagster_url, domain_url, limits, redact, with_limits
from signal_pipeline.errors import SettingsError

SECRET = "s3cr3t"  # noqa: S105 - what must not be shown


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_every_accepted_scheme_becomes_the_domain_driver_and_dagsters(scheme: str) -> None:
    written = f"{scheme}://me:{SECRET}@db.example:6543/plant?sslmode=require"
    assert domain_url(written) == f"postgresql+psycopg://me:{SECRET}@db.example:6543/plant?sslmode=require"
    assert dagster_url(written) == f"postgresql+psycopg2://me:{SECRET}@db.example:6543/dagster?sslmode=require"


def test_a_socket_folder_in_the_query_is_kept() -> None:
    url = make_url(domain_url("postgresql://me@/plant?host=/var/run/my pg&port=5433"))
    assert (url.host, url.database, dict(url.query)) == (None, "plant", {"host": "/var/run/my pg", "port": "5433"})


def test_a_socket_folder_in_place_of_the_host_moves_to_the_query() -> None:
    url = make_url(dagster_url("postgresql://me@%2Fvar%2Frun%2Fpg/plant"))
    assert (url.database, dict(url.query)) == ("dagster", {"host": "/var/run/pg"})


def test_a_password_with_special_characters_survives_both_ways() -> None:
    written = "postgres://me:p%40%2F%23@h/plant"
    assert {make_url(domain_url(written)).password, make_url(dagster_url(written)).password} == {"p@/#"}


def test_normalising_twice_changes_nothing() -> None:
    once = domain_url("postgres://me:p%40@h/pl%20ant?options=-c%20geqo%3Doff")
    assert domain_url(once) == once
    assert make_url(once).database == "pl ant"


def test_several_hosts_are_kept() -> None:
    url = make_url(domain_url("postgresql://me@/plant?host=a:5432&host=b:5433"))
    assert url.query["host"] == ("a:5432", "b:5433")


def test_a_configured_dagster_url_wins_over_the_sibling() -> None:
    assert dagster_url("postgres://a@h/plant", "postgres://b@other/runs") == "postgresql+psycopg2://b@other/runs"


def test_a_domain_database_named_dagster_needs_a_dagster_url() -> None:
    with pytest.raises(SettingsError, match="DAGSTER_DATABASE_URL"):
        dagster_url("postgres://a@h/dagster")
    assert dagster_url("postgres://a@h/dagster", "postgres://a@h/runs").endswith("/runs")


@pytest.mark.parametrize(
    "url",
    [
        SECRET,
        f"postgresql//me:{SECRET}@h/plant",
        f"postgresql://me:{SECRET}@h:port/plant",
        f"postgresql://me:12:{SECRET}@h:54:32/plant",
        f"postgresql://me:{SECRET}@a:1,b:2/plant",
        f"mysql://me:{SECRET}@h/plant",
        f"postgresql+asyncpg://me:{SECRET}@h/plant",
        f"postgresql://me:{SECRET}@h",
        f"postgresql://me:{SECRET}@h/",
    ],
)
def test_a_wrong_url_names_the_variable_and_not_the_password(url: str) -> None:
    with pytest.raises(SettingsError, match="DAGSTER_DATABASE_URL") as caught:
        dagster_url("postgresql://h/plant", url)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    with pytest.raises(SettingsError, match=r"^DATABASE_URL"):
        domain_url(url)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://me:{SECRET}@h/plant",
        f"postgresql://me:{SECRET}@h:port/plant",
        f"postgresql://me@h/plant?password={SECRET}&sslmode=require",
        f"postgresql://me:x@{SECRET}@h:port/plant?sslpassword={SECRET}",
    ],
)
def test_redacting_hides_every_password_and_leaves_the_host(url: str) -> None:
    shown = redact(url)
    assert SECRET not in shown
    assert "@h" in shown


@pytest.mark.parametrize("url", ["postgres://plant:pa@ss@127.0.0.1:5577/plant", "postgres://u:ge/heim@h/d@x"])
def test_an_at_sign_in_a_password_is_named_and_no_piece_of_it_shown(url: str) -> None:
    with pytest.raises(SettingsError, match=r"percent-encode") as refused:
        domain_url(url)
    for piece in ("pa@", "ss@", "heim"):
        assert piece not in str(refused.value)


def test_a_url_with_limits_waits_for_no_dead_peer_at_either_end() -> None:
    query = make_url(with_limits(f"postgresql+psycopg2://me:{SECRET}@h/plant?sslmode=require")).query
    assert int(str(query["tcp_user_timeout"])) == DEAD_PEER_SECONDS * 1000
    idle, interval, count = (int(str(query[f"keepalives_{name}"])) for name in ("idle", "interval", "count"))
    assert idle + interval * count == DEAD_PEER_SECONDS
    assert (query["sslmode"], query["connect_timeout"]) == ("require", "10")
    assert f"-c tcp_user_timeout={DEAD_PEER_SECONDS * 1000}" in str(query["options"])


def test_what_a_url_says_about_limits_itself_wins() -> None:
    url = "postgresql://h/plant?keepalives_idle=60&options=-c%20tcp_keepalives_idle%3D60"
    assert "keepalives_idle" not in limits(url)
    assert limits(url)["options"].endswith("-c tcp_keepalives_idle=60")
    assert make_url(with_limits(with_limits(url))).query["keepalives_idle"] == "60"
