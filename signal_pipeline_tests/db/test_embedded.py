"""The embedded server within one process: what it is, when it stops, what it says when it cannot start."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from signal_pipeline.db.embedded import embedded_server, keeper, server
from signal_pipeline.errors import DatabaseUnavailable, SettingsError


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder with a space and unicode in its path, which the user that root runs the server as can reach."""
    base = Path(tempfile.mkdtemp(prefix="sp home ünïcode-"))
    base.chmod(0o711)
    yield base / "a home"
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """One home for all tests: each finds it stopped, and leaves it stopped."""
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def new_home() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


def place(home: Path) -> keeper.Place:
    return keeper.Place(home / "postgres")


def connect(url: str) -> psycopg.Connection:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


def show(url: str, setting: str) -> str:
    with connect(url) as conn:
        row = conn.execute("SELECT current_setting(%s)", (setting,)).fetchone()
    assert row is not None
    return str(row[0])


def test_it_is_a_postgres_18_on_a_socket_only_with_one_order_of_strings_everywhere(home: Path) -> None:
    with embedded_server(home, fsync=False) as url:
        assert url.startswith("postgresql+psycopg://")
        assert make_url(url).database == "signal_pipeline"
        assert show(url, "server_version").startswith("18.")
        assert show(url, "listen_addresses") == ""
        assert show(url, "server_encoding") == "UTF8"
        assert show(url, "data_directory") == str(home / "postgres" / "pg18")
        with connect(url) as conn:
            locale = "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = current_database()"
            assert conn.execute(locale).fetchone() == ("b", "C.UTF-8")


def test_the_socket_lies_in_a_short_folder_that_only_the_servers_user_enters(home: Path) -> None:
    with embedded_server(home, fsync=False) as url:
        socket = Path(str(make_url(url).query["host"]))
        assert len(os.fsencode(socket / ".s.PGSQL.5432")) <= 103
        assert socket.stat().st_mode & 0o777 == 0o700
        assert socket.stat().st_uid == place(home).data.stat().st_uid
        assert place(home).data.stat().st_mode & 0o777 == 0o700


def test_data_survives_the_stop_and_leaving_leaves_nothing_behind(home: Path) -> None:
    with embedded_server(home, fsync=False) as url:
        with connect(url) as conn:
            conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        pid = int(keeper.pid_file(place(home).data)[0])
        socket = Path(str(make_url(url).query["host"]))
    assert keeper.is_free(place(home).server_lock)
    assert keeper.postmaster(place(home).data) is None
    assert not keeper.pid_file(place(home).data), f"postmaster {pid} did not stop cleanly"
    assert not socket.exists()
    with embedded_server(home, fsync=False) as url, connect(url) as conn:
        assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_only_the_last_one_out_stops_it(home: Path) -> None:
    with embedded_server(home, fsync=False) as first:
        with embedded_server(home, fsync=False) as second:
            assert first == second
        assert show(first, "server_version").startswith("18.")
    assert keeper.is_free(place(home).server_lock)


def test_fsync_is_on_unless_the_data_may_be_lost(home: Path) -> None:
    with embedded_server(home, fsync=False) as url:
        assert (show(url, "fsync"), show(url, "full_page_writes")) == ("off", "off")
    with embedded_server(home) as url:
        assert (show(url, "fsync"), show(url, "synchronous_commit"), show(url, "full_page_writes")) == (
            "on",
            "on",
            "on",
        )


def test_settings_reach_the_server_with_quotes_intact(home: Path) -> None:
    with embedded_server(home, fsync=False, settings={"max_connections": "33", "cluster_name": "it's ours"}) as url:
        assert (show(url, "max_connections"), show(url, "cluster_name")) == ("33", "it's ours")


def test_a_server_that_cannot_start_shows_the_end_of_its_log_and_starts_once_the_cause_is_gone(home: Path) -> None:
    with (
        pytest.raises(DatabaseUnavailable, match="ended while it was starting") as caught,
        embedded_server(home, fsync=False, settings={"shared_buffers": "as much as possible"}),
    ):
        pass
    assert 'invalid value for parameter "shared_buffers"' in str(caught.value)
    assert "DATABASE_URL" in str(caught.value)
    with embedded_server(home, fsync=False) as url:
        assert show(url, "shared_buffers") == "128MB"


def test_a_start_that_takes_longer_than_it_may_is_an_error_that_says_how_long(home: Path) -> None:
    with (
        pytest.raises(DatabaseUnavailable, match="did not accept connections within 0 s"),
        embedded_server(home, fsync=False, start_timeout=0),
    ):
        pass
    assert keeper.is_free(place(home).server_lock)


def test_a_stale_pid_file_that_names_a_live_process_of_ours_is_not_believed(home: Path) -> None:
    with embedded_server(home, fsync=False):
        lines = keeper.pid_file(place(home).data)
    lines[0] = str(os.getpid())
    (place(home).data / "postmaster.pid").write_text("\n".join(lines) + "\n")
    with embedded_server(home, fsync=False) as url:
        assert show(url, "server_version").startswith("18.")


def test_a_removed_socket_is_healed_by_the_next_user(home: Path) -> None:
    with embedded_server(home, fsync=False) as first:
        Path(str(make_url(first).query["host"]), ".s.PGSQL.5432").unlink()
        with embedded_server(home, fsync=False) as second:
            assert show(second, "server_version").startswith("18.")
            assert show(first, "server_version").startswith("18.")


def test_what_a_killed_initdb_left_is_removed(new_home: Path) -> None:
    half = new_home / "postgres" / "pg18.new-half"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with embedded_server(new_home, fsync=False) as url:
        assert show(url, "server_version").startswith("18.")
    assert not half.exists()


def test_an_overlong_log_is_begun_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with embedded_server(home, fsync=False):
        log = place(home).data / server.LOG
        before = log.read_text()
    monkeypatch.setattr(server, "LOG_LIMIT_BYTES", 10)
    with embedded_server(home, fsync=False):
        assert not log.read_text().startswith(before)


def test_a_home_that_cannot_be_one_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="SIGNAL_PIPELINE_HOME"), embedded_server(tmp_path / "file"):
        pass


def test_windows_is_told_to_set_a_database_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SettingsError, match="Windows: set it"):
        embedded_server(tmp_path)
