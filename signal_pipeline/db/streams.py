"""An equipment's stream of scores in the database: its lock, where it stands, what comes next, what it wrote.

A stream has an order, (window_start, raw_id), and one writer at a time: whoever holds the lock. State, scores and
events move in one transaction. Not here: what a score is (`anomaly`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert as upsert

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.db import stream_sql
from signal_pipeline.db.json_values import clean_json
from signal_pipeline.db.models import AnomalyEvent, AnomalyState
from signal_pipeline.domain import MAX_AHEAD


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Which stream: of one equipment, by one kind and version of model."""

    equipment_id: UUID
    kind: str
    version: str

    def as_dict(self) -> dict[str, Any]:
        return {"equipment_id": self.equipment_id, "model_kind": self.kind, "model_version": self.version}


@dataclass(frozen=True, slots=True)
class Position:
    """The last window that a stream has learnt."""

    window_start: datetime
    raw_id: UUID


@dataclass(frozen=True, slots=True)
class StoredState:
    """A stream's row: the model's state, what the rules for events and drift remember, both as JSON; and the manifest
    under which it began."""

    manifest_hash: str
    state: dict[str, Any]
    tracker: dict[str, Any]
    position: Position | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which stored windows a model can read: these columns, of this feature version; and the signals at hand."""

    columns: Sequence[str]
    feature_version: str
    signal_ids: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class Windows:
    """Stored windows in stream order: `values` float64 (n, len(columns asked for)), NaN for NULL."""

    feature_ids: tuple[int, ...]
    raw_ids: tuple[UUID, ...]
    starts: tuple[datetime, ...]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.feature_ids)

    @property
    def end(self) -> Position:
        return Position(self.starts[-1], self.raw_ids[-1])


@dataclass(frozen=True, slots=True)
class NewScore:
    """One row of `anomaly_scores`, without its stream."""

    feature_id: int
    raw_id: UUID
    window_start: datetime
    score: float
    threshold: float
    is_anomaly: bool
    meta: dict[str, Any]


def lock_stream(conn: Connection, key: StreamKey) -> None:
    """Wait for, and hold until the transaction ends, the right to move the equipment's streams of this kind."""
    conn.execute(stream_sql.LOCK, {"kind": key.kind, "equipment": str(key.equipment_id)})


def read_state(conn: Connection, key: StreamKey) -> StoredState | None:
    """Where the stream stands; None if it has not begun."""
    row = conn.execute(stream_sql.STATE, key.as_dict()).one_or_none()
    if row is None:
        return None
    position = None if row.last_window_start is None else Position(row.last_window_start, row.last_raw_id)
    return StoredState(row.manifest_hash, row.state, row.tracker, position)


def predecessor(conn: Connection, key: StreamKey) -> Position | None:
    """How far the equipment's stream came under the version that moved it before this one; None if none did."""
    row = conn.execute(stream_sql.PREDECESSOR, key.as_dict()).one_or_none()
    return None if row is None else Position(row.last_window_start, row.last_raw_id)


def close_other_events(conn: Connection, key: StreamKey) -> None:
    """End what versions other than the key's have left open. The caller holds the stream's lock."""
    conn.execute(stream_sql.CLOSE_OTHERS, key.as_dict())


def close_events(conn: Connection, key: StreamKey) -> None:
    """End what the stream has left open, because nothing moves it any more. The caller holds its lock."""
    conn.execute(stream_sql.CLOSE, key.as_dict())


def open_streams(conn: Connection) -> list[tuple[str, StreamKey]]:
    """The streams that have an open event, each with its equipment's name."""
    return [
        (row.name, StreamKey(row.equipment_id, row.model_kind, row.model_version))
        for row in conn.execute(stream_sql.OPEN_STREAMS)
    ]


def write_state(conn: Connection, key: StreamKey, state: StoredState) -> None:
    """Move the stream. The caller holds its lock."""
    at = state.position
    values = {
        "manifest_hash": state.manifest_hash,
        "state": state.state,
        "tracker": state.tracker,
        "last_window_start": None if at is None else at.window_start,
        "last_raw_id": None if at is None else at.raw_id,
        "updated_at": text("clock_timestamp()"),
    }
    statement = upsert(AnomalyState).values(**key.as_dict(), **values)
    conn.execute(
        statement.on_conflict_do_update(index_elements=["equipment_id", "model_kind", "model_version"], set_=values)
    )


def read_barrier(conn: Connection, equipment_id: UUID, *, feature_version: str) -> datetime | None:
    """No window from here on may be learnt yet; None if no earlier signal is unfinished."""
    parameters = {"equipment_id": equipment_id, "feature_version": feature_version}
    return conn.execute(stream_sql.BARRIER, parameters).scalar_one()  # type: ignore[no-any-return]


def next_windows(
    conn: Connection,
    key: StreamKey,
    wanted: Wanted,
    *,
    after: Position | None,
    barrier: datetime | None,
    since: datetime,
    waited: Position | None,
    limit: int,
) -> Windows:
    """Up to `limit` windows that the stream has to learn next, in order.

    They are of signals that were finished from `since` on; and all that lie behind `waited`, where the stream's
    predecessor came to.
    """
    where = {
        "after": None if after is None else after.window_start,
        "after_id": None if after is None else after.raw_id,
        "barrier": barrier,
        "since": since,
        "ahead": MAX_AHEAD,
        "waited": None if waited is None else waited.window_start,
        "waited_id": None if waited is None else waited.raw_id,
    }
    return _windows(conn, key, wanted, which=stream_sql.NEXT, parameters=where | {"limit": limit})


def late_signals(conn: Connection, key: StreamKey, wanted: Wanted, *, after: Position) -> list[UUID]:
    """Unfinished signals with windows at or before what the stream has learnt that have no score, and those at hand.

    A signal whose late windows cannot be scored is among them each time.
    """
    where = {"after": after.window_start, "after_id": after.raw_id}
    asked = {"feature_version": wanted.feature_version, "ids": list(wanted.signal_ids)}
    return list(conn.execute(stream_sql.LATE_SIGNALS, key.as_dict() | asked | where).scalars())


def late_windows(conn: Connection, key: StreamKey, wanted: Wanted, *, after: Position, raw_id: UUID) -> Windows:
    """Windows of one signal that lie at or before what the stream has learnt, and have no score."""
    where = {"after": after.window_start, "after_id": after.raw_id, "raw_id": raw_id, "limit": None}
    return _windows(conn, key, wanted, which=stream_sql.LATE, parameters=where)


def _windows(conn: Connection, key: StreamKey, wanted: Wanted, *, which: str, parameters: dict[str, Any]) -> Windows:
    if unknown := sorted(set(wanted.columns) - set(COLUMNS)):
        raise ValueError(f"no such features: {', '.join(unknown)}")
    statement = text(stream_sql.WINDOWS.format(columns=", ".join(f"f.{name}" for name in wanted.columns), which=which))
    asked = {"feature_version": wanted.feature_version, "ids": list(wanted.signal_ids)}
    rows = conn.execute(statement, key.as_dict() | asked | parameters).all()
    values = np.array([row[3:] for row in rows], dtype=np.float64).reshape(len(rows), len(wanted.columns))
    return Windows(
        feature_ids=tuple(row[0] for row in rows),
        raw_ids=tuple(row[1] for row in rows),
        starts=tuple(row[2] for row in rows),
        values=values,
    )


def write_scores(conn: Connection, key: StreamKey, scores: Iterable[NewScore]) -> None:
    """Add scores by COPY. The caller holds the stream's lock and has seen that they are not there."""
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(stream_sql.INSERT_SCORES) as copy:
        copy.set_types(stream_sql.SCORE_TYPES)
        for s in scores:
            copy.write_row(
                (
                    s.feature_id,
                    s.raw_id,
                    key.equipment_id,
                    s.window_start,
                    key.kind,
                    key.version,
                    s.score,
                    s.threshold,
                    s.is_anomaly,
                    Jsonb(clean_json(s.meta)),
                )
            )


def write_events(conn: Connection, key: StreamKey, events: Iterable[dict[str, Any]]) -> None:
    """Add events, or replace those with the same start. `events` are rows without their stream."""
    for event in events:
        statement = upsert(AnomalyEvent).values(**key.as_dict(), **event)
        changed = {name: statement.excluded[name] for name in event if name != "started_at"}
        conn.execute(statement.on_conflict_do_update(constraint="uq_anomaly_events_stream_started_at", set_=changed))
