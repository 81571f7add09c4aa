"""Models on disk: a version is a folder, written whole, then `latest` is switched to it in one rename.

    <root>/<version>/manifest.json     what it is, the SHA-256 of its arrays, and one of all that it says itself
    <root>/<version>/arrays.npz        numbers only: never a pickle
    <root>/latest -> <version>

Not here: what makes a version one to be trusted (`manifest_reading`), and what it means (`models`, `embedding`).
"""

import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.anomaly.manifest_reading import ARRAYS, MANIFEST, PLAIN_NAME, SCHEMA, Manifest, read_version, seal
from signal_pipeline.errors import ManifestError

LATEST: Final = "latest"
LEFT: Final = re.compile(r"\.[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\.(unfinished|link)")
"""Of a version that was never finished: its folder, or the link that was to become `latest`."""

Arrays = Mapping[str, NDArray[Any]]


def latest_version(root: Path) -> str | None:
    """The version that `latest` names, sound or not; None if it names none."""
    latest = root / LATEST
    return latest.readlink().name if latest.is_symlink() else None


def versions(root: Path) -> list[str]:
    """The versions that are there, oldest first."""
    names = {path.parent.name for path in root.glob(f"*/{MANIFEST}")} - {LATEST}
    return sorted(name for name in names if PLAIN_NAME.fullmatch(name))


def read_latest(root: Path, *, kind: str) -> Manifest | None:
    """The manifest that `latest` names; None if there is none. Raises `ManifestError` for one not to be trusted."""
    if not (root / LATEST / MANIFEST).exists():
        return None
    # resolved once: a switch in the middle of reading must not mix two versions
    return read_version((root / LATEST).resolve(), kind=kind)


def publish(
    root: Path,
    *,
    kind: str,
    body: Mapping[str, Any],
    arrays: Arrays,
    parent: str | None,
    now: datetime,
    replaces: str | None = None,
) -> Manifest:
    """Write a new version below `root`, then switch `latest` to it.

    `parent` is the version that the caller started from. Where there was none, `replaces` is what `latest` named
    nevertheless: a version that cannot be read. Another one in the meantime is a `ManifestError`, because its changes
    would be lost. A crash at any point leaves the old `latest` as it was.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        if (root / LATEST).exists() and not (root / LATEST).is_symlink():
            raise ManifestError(f"{root / LATEST} is a folder, not a link to a version: move it aside first")
        found, expected = latest_version(root), parent if parent is not None else replaces
        if found != expected:
            raise ManifestError(f"{root / LATEST} is {found} by now, not {expected}: train again on top of that one")
        _sweep(root)
        version = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        _write(root, version, kind=kind, body=body, arrays=arrays, parent=parent, now=now)
        _switch(root, version)
    return read_version(root / version, kind=kind)


def activate(root: Path, version: str, *, kind: str) -> Manifest:
    """Switch `latest` to a version that is there already. Raises `ManifestError` for one that cannot be read."""
    found = read_named(root, version, kind=kind)
    with _locked(root):
        _switch(root, version)
    return found


def read_named(root: Path, version: str, *, kind: str) -> Manifest:
    """A version by its name. Raises `ManifestError`, with the versions there are, if it is not there."""
    if version not in (there := versions(root)):
        raise ManifestError(f"no version {version[:100]!r} in {root}; there are: {', '.join(there) or 'none'}")
    return read_version(root / version, kind=kind)


def _write(
    root: Path,
    version: str,
    *,
    kind: str,
    body: Mapping[str, Any],
    arrays: Arrays,
    parent: str | None,
    now: datetime,
) -> None:
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **{key: np.asarray(value) for key, value in arrays.items()})
    entry = {"file": ARRAYS, "sha256": hashlib.sha256(packed.getvalue()).hexdigest()}
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": kind,
        "version": version,
        "created_at": now.astimezone(UTC).isoformat(),
        "parent": parent,
        "arrays": entry,
        "body": body,
    }
    manifest["sha256"] = seal(manifest)
    unfinished = root / f".{version}.unfinished"
    unfinished.mkdir()
    try:
        _write_file(unfinished / ARRAYS, packed.getvalue())
        _write_file(unfinished / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False).encode())
        _sync(unfinished)
        unfinished.rename(root / version)
        _sync(root)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _write_file(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _switch(root: Path, version: str) -> None:
    link = root / f".{version}.link"
    link.symlink_to(version)
    link.replace(root / LATEST)
    _sync(root)


def _sync(folder: Path) -> None:
    """Names live in their folder: a file that is on the disk is lost with its folder's entry when the power goes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a network's file system may know no such thing
            raise
    finally:
        os.close(descriptor)


def _sweep(root: Path) -> None:
    """Take away what writers left that were killed; who holds the lock is the only one that writes."""
    for left in root.iterdir():
        if LEFT.fullmatch(left.name) is None:
            continue
        if left.is_symlink():
            left.unlink()
        elif left.is_dir():
            shutil.rmtree(left)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One writer at a time on this file system; a lock of the kernel's, gone with its holder."""
    import fcntl

    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
