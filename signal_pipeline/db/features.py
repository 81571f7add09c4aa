"""Storing features: replace another version, skip what is there, add the rest, by binary COPY.

Called inside the transaction that holds the fence on the signals (see `claims.fence`): nobody else writes these
signals' features meanwhile, so checking first and copying straight into the table is safe, and the unique index on
(raw_id, window_start) stands behind it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.db import copy_binary
from signal_pipeline.db.hours import Hour, hour_of, lock_hours, recompute_hours
from signal_pipeline.db.json_values import clean_json

PREFIX_COLUMNS = ("raw_id", "equipment_id", "window_start", "feature_version", "null_reasons", "embedding")


@dataclass(frozen=True, slots=True)
class SignalFeatures:
    """All windows of one signal, ready to be stored.

    `window_starts`, one a window; `values` (window, len(COLUMNS)) float64 with NaN for NULL; `null_reasons`, one a
    window; `embedding` (window, n) float32 or None.
    """

    raw_id: UUID
    equipment_id: UUID
    feature_version: str
    window_starts: Sequence[datetime]
    values: NDArray[np.float64]
    null_reasons: Sequence[dict[str, str] | None]
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What storing changed: new rows by signal, and the hours that were recomputed."""

    inserted: dict[UUID, int]
    hours: tuple[Hour, ...]


def window_time(recorded_at: datetime, row: int, fs: float) -> datetime:
    """Time of the file's sample `row`: recorded_at + row / fs, rounded to microseconds."""
    return recorded_at + timedelta(microseconds=round(row * 1_000_000 / fs))


# Another version's rows go, and their scores with them (ON DELETE CASCADE).
DELETE_OTHER_VERSIONS = text("""
    DELETE FROM features AS f USING unnest(CAST(:ids AS uuid[]), CAST(:versions AS text[])) AS w (raw_id, version)
    WHERE f.raw_id = w.raw_id AND f.feature_version <> w.version
    RETURNING f.equipment_id, f.window_start
""")

EXISTING = text("SELECT raw_id, window_start FROM features WHERE raw_id = ANY(:ids)")


def store_features(conn: Connection, signals: Sequence[SignalFeatures]) -> Stored:
    """Write the features of `signals` and recompute the hours they touch, all in the caller's transaction."""
    ids = [s.raw_id for s in signals]
    versions = [s.feature_version for s in signals]
    replaced = conn.execute(DELETE_OTHER_VERSIONS, {"ids": ids, "versions": versions}).all()
    known = {(row.raw_id, row.window_start) for row in conn.execute(EXISTING, {"ids": ids})}
    missing = [(s, [i for i, start in enumerate(s.window_starts) if (s.raw_id, start) not in known]) for s in signals]
    touched = {(row.equipment_id, hour_of(row.window_start)) for row in replaced}
    touched |= {(s.equipment_id, hour_of(s.window_starts[i])) for s, new in missing for i in new}
    hours = lock_hours(conn, touched)
    _copy(conn, [(s, new) for s, new in missing if new])
    recompute_hours(conn, hours)
    inserted = {s.raw_id: len(new) for s, new in missing}
    return Stored(inserted, hours)


def _copy(conn: Connection, signals: Sequence[tuple[SignalFeatures, list[int]]]) -> None:
    if not signals:
        return
    prefix = [_prefix(s, i) for s, new in signals for i in new]
    values = np.concatenate([s.values[new] for s, new in signals])
    body = copy_binary.encode_rows(prefix, values, n_fields=len(PREFIX_COLUMNS) + len(COLUMNS))
    columns = ", ".join((*PREFIX_COLUMNS, *COLUMNS))
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY features ({columns}) FROM STDIN (FORMAT binary)") as copy:
        copy.write(body)


def _prefix(signal: SignalFeatures, window: int) -> bytes:
    reasons = signal.null_reasons[window]
    embedding = None if signal.embedding is None else copy_binary.real_array(signal.embedding[window])
    return b"".join(
        copy_binary.field(value)
        for value in (
            signal.raw_id.bytes,
            signal.equipment_id.bytes,
            copy_binary.timestamp(signal.window_starts[window]),
            signal.feature_version.encode(),
            None if not reasons else copy_binary.JSONB_VERSION + json.dumps(clean_json(reasons)).encode(),
            embedding,
        )
    )
