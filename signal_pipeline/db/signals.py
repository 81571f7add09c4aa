"""Raw signals as rows: what the work needs of one, what it leaves on it, and clearing its samples.

Blobs stay encoded here; `ingest.codec` knows what is inside. Status and lease belong to `claims`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signal_pipeline.db.json_values import clean_json
from signal_pipeline.domain import MAX_AHEAD, PHASES
from signal_pipeline.errors import ValidationFailed


@dataclass(frozen=True, slots=True)
class StoredSource:
    """The CSV behind a signal, as it was when it was loaded."""

    path: str
    sha256: str
    n_rows: int
    dialect: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredSignal:
    """One row of `raw_signals` with its blobs and checksums, (a, b, c); None where a phase has no samples."""

    id: UUID
    equipment_id: UUID
    file_name: str | None
    file_hash: str | None
    sample_rate_hz: float | None
    recorded_at: datetime
    read_at: datetime
    """The database's clock when the row was read: nothing was recorded much later (`latest`)."""
    first_row: int
    lead_in: int
    samples_count: int | None
    phases: tuple[bytes | None, ...]
    checksums: tuple[int | None, ...]
    meta: dict[str, Any]
    source: StoredSource | None

    @property
    def has_samples(self) -> bool:
        return any(blob is not None for blob in self.phases)

    @property
    def n_rows(self) -> int | None:
        """New rows of this signal, lead-in not counted."""
        return None if self.samples_count is None else self.samples_count - self.lead_in

    @property
    def latest(self) -> datetime:
        """Whatever is said to be recorded after this is not believed."""
        return self.read_at + MAX_AHEAD


# A time that Python has no form for (before Christ, infinity) would be an error of the driver, without a name.
LOAD = text("""
    SELECT r.id, r.equipment_id, r.source_id, r.file_name, r.file_hash, r.sample_rate_hz, r.first_row,
           CASE WHEN r.recorded_at >= '1970-01-01 UTC' AND r.recorded_at < '2200-01-01 UTC' THEN r.recorded_at END
               AS recorded_at, CAST(r.recorded_at AS text) AS recorded_at_text, clock_timestamp() AS read_at,
           r.lead_in, r.samples_count, r.crc32_a, r.crc32_b, r.crc32_c, r.meta,
           s.path AS source_path, s.sha256 AS source_sha256, s.n_rows AS source_rows, s.dialect AS source_dialect
    FROM raw_signals AS r LEFT JOIN sources AS s ON s.id = r.source_id WHERE r.id = :id
""")

LOAD_PHASES = "SELECT phase_a, phase_b, phase_c FROM raw_signals WHERE id = %s"

# The work on a signal succeeded: its worker's death from now on is not its fault (see START_WORK).
# It says twice which signals: by the join alone the planner may read the whole table for them.
WORK_DONE = text("""
    UPDATE raw_signals AS r SET work_started_at = NULL, meta = r.meta || w.meta
    FROM unnest(CAST(:ids AS uuid[]), CAST(:metas AS jsonb[])) AS w (id, meta)
    WHERE r.id = w.id AND r.id = ANY(CAST(:ids AS uuid[]))
""")

STORE_PHASES = text("""
    UPDATE raw_signals
    SET phase_a = :phase_a, phase_b = :phase_b, phase_c = :phase_c,
        crc32_a = :crc32_a, crc32_b = :crc32_b, crc32_c = :crc32_c,
        samples_count = :samples_count
    WHERE id = :id
""")

# Only batches of files that are wholly final: a neighbour that is still to be processed may need the file, too.
CLEARABLE = text("""
    SELECT r.source_id, s.path, s.sha256, array_agg(r.id ORDER BY r.id) AS ids
    FROM raw_signals AS r JOIN sources AS s ON s.id = r.source_id
    WHERE r.source_id IN (SELECT source_id FROM raw_signals WHERE id = ANY(:ids) AND source_id IS NOT NULL)
    GROUP BY r.source_id, s.path, s.sha256
    HAVING bool_and(r.processing_status IN ('completed', 'failed'))
""")

# Of all signals: what a worker left that died between completing and clearing, say. It reads the whole table.
LEFT_OVER = text("""
    SELECT r.source_id, s.path, s.sha256, array_agg(r.id ORDER BY r.id) AS ids
    FROM raw_signals AS r JOIN sources AS s ON s.id = r.source_id
    WHERE r.source_id IN (SELECT source_id FROM raw_signals
                          WHERE processing_status = 'completed' AND source_id IS NOT NULL
                            AND (phase_a IS NOT NULL OR phase_b IS NOT NULL OR phase_c IS NOT NULL))
    GROUP BY r.source_id, s.path, s.sha256
    HAVING bool_and(r.processing_status IN ('completed', 'failed'))
""")

# Skips a row that somebody has just claimed again; its phases go with the next completion.
CLEAR_PHASES = text("""
    UPDATE raw_signals
    SET phase_a = NULL, phase_b = NULL, phase_c = NULL, crc32_a = NULL, crc32_b = NULL, crc32_c = NULL
    WHERE id IN (SELECT id FROM raw_signals
                 WHERE id = ANY(:ids) AND processing_status = 'completed'
                   AND (lease_expires_at IS NULL OR lease_expires_at < now())
                   AND (phase_a IS NOT NULL OR phase_b IS NOT NULL OR phase_c IS NOT NULL)
                 ORDER BY id FOR UPDATE SKIP LOCKED)
    RETURNING id
""")


def load_signal(conn: Connection, signal_id: UUID) -> StoredSignal:
    """The whole row. Raises `sqlalchemy.exc.NoResultFound` if it does not exist.

    Raises `ValidationFailed` for a time outside 1970..2200, the bounds that loading a file has, too.
    """
    row = conn.execute(LOAD, {"id": signal_id}).one()
    if row.recorded_at is None:
        raise ValidationFailed(f"recorded_at is {row.recorded_at_text}, outside 1970..2200; set the time of the record")
    source = None
    if row.source_id is not None:
        source = StoredSource(row.source_path, row.source_sha256, row.source_rows, row.source_dialect)
    return StoredSignal(
        id=row.id,
        equipment_id=row.equipment_id,
        file_name=row.file_name,
        file_hash=row.file_hash,
        sample_rate_hz=row.sample_rate_hz,
        recorded_at=row.recorded_at,
        read_at=row.read_at,
        first_row=row.first_row,
        lead_in=row.lead_in,
        samples_count=row.samples_count,
        phases=_load_phases(conn, signal_id),
        checksums=tuple(getattr(row, f"crc32_{p}") for p in PHASES),
        meta=row.meta,
        source=source,
    )


def _load_phases(conn: Connection, signal_id: UUID) -> tuple[bytes | None, ...]:
    """The blobs, in binary: as text the server would write every byte as two, and we would read them back."""
    driver: Any = conn.connection.driver_connection
    with driver.cursor(binary=True) as cursor:
        row = cursor.execute(LOAD_PHASES, (signal_id,)).fetchone()
    return tuple(row)


def work_done(conn: Connection, metas: Mapping[UUID, Mapping[str, Any]]) -> None:
    """Note that the own work on these signals succeeded, and merge what is to be said of it into `meta`."""
    ids = list(metas)
    conn.execute(WORK_DONE, {"ids": ids, "metas": [json.dumps(clean_json(metas[i])) for i in ids]})


def store_phases(
    conn: Connection,
    signal_id: UUID,
    *,
    phases: Sequence[bytes | None],
    checksums: Sequence[int | None],
    samples_count: int,
) -> None:
    """Keep samples that came back from a CSV. The caller holds the fence."""
    conn.execute(
        STORE_PHASES,
        {
            "id": signal_id,
            "samples_count": samples_count,
            **{f"phase_{p}": blob for p, blob in zip(PHASES, phases, strict=True)},
            **{f"crc32_{p}": crc for p, crc in zip(PHASES, checksums, strict=True)},
        },
    )


@dataclass(frozen=True, slots=True)
class Clearable:
    """A file all of whose batches are final, and the signals cut from it."""

    path: str
    sha256: str
    signal_ids: tuple[UUID, ...]


def clearable(conn: Connection, signal_ids: Sequence[UUID]) -> tuple[Clearable, ...]:
    """The files behind these signals that nobody needs in the database any more, if they still stand on disk."""
    return _files(conn.execute(CLEARABLE, {"ids": list(signal_ids)}))


def left_over(conn: Connection) -> tuple[Clearable, ...]:
    """The files like these, of all signals, of which samples of a completed one are still there."""
    return _files(conn.execute(LEFT_OVER))


def _files(rows: Iterable[Row[Any]]) -> tuple[Clearable, ...]:
    return tuple(Clearable(row.path, row.sha256, tuple(row.ids)) for row in rows)


def clear_phases(conn: Connection, signal_ids: Sequence[UUID]) -> tuple[UUID, ...]:
    """Drop the samples of completed signals; returns those that had any."""
    return tuple(conn.execute(CLEAR_PHASES, {"ids": list(signal_ids)}).scalars())
