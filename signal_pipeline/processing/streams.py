"""Moving an equipment's stream of scores: what is learnt, what is only scored, and the events that come of it.

The caller holds the stream's lock (`db.streams.lock_stream`); everything written here goes with its transaction, and
the caller counts it at its end (`db.counters`). Used by scoring as signals pass (`score`) and by replaying (`rescore`).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine

from signal_pipeline.anomaly import drift, events, stream
from signal_pipeline.anomaly.models import Chosen, Models
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.tuning import Kind
from signal_pipeline.db.proposals import propose
from signal_pipeline.db.streams import (
    NewScore,
    StoredState,
    StreamKey,
    Windows,
    close_events,
    lock_stream,
    open_streams,
    write_events,
    write_scores,
    write_state,
)
from signal_pipeline.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stream:
    """One equipment's stream: its key, the reference that scores it, whether that is the fleet's and since when it is
    there, the threshold in force (None: the calibrated one), and how long a window is."""

    key: StreamKey
    reference: Reference
    is_fleet: bool
    since: datetime
    threshold: float | None
    window: timedelta


@dataclass(frozen=True, slots=True)
class Written:
    """How many windows were scored, and how many of these are anomalous."""

    windows: int = 0
    anomalies: int = 0

    def __add__(self, other: "Written") -> "Written":
        return Written(self.windows + other.windows, self.anomalies + other.anomalies)

    def totals(self) -> dict[str, int]:
        """What the counters are raised by."""
        return {"windows_scored_total": self.windows, "windows_anomalous_total": self.anomalies}


def stream_of(equipment_id: UUID, kind: Kind, chosen: Chosen, settings: Settings) -> Stream:
    """The stream that a reference scores. It bears the version that fitted the reference, so it goes on under every
    later version that keeps it."""
    return Stream(
        key=StreamKey(equipment_id, kind, chosen.origin.version),
        reference=chosen.reference,
        is_fleet=chosen.is_fleet,
        since=chosen.origin.created_at,
        # the setting is on the scale of `stream`, and `stats` has another one (docs/decisions/0107)
        threshold=settings.models.anomaly_threshold if kind == "stream" else None,
        window=timedelta(milliseconds=settings.features.window_ms),
    )


def leave_others(engine: Engine, models: Models) -> None:
    """End the events of streams that no reference of `models` moves on, because `models` are in use from now on."""
    with engine.connect() as conn:
        found = open_streams(conn)
    for name, key in found:
        chosen = models.chosen(name, "stats" if key.kind == "stats" else "stream")
        if chosen is None or chosen.origin.version != key.version:
            with engine.begin() as conn:
                lock_stream(conn, key)
                close_events(conn, key)


def fresh_state(models: Models, reference: Reference) -> StoredState:
    """The state of a stream that has not begun."""
    state = stream.start(reference)
    return StoredState(models.hash, json.loads(state.to_json()), _remembered(events.Tracker(), drift.Leaning()), None)


def _remembered(tracker: events.Tracker, leaning: drift.Leaning) -> dict[str, Any]:
    """What the rules for events and drift carry from window to window."""
    remembered: dict[str, Any] = json.loads(tracker.to_json())
    return remembered | {"leaning": leaning.as_dict()}


def learn(conn: Connection, one: Stream, stored: StoredState, windows: Windows) -> tuple[StoredState, Written]:
    """Score windows in order; write scores, events and the moved state. The caller binds `equipment` for the log."""
    if not len(windows):
        return stored, Written()
    began = perf_counter()
    before = stream.StreamState.from_json(stored.state)
    scores, after = stream.score(one.reference, before, windows.values, threshold=one.threshold)
    rows = new_scores(windows, scores, is_fleet=one.is_fleet)
    written = _write(conn, one, rows)
    tracker = events.Tracker.from_json(stored.tracker)
    touched, tracker = events.advance(tracker, _scored(windows, scores, one.window), one.reference.persistence)
    write_events(conn, one.key, [event_row(event) for event in touched])
    leaning = drift.Leaning.from_dict(stored.tracker.get("leaning"))
    drifted, leaning = drift.notice(one.reference, leaning, scores.moved, windows.starts, after)
    remembered = _remembered(tracker, leaning)
    moved = StoredState(stored.manifest_hash, json.loads(after.to_json()), remembered, windows.end)
    write_state(conn, one.key, moved)
    if drifted is not None:
        propose(conn, one.key, drifted.as_dict())
    log.info(
        "windows.scored",
        signals=len(set(windows.raw_ids)),
        windows=written.windows,
        anomalies=written.anomalies,
        seconds=round(perf_counter() - began, 3),
    )
    return moved, written


def score_late(conn: Connection, one: Stream, stored: StoredState, late: Windows) -> Written:
    """Score a recording that came after a newer one was learnt from what the equipment settled on; learn nothing."""
    aside = stream.aside(stream.StreamState.from_json(stored.state))
    scores, _ = stream.score(one.reference, aside, late.values, threshold=one.threshold)
    return _write(conn, one, new_scores(late, scores, is_fleet=one.is_fleet, late=True))


def _write(conn: Connection, one: Stream, rows: Sequence[NewScore]) -> Written:
    write_scores(conn, one.key, rows)
    return Written(len(rows), sum(row.is_anomaly for row in rows))


def new_scores(
    windows: Windows, scores: stream.Scores, *, is_fleet: bool, late: bool = False, online: bool = True
) -> list[NewScore]:
    """Rows for the windows that could be scored; `online`, whether they were scored as they passed."""
    return [
        NewScore(
            feature_id=windows.feature_ids[i],
            raw_id=windows.raw_ids[i],
            window_start=windows.starts[i],
            score=float(scores.score[i]),
            threshold=scores.threshold,
            is_anomaly=bool(scores.is_anomaly[i]),
            meta={
                "online": online,
                "warming": bool(scores.warming[i]),
                "late": late,
                "reference": "fleet" if is_fleet else "own",
                "t2": float(scores.t2[i]),
                "q": float(scores.q[i]),
                "top": [[name, share] for name, share in scores.top(i)],
            },
        )
        for i in range(len(windows))
        if scores.scored[i]
    ]


def _scored(windows: Windows, scores: stream.Scores, length: timedelta) -> list[events.ScoredWindow]:
    return [
        events.ScoredWindow(
            start=windows.starts[i],
            end=windows.starts[i] + length,
            score=float(scores.score[i]),
            threshold=scores.threshold,
            warming=bool(scores.warming[i]),
            top=scores.top(i),
        )
        for i in range(len(windows))
        if scores.scored[i]
    ]


def event_row(event: events.Event) -> dict[str, Any]:
    """An event as a row of `anomaly_events`, without its stream."""
    fields = asdict(event)
    start, end = fields.pop("start"), fields.pop("end")
    features = [[name, share] for name, share in fields.pop("features")]
    return {"started_at": start, "ended_at": end, "features": features, **fields}
