"""Files in the database: whether one is known, and putting one in whole, inside the caller's transaction.

A new file's ids are made of its time and its content: in the order of time, so that rows which are worked on together
lie together in every index on ids, and the same for the same recording in every database. A row that is there keeps the
id that it has, whatever it was made of: files are known by their hash (docs/decisions/0109). Not here: reading a file,
and what a known one is told (`ingest`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from signal_pipeline.db.claims import Failure
from signal_pipeline.db.hours import Hour, hours_of_signals, lock_hours, recompute_hours
from signal_pipeline.db.json_values import clean_json
from signal_pipeline.domain import PHASES, Status

NAMESPACE: Final = UUID("354705ee-7421-5da9-8d4e-7b1dc14e97df")
"""Of all ids that are made of a file. Another one would give the same recording other ids in a new database."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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


# One loader a file. Tried first, because the usual limits on waiting are too short for a neighbour's file of gigabytes.
# And silence must be allowed: after the first of a gigabyte of bad cells nothing is inserted until all are counted.
TRY_LOCK = text("""
    SELECT pg_try_advisory_xact_lock(hashtextextended('load:' || :sha256, 0)),
           set_config('idle_in_transaction_session_timeout', '2h', true)
""")
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('load:' || :sha256, 0))")
WAIT_AS_LONG_AS_IT_TAKES = (text("SET LOCAL lock_timeout = 0"), text("SET LOCAL statement_timeout = 0"))
USUAL_LIMITS = (text("SET LOCAL lock_timeout TO DEFAULT"), text("SET LOCAL statement_timeout TO DEFAULT"))

SOURCES_OF_CONTENT = text("SELECT id FROM sources WHERE sha256 = :sha256")

# By hash, too: another program may have registered the file without a source. Whatever it wrote for a batch's number.
FIND = """
    SELECT r.id,
           CASE WHEN r.file_hash = :sha256 THEN 0
                WHEN r.source_id = ANY(:own) AND r.meta ->> 'batch_index' ~ '^[0-9]{1,9}$'
                THEN CAST(r.meta ->> 'batch_index' AS integer) END AS batch_index,
           r.processing_status, e.name AS equipment, r.file_name, r.first_row, r.created_at,
           greatest(0, coalesce(r.samples_count - r.lead_in, 0)) AS n_rows,
           CASE WHEN r.lease_expires_at >= clock_timestamp() THEN r.claimed_by END AS held_by,
           CASE WHEN r.lease_expires_at >= clock_timestamp() THEN r.lease_expires_at END AS held_until
    FROM raw_signals AS r JOIN equipment AS e ON e.id = r.equipment_id
    WHERE r.source_id = ANY(:own) OR r.source_id = ANY(:earlier) OR r.file_hash = :sha256 ORDER BY r.id
"""
FIND_WITHOUT_LOCK = text(FIND)
# Nobody can claim a row between looking at its lease and deleting it. In id order, as the fence locks (see `claims`).
FIND_AND_LOCK = text(f"{FIND} FOR UPDATE OF r")

EARLIER_VERSIONS = text("SELECT id FROM sources WHERE path = :path AND sha256 <> :sha256")
# Only once their signals are gone: what nobody has locked is not deleted along with its source.
FORGET_EARLIER_VERSIONS = text("""
    DELETE FROM sources AS s WHERE s.path = :path AND s.sha256 <> :sha256
        AND NOT EXISTS (SELECT FROM raw_signals AS r WHERE r.source_id = s.id)
""")
MOVE_SOURCE = text("UPDATE sources SET path = :path WHERE sha256 = :sha256")
MOVE_SIGNALS = text("""
    UPDATE raw_signals SET file_name = :path WHERE source_id = (SELECT id FROM sources WHERE sha256 = :sha256)
""")

# Features and scores go with their signals (ON DELETE CASCADE).
DELETE_SIGNALS = text("DELETE FROM raw_signals WHERE id = ANY(:ids)")

ADD_EQUIPMENT = text("INSERT INTO equipment (name) VALUES (:name) ON CONFLICT (name) DO NOTHING")
EQUIPMENT = text("SELECT id FROM equipment WHERE name = :name")

# The source of a file that had failed is there still, and keeps its id; the file may lie elsewhere now, and be read
# otherwise.
PUT_SOURCE = text("""
    INSERT INTO sources (id, path, sha256, size_bytes, n_rows, dialect)
    VALUES (:id, :path, :sha256, :size_bytes, 0, CAST(:dialect AS jsonb))
    ON CONFLICT (sha256) DO UPDATE
    SET path = excluded.path, size_bytes = excluded.size_bytes, n_rows = 0, dialect = excluded.dialect,
        created_at = excluded.created_at
    RETURNING id
""")

_PHASE_COLUMNS = [f"{kind}_{phase}" for kind in ("phase", "crc32") for phase in PHASES]

INSERT_SIGNAL = text(f"""
    INSERT INTO raw_signals (id, equipment_id, source_id, file_name, file_hash, sample_rate_hz, recorded_at,
                             first_row, lead_in, samples_count, meta, {", ".join(_PHASE_COLUMNS)})
    VALUES (:id, :equipment_id, :source_id, :file_name, :file_hash, :sample_rate_hz, :recorded_at,
            :first_row, :lead_in, :samples_count, CAST(:meta AS jsonb), {", ".join(f":{c}" for c in _PHASE_COLUMNS)})
""")  # noqa: S608  column names are ours

INSERT_FAILED = text("""
    INSERT INTO raw_signals (id, equipment_id, source_id, file_name, file_hash, sample_rate_hz, recorded_at,
                             processing_status, finalized_at, meta)
    VALUES (:id, :equipment_id, :source_id, :file_name, :file_hash, :sample_rate_hz, :recorded_at, 'failed', now(),
            CAST(:meta AS jsonb)
            || jsonb_build_object('failure', CAST(:failure AS jsonb) || jsonb_build_object('at', now())))
""")

FINISH_SOURCE = text("""
    UPDATE sources SET n_rows = :n_rows, size_bytes = :size_bytes, dialect = CAST(:dialect AS jsonb) WHERE id = :id
""")

# Known only at the file's end: how many batches there are, and which phases hold no number in any of them.
FINISH_SIGNALS = text(f"""
    UPDATE raw_signals
    SET meta = meta || jsonb_build_object('batches', CAST(:batches AS integer), 'phases', CAST(:recorded AS text[])),
        {", ".join(f"{c} = CASE WHEN '{c[-1]}' = ANY(CAST(:recorded AS text[])) THEN {c} END" for c in _PHASE_COLUMNS)}
    WHERE source_id = :id
""")  # noqa: S608  column names are ours


def clock(conn: Connection) -> datetime:
    """What time it is at the database, whose clock is one for all hosts."""
    return conn.execute(text("SELECT clock_timestamp()")).scalar_one()  # type: ignore[no-any-return]


def source_id(sha256: str, recorded_at: datetime) -> UUID:
    """The id of a new file with this content (SHA-256, hex), which begins at `recorded_at`."""
    return _ordered_by_time(recorded_at, sha256)


def signal_id(sha256: str, batch_index: int, recorded_at: datetime) -> UUID:
    """The id of one batch of such a file."""
    return _ordered_by_time(recorded_at, f"{sha256}:{batch_index}")


def _ordered_by_time(at: datetime, name: str) -> UUID:
    """A UUID of version 8 (RFC 9562): 48 bits of milliseconds since 1970, as version 7 has them, then 74 of a hash."""
    milliseconds = min(max((at - _EPOCH) // timedelta(milliseconds=1), 0), 2**48 - 1)
    digest = hashlib.sha256(NAMESPACE.bytes + name.encode()).digest()
    octets = bytearray(milliseconds.to_bytes(6) + digest[:10])
    octets[6] = 0x80 | octets[6] & 0x0F
    octets[8] = 0x80 | octets[8] & 0x3F
    return UUID(bytes=bytes(octets))


def lock_file(conn: Connection, sha256: str) -> None:
    """Be the only one who loads this content until the transaction ends; waits for whoever is at it already."""
    if conn.execute(TRY_LOCK, {"sha256": sha256}).scalar():
        return
    for statement in WAIT_AS_LONG_AS_IT_TAKES:
        conn.execute(statement)
    conn.execute(LOCK, {"sha256": sha256})
    for statement in USUAL_LIMITS:
        conn.execute(statement)


def find_file(
    conn: Connection, sha256: str, *, lock: bool = False, versions_of: str | None = None
) -> tuple[KnownSignal, ...]:
    """The rows of the file with this content, in the file's order; with `lock`, nobody else changes them meanwhile.

    With `versions_of`, a path, also what was loaded from there while other content stood in it.
    """
    own = list(conn.execute(SOURCES_OF_CONTENT, {"sha256": sha256}).scalars())
    earlier: list[UUID] = []
    if versions_of is not None:
        earlier += conn.execute(EARLIER_VERSIONS, {"path": versions_of, "sha256": sha256}).scalars()
    statement = FIND_AND_LOCK if lock else FIND_WITHOUT_LOCK
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
    conn.execute(DELETE_SIGNALS, {"ids": ids})
    return hours


def forget_earlier_versions(conn: Connection, path: str, *, sha256: str) -> None:
    """The sources of other content at `path`, whose signals have been deleted."""
    conn.execute(FORGET_EARLIER_VERSIONS, {"path": path, "sha256": sha256})


def move_file(conn: Connection, sha256: str, *, path: str) -> None:
    """The file with this content, whose rows `find_file` has locked, lies at `path` now."""
    for statement in (MOVE_SOURCE, MOVE_SIGNALS):
        conn.execute(statement, {"sha256": sha256, "path": path})


def settle_hours(conn: Connection, hours: Sequence[Hour]) -> None:
    """Recompute hours that lost windows. Last of all, so that no worker waits for their locks while a file is read."""
    recompute_hours(conn, lock_hours(conn, hours))


def ensure_equipment(conn: Connection, name: str) -> UUID:
    """The id of the equipment of that name, which is there afterwards."""
    found = conn.execute(EQUIPMENT, {"name": name}).scalar_one_or_none()
    if found is None:
        conn.execute(ADD_EQUIPMENT, {"name": name})
        found = conn.execute(EQUIPMENT, {"name": name}).scalar_one()
    return UUID(str(found))


def put_source(conn: Connection, file: NewFile, *, dialect: Mapping[str, Any]) -> NewFile:
    """The file itself, before any of its rows; its row count is not known yet. Returns it with its source's id."""
    found = conn.execute(
        PUT_SOURCE,
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
    conn.execute(INSERT_SIGNAL, parameters)
    return file.signal_id(signal.batch_index)


def insert_failed(conn: Connection, file: NewFile, *, meta: Mapping[str, Any], failure: Failure) -> UUID:
    """The one FAILED row, without samples, of a file with bad content."""
    words = {"meta": json.dumps(clean_json(meta)), "failure": json.dumps(failure.as_dict())}
    conn.execute(INSERT_FAILED, _common(file, 0) | words)
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
    conn.execute(FINISH_SOURCE, words | {"n_rows": n_rows, "size_bytes": size_bytes})
    if batches > 1 or len(recorded) < len(PHASES):  # else the only row says so already
        conn.execute(FINISH_SIGNALS, {"id": words["id"], "batches": batches, "recorded": list(recorded)})


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
