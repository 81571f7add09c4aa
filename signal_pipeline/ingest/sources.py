"""Which files are read, and what they are called: finding CSVs, keeping inside the data roots, opening without a race.

Here: paths and names, nothing of a file's content. Not here: when a recording was made (`recorded_at`), or reading it
(`csv_reader`). A path, and a name most of all, is hostile until shown otherwise: a name may hold newlines, terminal
escapes or SQL, and a folder may hold pipes, devices and links to anywhere.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from signal_pipeline.domain import RejectionReason
from signal_pipeline.errors import FileRejected, SettingsError

MAX_EQUIPMENT_LENGTH: Final = 120
UNNAMED_EQUIPMENT: Final = "unnamed"

_O_PATH: Final = getattr(os, "O_PATH", os.O_RDONLY)  # Linux: a folder that may be passed, but not listed, is enough
_O_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_O_NONBLOCK: Final = getattr(os, "O_NONBLOCK", 0)
_O_BINARY: Final = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class CsvSource:
    """A file that may be read: its resolved path, and the root that it lies below."""

    path: Path
    root: Path
    size: int
    mtime_ns: int

    @property
    def name(self) -> str:
        """For logs and tables."""
        return printable(self.path.name)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A file or folder that gets no row, and why. `name` and `message` are printable."""

    name: str
    reason: RejectionReason
    message: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """Every file that was asked for is in exactly one of the two."""

    sources: tuple[CsvSource, ...]
    rejections: tuple[Rejection, ...]


def printable(text: str, *, limit: int = 200) -> str:
    """`text` for one line of a log or a table: what cannot be printed is escaped, what is too long is cut.

    Terminal escapes, newlines, characters that turn the direction of writing and bytes that are no text never pass.
    """
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text[:limit]
    )
    return shown if len(text) <= limit else f"{shown}… ({len(text)} characters)"


def discover(named: Iterable[Path], *, data_roots: Sequence[Path], max_bytes: int) -> Discovery:
    """The CSVs among and below what a person named, sorted, each once.

    A named file may have any suffix; below a folder those that end in `.csv` (in any case) count, and hidden ones do
    not. Without `data_roots` the root is the named folder itself, or the named file's parent.
    """
    roots = tuple(root.resolve() for root in data_roots)
    sources: dict[Path, CsvSource] = {}
    rejections: list[Rejection] = []
    for path in named:
        for candidate, own_root in _candidates(path, rejections, roots):
            try:
                source = check_source(candidate, data_roots=roots or (own_root,), max_bytes=max_bytes)
            except FileRejected as error:
                rejections.append(Rejection(printable(str(candidate)), error.reason, str(error)))
            else:
                sources.setdefault(source.path, source)
    return Discovery(tuple(sources[path] for path in sorted(sources)), tuple(rejections))


def check_source(path: Path, *, data_roots: Sequence[Path], max_bytes: int) -> CsvSource:
    """The file at `path`, links followed, if it is a regular one, inside a root, and not too large.

    Without `data_roots` the file's own folder is the root. Raises `FileRejected`.
    """
    resolved = _resolve(path)
    roots = [root.resolve() for root in data_roots] or [resolved.parent]
    root = next((root for root in roots if resolved.is_relative_to(root)), None)
    if root is None:
        raise FileRejected(
            f"{printable(str(path))} lies outside the data roots ({', '.join(printable(str(r)) for r in roots)}); "
            "move it there, or set DATA_ROOTS",
            reason=RejectionReason.OUTSIDE_DATA_ROOT,
        )
    try:
        found = resolved.stat()
    except OSError as error:
        raise _rejected(path, error) from error
    _check_regular(path, found, max_bytes)
    try:
        resolved.name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FileRejected(
            f"{printable(str(path))}: the name is not UTF-8, and the database could not hold it; rename the file",
            reason=RejectionReason.UNREADABLE,
        ) from error
    return CsvSource(resolved, root, found.st_size, found.st_mtime_ns)


def open_csv(path: Path, *, max_bytes: int | None = None) -> BinaryIO:
    """Open a resolved path for reading, unbuffered, following no link on the whole way, never waiting on a pipe.

    Between the check of a path and its opening anybody who may write to a folder can put a link in its place; so
    every part of the path is opened from its parent, and the opened file is checked again. Raises `FileRejected`.
    """
    try:
        descriptor = _open_without_links(path.absolute())
    except OSError as error:
        raise _rejected(path, error) from error
    try:
        _check_regular(path, os.fstat(descriptor), max_bytes)
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def equipment_of(path: Path, explicit: str | None = None) -> str:
    """The equipment that a recording belongs to: `explicit`, else the name of the file's folder made printable.

    Raises `SettingsError` for an explicit name that is empty, too long or not printable.
    """
    if explicit is not None:
        name = explicit.strip()
        if not name or len(name) > MAX_EQUIPMENT_LENGTH or not name.isprintable():
            raise SettingsError(
                f"equipment '{printable(explicit)}': a name has 1 to {MAX_EQUIPMENT_LENGTH} printable characters"
            )
        return name
    folder = "".join(char if char.isprintable() else "_" for char in path.parent.name).strip()
    return folder[:MAX_EQUIPMENT_LENGTH].strip() or UNNAMED_EQUIPMENT


def _candidates(path: Path, rejections: list[Rejection], roots: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Files to check, each with the root that counts when no data roots are set."""
    try:
        resolved = _resolve(path)
    except FileRejected as error:
        rejections.append(Rejection(printable(str(path)), error.reason, str(error)))
        return
    if not resolved.is_dir():
        yield path, resolved.parent
        return
    for found in _walk(resolved, roots or (resolved,), rejections):
        yield found, resolved


def _walk(folder: Path, roots: Sequence[Path], rejections: list[Rejection]) -> Iterator[Path]:
    """CSVs below a folder. Linked folders inside the roots are entered, and each folder once: no loop is endless."""
    waiting = [folder]
    seen: set[Path] = set()
    while waiting:
        place = waiting.pop()
        try:
            resolved = _resolve(place)
            if resolved in seen:
                continue
            if not any(resolved.is_relative_to(root) for root in roots):
                raise FileRejected(
                    f"{printable(str(place))} leads outside the data roots", reason=RejectionReason.OUTSIDE_DATA_ROOT
                )
            seen.add(resolved)
            with os.scandir(resolved) as listing:
                entries = sorted((entry for entry in listing if not entry.name.startswith(".")), key=lambda e: e.name)
        except FileRejected as error:
            rejections.append(Rejection(printable(str(place)), error.reason, str(error)))
            continue
        except OSError as error:
            rejected = _rejected(place, error)
            rejections.append(Rejection(printable(str(place)), rejected.reason, str(rejected)))
            continue
        for entry in entries:
            if _is_folder(entry):
                waiting.append(Path(entry.path))
            elif entry.name.lower().endswith(".csv"):
                yield Path(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads in circles: as a file it is rejected with its reason


def _resolve(path: Path) -> Path:
    try:
        return path.resolve(strict=True)
    except OSError as error:
        raise _rejected(path, error) from error
    except (RuntimeError, ValueError) as error:  # a link in circles (Python 3.11, 3.12); a NUL in the path
        raise FileRejected(f"{printable(str(path))}: {error}", reason=RejectionReason.UNREADABLE) from error


def _open_without_links(path: Path) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | _O_NOFOLLOW | _O_NONBLOCK if os.name == "posix" else os.O_RDONLY | _O_BINARY
    if os.open not in os.supports_dir_fd:
        return os.open(path, flags)
    place = os.open(path.anchor, _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.parts[1:-1]:
            inner = os.open(part, _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | _O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = inner
        # opening a device can act on it, so the kind is looked at before and, by the caller, after
        found = os.stat(path.name, dir_fd=place, follow_symlinks=False)
        _check_regular(path, found, None)
        return os.open(path.name, flags, dir_fd=place)
    finally:
        os.close(place)


def _check_regular(path: Path, found: os.stat_result, max_bytes: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = (
            "a link"
            if stat.S_ISLNK(found.st_mode)
            else "a folder"
            if stat.S_ISDIR(found.st_mode)
            else "a pipe or device"
        )
        raise FileRejected(f"{printable(str(path))} is {kind}, not a file", reason=RejectionReason.NOT_A_FILE)
    if max_bytes is not None and found.st_size > max_bytes:
        raise FileRejected(
            f"{printable(str(path))} has {found.st_size} bytes; at most {max_bytes} are read: "
            "split it, or raise CSV_MAX_BYTES",
            reason=RejectionReason.TOO_LARGE,
        )


def _rejected(path: Path, error: OSError) -> FileRejected:
    shown = printable(str(path))
    if error.errno == errno.ENOENT:
        return FileRejected(f"{shown} does not exist", reason=RejectionReason.NOT_FOUND)
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return FileRejected(f"{shown}: a link, or no folder, stands in its path", reason=RejectionReason.NOT_A_FILE)
    return FileRejected(f"{shown} cannot be read: {error.strerror}", reason=RejectionReason.UNREADABLE)
