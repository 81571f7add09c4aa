"""Files in the database: whether one is known, and putting one in whole, inside the caller's transaction.

Files are known by their hash: a row that is there keeps the id that it has, whatever that was made of. Not here: the
ids of new ones (`ids`), reading a file, and what a known one is told (`ingest`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from signal_pipeline.db import source_sql
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.hours import Hour, hours_of_signals, lock_hours, recompute_hours
from signal_pipeline.db.ids import signal_id
from signal_pipeline.db.json_values import clean_json
from signal_pipeline.domain import PHASES, Status


@dataclass(frozen=True, slots=True)
class KnownSignal:
    """A row of a file that is known. `held_by` and `held_until` only while a lease runs.

    `batch_index` is None for a row of other content (an earlier version of a file), or one that does not say.
    """

    id: UUID
    batch_index: int | None
    status: Status
    equipment: str
    file_name: str | None
    first_row: int
    n_rows: int
    created_at: datetime
    held_by: str | None
    held_until: datetime | None


@dataclass(frozen=True, slots=True)
class NewFile:
    """What all rows of one file have in common. `recorded_at` is the time of the file's first sample.

    `source_id` is what `put_source` says; `kept` are the ids of batches that the file had before it is loaded again.
    """

    sha256: str
    path: str
    size_bytes: int
    equipment_id: UUID
    sample_rate_hz: float | None
    recorded_at: datetime
    source_id: UUID
    kept: Mapping[int, UUID] = field(default_factory=dict)

    def signal_id(self, batch_index: int) -> UUID:
        """The id of one batch: the one that it had, else a new one."""
        if batch_index in self.kept:
            return self.kept[batch_index]
        new = signal_id(self.sha256, batch_index, self.recorded_at)
        if new in self.kept.values():  # somebody has numbered the rows anew
            new = signal_id(self.sha256, -1 - batch_index, self.recorded_at)
        return new


@dataclass(frozen=True, slots=True)
class NewSignal:
    """One batch of a file: blobs and checksums are (a, b, c), and hold `lead_in` earlier samples first."""

    batch_index: int
    first_row: int
    lead_in: int
    samples_count: int
    phases: Sequence[bytes]
    checksums: Sequence[int]
    meta: Mapping[str, Any]


def clock(conn: Connection) -> datetime:
    """What time it is at the database, whose clock is one for all hosts."""
    return conn.execute(text("SELECT clock_timestamp()")).scalar_one()  # type: ignore[no-any-return]


def lock_file(conn: Connection, sha256: str) -> None:
    """Be the only one who loads this content until the transaction ends; waits for whoever is at it already."""
    if conn.execute(source_sql.TRY_LOCK, {"sha256": sha256}).scalar():
        return
    for statement in source_sql.WAIT_AS_LONG_AS_IT_TAKES:
        conn.execute(statement)
    conn.execute(source_sql.LOCK, {"sha256": sha256})
    for statement in source_sql.USUAL_LIMITS:
        conn.execute(statement)


def find_file(
    conn: Connection, sha256: str, *, lock: bool = False, versions_of: str | None = None
) -> tuple[KnownSignal, ...]:
    """The rows of the file with this content, in the file's order; with `lock`, nobody else changes them meanwhile.

    With `versions_of`, a path, also what was loaded from there while other content stood in it.
    """
    own = list(conn.execute(source_sql.SOURCES_OF_CONTENT, {"sha256": sha256}).scalars())
    earlier: list[UUID] = []
    if versions_of is not None:
        earlier += conn.execute(source_sql.EARLIER_VERSIONS, {"path": versions_of, "sha256": sha256}).scalars()
    statement = source_sql.FIND_AND_LOCK if lock else source_sql.FIND_WITHOUT_LOCK
    rows = conn.execute(statement, {"own": own, "earlier": earlier, "sha256": sha256})
    found = [
        KnownSignal(
            id=row.id,
            batch_index=row.batch_index,
            status=Status(row.processing_status),
            equipment=row.equipment,
            file_name=row.file_name,
            first_row=row.first_row,
            n_rows=row.n_rows,
            created_at=row.created_at,
            held_by=row.held_by,
            held_until=row.held_until,
        )
        for row in rows
    ]
    return tuple(sorted(found, key=lambda signal: signal.first_row))


def delete_signals(conn: Connection, signals: Sequence[KnownSignal]) -> tuple[Hour, ...]:
    """Delete a file's rows, locked by `find_file`, and all that came of them.

    Returns the hours that lost windows, to be given to `settle_hours` at the end of the same transaction.
    """
    if not signals:
        return ()
    ids = [signal.id for signal in signals]
    hours = hours_of_signals(conn, ids)
    conn.execute(source_sql.DELETE_SIGNALS, {"ids": ids})
    return hours


def forget_earlier_versions(conn: Connection, path: str, *, sha256: str) -> None:
    """The sources of other content at `path`, whose signals have been deleted."""
    conn.execute(source_sql.FORGET_EARLIER_VERSIONS, {"path": path, "sha256": sha256})


def move_file(conn: Connection, sha256: str, *, path: str) -> None:
    """The file with this content, whose rows `find_file` has locked, lies at `path` now."""
    for statement in (source_sql.MOVE_SOURCE, source_sql.MOVE_SIGNALS):
        conn.execute(statement, {"sha256": sha256, "path": path})


def settle_hours(conn: Connection, hours: Sequence[Hour]) -> None:
    """Recompute hours that lost windows. Last of all, so that no worker waits for their locks while a file is read."""
    recompute_hours(conn, lock_hours(conn, hours))


def ensure_equipment(conn: Connection, name: str) -> UUID:
    """The id of the equipment of that name, which is there afterwards."""
    found = conn.execute(source_sql.EQUIPMENT, {"name": name}).scalar_one_or_none()
    if found is None:
        conn.execute(source_sql.ADD_EQUIPMENT, {"name": name})
        found = conn.execute(source_sql.EQUIPMENT, {"name": name}).scalar_one()
    return UUID(str(found))


def put_source(conn: Connection, file: NewFile, *, dialect: Mapping[str, Any]) -> NewFile:
    """The file itself, before any of its rows; its row count is not known yet. Returns it with its source's id."""
    found = conn.execute(
        source_sql.PUT_SOURCE,
        {
            "id": file.source_id,
            "path": file.path,
            "sha256": file.sha256,
            "size_bytes": file.size_bytes,
            "dialect": json.dumps(clean_json(dialect)),
        },
    )
    return replace(file, source_id=found.scalar_one())


def insert_signal(conn: Connection, file: NewFile, signal: NewSignal) -> UUID:
    """One pending batch; only batch 0 carries the file's hash."""
    parameters = _common(file, signal.batch_index) | {
        "first_row": signal.first_row,
        "lead_in": signal.lead_in,
        "samples_count": signal.samples_count,
        "meta": json.dumps(clean_json(signal.meta)),
    }
    parameters |= {f"phase_{p}": blob for p, blob in zip(PHASES, signal.phases, strict=True)}
    parameters |= {f"crc32_{p}": crc for p, crc in zip(PHASES, signal.checksums, strict=True)}
    conn.execute(source_sql.INSERT_SIGNAL, parameters)
    return file.signal_id(signal.batch_index)


def insert_failed(conn: Connection, file: NewFile, *, meta: Mapping[str, Any], failure: Failure) -> UUID:
    """The one FAILED row, without samples, of a file with bad content."""
    words = {"meta": json.dumps(clean_json(meta)), "failure": json.dumps(failure.as_dict())}
    conn.execute(source_sql.INSERT_FAILED, _common(file, 0) | words)
    return file.signal_id(0)


def finish_file(
    conn: Connection,
    file: NewFile,
    *,
    n_rows: int,
    size_bytes: int,
    dialect: Mapping[str, Any],
    batches: int,
    recorded: Sequence[str],
) -> None:
    """What is known at a file's end; the blobs of phases (of a, b, c) that are not `recorded` go."""
    words = {"id": file.source_id, "dialect": json.dumps(clean_json(dialect))}
    conn.execute(source_sql.FINISH_SOURCE, words | {"n_rows": n_rows, "size_bytes": size_bytes})
    if batches > 1 or len(recorded) < len(PHASES):  # else the only row says so already
        conn.execute(source_sql.FINISH_SIGNALS, {"id": words["id"], "batches": batches, "recorded": list(recorded)})


def _common(file: NewFile, batch_index: int) -> dict[str, Any]:
    return {
        "id": file.signal_id(batch_index),
        "equipment_id": file.equipment_id,
        "source_id": file.source_id,
        "file_name": file.path,
        "file_hash": file.sha256 if batch_index == 0 else None,
        "sample_rate_hz": file.sample_rate_hz,
        "recorded_at": file.recorded_at,
    }
