"""Owners, postmasters and keepers of the embedded server that are killed, with real processes and real signals."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy.engine import make_url

from signal_pipeline.db.embedded import embedded_server, keeper

pytestmark = pytest.mark.processes

OWNER = Path(__file__).with_name("embedded_owner.py")
GONE_SECONDS = 120.0

Owner = subprocess.Popen[str]
StartOwner = Callable[[], Owner]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """One home for all tests, with a table of what was committed; each test finds it stopped."""
    base = Path(tempfile.mkdtemp(prefix="sp crash home-"))
    base.chmod(0o711)
    with embedded_server(base, fsync=False) as url, connect(url) as conn:
        conn.execute("CREATE TABLE committed (what text)")
    yield base
    shutil.rmtree(base)


@pytest.fixture
def start_owner(home: Path) -> Iterator[StartOwner]:
    """Starts a process that uses the server; whatever the test leaves is ended."""
    owners: list[Owner] = []

    def start() -> Owner:
        owner = subprocess.Popen(
            [sys.executable, OWNER, home],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        owners.append(owner)
        return owner

    yield start
    for owner in owners:
        with suppress(ProcessLookupError):
            owner.kill()
        owner.communicate()
    assert keeper.wait_for(lambda: stopped(home), GONE_SECONDS)


def place(home: Path) -> keeper.Place:
    return keeper.Place(home / "postgres")


def stopped(home: Path) -> bool:
    """No server, and no keeper that is still cleaning up after it."""
    return keeper.is_free(place(home).server_lock) and keeper.is_free(place(home).users_lock)


def connect(url: str) -> psycopg.Connection:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


def commit(url: str, what: str) -> None:
    with connect(url) as conn:
        conn.execute("INSERT INTO committed VALUES (%s)", (what,))


def is_committed(url: str, what: str) -> bool:
    with connect(url) as conn:
        return conn.execute("SELECT 1 FROM committed WHERE what = %s", (what,)).fetchone() is not None


def url_of(owner: Owner) -> str:
    assert owner.stdout is not None
    return owner.stdout.readline().strip()


def postmaster_of(home: Path) -> psutil.Process:
    process = keeper.postmaster(place(home).data)
    assert process is not None
    return process


def keeper_of(home: Path) -> psutil.Process:
    folder = str(place(home).folder)
    running = psutil.process_iter(["cmdline"])
    (found,) = [p for p in running if (p.info["cmdline"] or [])[-2:] == [keeper.__file__, folder]]
    return found


def test_two_owners_at_once_share_one_server_and_the_last_one_out_stops_it(home: Path, start_owner: StartOwner) -> None:
    first, second = start_owner(), start_owner()
    url = url_of(first)
    assert url_of(second) == url
    server = postmaster_of(home)
    first.communicate("")
    assert (first.returncode, is_committed(url, "nothing")) == (0, False)
    assert postmaster_of(home) == server
    second.communicate("")
    assert second.returncode == 0
    assert stopped(home), "leaving returns only when the server is gone"


def test_a_killed_owner_leaves_no_server(home: Path, start_owner: StartOwner) -> None:
    owner = start_owner()
    url_of(owner)
    owner.kill()
    assert keeper.wait_for(lambda: stopped(home), GONE_SECONDS)


def test_a_terminated_owner_leaves_no_server(home: Path, start_owner: StartOwner) -> None:
    owner = start_owner()
    url_of(owner)
    owner.terminate()
    assert owner.wait() == -signal.SIGTERM
    assert keeper.wait_for(lambda: stopped(home), GONE_SECONDS)


def test_a_killed_owner_takes_nothing_from_the_other(home: Path, start_owner: StartOwner) -> None:
    with embedded_server(home, fsync=False) as url:
        killed = start_owner()
        assert url_of(killed) == url
        server = postmaster_of(home)
        killed.kill()
        killed.wait()
        commit(url, "after the other was killed")
        assert postmaster_of(home) == server


def test_an_owner_that_outlives_the_one_who_started_the_server_keeps_it(home: Path, start_owner: StartOwner) -> None:
    starter = start_owner()
    url = url_of(starter)
    with embedded_server(home, fsync=False) as joined:
        starter.kill()
        starter.wait()
        assert joined == url
        commit(joined, "after the starter was killed")


def test_ctrl_c_in_the_terminal_is_for_the_owner_and_not_for_the_server(home: Path, start_owner: StartOwner) -> None:
    owner = start_owner()
    url_of(owner)
    os.killpg(owner.pid, signal.SIGINT)
    said, _ = owner.communicate()
    assert said.strip() == "still answers: (1,)"
    assert owner.returncode == 0
    assert stopped(home)


def test_a_killed_postmaster_is_replaced_at_the_same_address_with_what_was_committed(home: Path) -> None:
    with embedded_server(home, fsync=False) as first:
        commit(first, "before the postmaster was killed")
        postmaster_of(home).kill()
        with embedded_server(home, fsync=False) as second:
            assert is_committed(second, "before the postmaster was killed")
            assert first == second, "owners of the killed server reconnect to its successor"


def test_a_backend_that_outlives_its_postmaster_does_not_stop_the_next_server(home: Path) -> None:
    with embedded_server(home, fsync=False) as url:
        busy = connect(url)
        backend = psutil.Process(busy.info.backend_pid)
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 100000000000)")
        postmaster_of(home).kill()
        with embedded_server(home, fsync=False) as again:
            assert not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE
            assert not is_committed(again, "nothing")
        busy.close()


def test_a_killed_tree_is_recovered_by_the_next_user(home: Path, start_owner: StartOwner) -> None:
    owner = start_owner()
    commit(url_of(owner), "before everything was killed")
    server = postmaster_of(home)
    for process in (keeper_of(home), psutil.Process(owner.pid), server, *server.children()):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    with embedded_server(home, fsync=False) as url:
        assert is_committed(url, "before everything was killed")


def test_a_server_without_keeper_and_owner_is_found_and_stopped_by_the_next_user(
    home: Path, start_owner: StartOwner
) -> None:
    owner = start_owner()
    url = url_of(owner)
    keeper_of(home).kill()
    owner.kill()
    owner.wait()
    assert not stopped(home)
    with embedded_server(home, fsync=False) as found:
        assert found == url
    assert stopped(home)
