"""Reading a version of models, whatever wrote it: nothing is believed before it is checked.

Names, sizes and checksums come first, and every refusal is a `ManifestError`. A checksum finds what was changed by
hand or by a disk, not a forger, who can compute one, too: so whoever reads a body checks types and ranges besides.
Not here: writing a version and which one is the latest (`manifest`), what it means (`models`, `embedding`).
"""

import hashlib
import io
import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.errors import ManifestError

SCHEMA: Final = 2
MANIFEST: Final = "manifest.json"
ARRAYS: Final = "arrays.npz"
MAX_MANIFEST_BYTES: Final = 64 * 2**20
MAX_ARRAY_BYTES: Final = 1024 * 2**20
PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""No separators, no leading dot: nothing that could leave the version's folder."""

UNREADABLE: Final = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, MemoryError, RuntimeError)
"""What zipfile and numpy raise for an archive that is none: a shape of terabytes, an encrypted member, …"""


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
