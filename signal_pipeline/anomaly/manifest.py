"""Models on disk: a version is a folder, written whole, then `latest` is switched to it in one rename.

    <root>/<version>/manifest.json     what it is, the SHA-256 of its arrays, and one of all that it says itself
    <root>/<version>/arrays.npz        numbers only: never a pickle
    <root>/latest -> <version>

Whatever is read here may have been tampered with: names, sizes and checksums are checked before anything is believed,
and every refusal is a `ManifestError`. A checksum finds what was changed by hand or by a disk, not a forger, who can
compute one, too: so whoever reads a body checks types and ranges besides. Not here: what a manifest means (`models`,
`embedding`).
"""

import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.errors import ManifestError

SCHEMA: Final = 2
LATEST: Final = "latest"
MANIFEST: Final = "manifest.json"
ARRAYS: Final = "arrays.npz"
MAX_MANIFEST_BYTES: Final = 64 * 2**20
MAX_ARRAY_BYTES: Final = 1024 * 2**20
PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""No separators, no leading dot: nothing that could leave the version's folder."""

LEFT: Final = re.compile(r"\.[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\.(unfinished|link)")
"""Of a version that was never finished: its folder, or the link that was to become `latest`."""

UNREADABLE: Final = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, MemoryError, RuntimeError)
"""What zipfile and numpy raise for an archive that is none: a shape of terabytes, an encrypted member, …"""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """One version, as it was read. `hash` is the SHA-256 of manifest.json, which holds that of the arrays."""

    version: str
    kind: str
    created_at: datetime
    parent: str | None
    body: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    hash: str


def seal(manifest: Mapping[str, Any]) -> str:
    """SHA-256 over everything that a manifest says, whatever the order and the spacing of its text."""
    said = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


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


def read_version(folder: Path, *, kind: str) -> Manifest:
    """The manifest in `folder`. Raises `ManifestError` naming the file and what is wrong with it."""
    raw = _read_file(folder / MANIFEST, MAX_MANIFEST_BYTES)
    try:
        found = json.loads(raw, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{folder / MANIFEST} is not JSON: {error}") from error
    try:
        _check(found, folder, kind)
        created_at = datetime.fromisoformat(found["created_at"])
        return Manifest(
            version=found["version"],
            kind=kind,
            created_at=created_at if created_at.tzinfo else created_at.replace(tzinfo=UTC),
            parent=found["parent"],
            body=dict(found["body"]),
            arrays=_read_arrays(folder, found["arrays"]),
            hash=hashlib.sha256(raw).hexdigest(),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ManifestError(f"{folder / MANIFEST} is not a manifest of this program: {error!r}") from error


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check(found: Mapping[str, Any], folder: Path, kind: str) -> None:
    """That a manifest is one of this kind and schema, lies where it belongs, and says what was written."""
    path = folder / MANIFEST
    if found["schema"] != SCHEMA:
        raise ManifestError(f"{path} has schema {found['schema']!r}; this version reads {SCHEMA}: train again")
    if found["kind"] != kind:
        raise ManifestError(f"{path} is a manifest of {found['kind']!r}, not of {kind!r}")
    if found["sha256"] != seal(found):
        raise ManifestError(f"{path} was changed: what it says does not have the SHA-256 that it names")
    if found["version"] != folder.name:
        raise ManifestError(f"{path} is the manifest of version {str(found['version'])[:100]!r}: it was moved")
    if not isinstance(found["parent"], str | None):
        raise ManifestError(f"{path} names no version as its parent: {str(found['parent'])[:100]!r}")


def _read_file(path: Path, limit: int) -> bytes:
    """A regular file's bytes; no links, no pipes, nothing above `limit` bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ManifestError(f"{path} is not a regular file")
        if found.st_size > limit:
            raise ManifestError(f"{path} has {found.st_size} bytes; at most {limit} are read")
        return file.read(limit + 1)


def _read_arrays(folder: Path, entry: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    name = entry["file"]
    if not (isinstance(name, str) and PLAIN_NAME.fullmatch(name)):
        raise ManifestError(f"{folder / MANIFEST} names {str(name)[:100]!r}: arrays lie beside their manifest")
    raw = _read_file(folder / name, MAX_ARRAY_BYTES)
    found = hashlib.sha256(raw).hexdigest()
    if found != entry["sha256"]:
        raise ManifestError(f"{folder / name} was changed: its SHA-256 is {found[:12]}…, not {entry['sha256'][:12]}…")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > MAX_ARRAY_BYTES:
            raise ManifestError(f"{folder / name} would unpack to {unpacked} bytes; at most {MAX_ARRAY_BYTES} are read")
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            return {key: _numbers(folder / name, key, arrays[key]) for key in arrays.files}
    except UNREADABLE as error:
        raise ManifestError(f"{folder / name} holds no arrays of numbers: {error}") from error


def _numbers(path: Path, key: str, array: object) -> NDArray[Any]:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "if":
        raise ManifestError(f"{path}: {key[:100]!r} is not an array of numbers")
    if not np.isfinite(array).all():
        raise ManifestError(f"{path}: {key[:100]!r} holds numbers that are not finite")
    return array


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
