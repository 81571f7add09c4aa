"""Joining stored scores to events: for the detect pass, whose windows come in whatever ranges a person asks for.

The events are the same whatever the ranges and their order. Not here: events of a stream as it moves (`streams`).
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from signal_pipeline.anomaly import events
from signal_pipeline.db.events import forget_events_touched, scored_windows
from signal_pipeline.db.streams import Position, write_events
from signal_pipeline.processing.streams import Stream, event_row

CHUNK = 5000


def join_events(conn: Connection, one: Stream, *, first: datetime) -> None:
    """Join events anew from where windows were added, the earliest of them at `first`, to the last stored score.

    The caller holds the stream's lock; everything written here goes with its transaction.
    """
    persistence = one.reference.persistence
    begin = forget_events_touched(conn, one.key, first=first, n=persistence.n)
    tracker, after = events.Tracker(), None
    while rows := scored_windows(conn, one.key, begin=begin, after=after, limit=CHUNK):
        touched, tracker = events.advance(tracker, [_window(one, row) for row in rows], persistence)
        write_events(conn, one.key, [event_row(event) for event in touched])
        after = Position(rows[-1].window_start, rows[-1].raw_id)


def _window(one: Stream, row: Any) -> events.ScoredWindow:
    return events.ScoredWindow(
        start=row.window_start,
        end=row.window_start + one.window,
        score=row.score,
        threshold=row.threshold,
        warming=row.warming,
        top=tuple((str(name), float(share)) for name, share in row.top),
    )
