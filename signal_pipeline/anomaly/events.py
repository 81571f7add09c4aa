"""Events: anomalous windows joined by persistence and hysteresis, with a start, an end, a peak and its features.

Here: the rule, one window after the other, and what has to be remembered between calls. Not here: scores, storage.
An event is known by its start, so whoever stores events replaces the one that has the same start.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from math import fsum
from typing import Any, Final

from signal_pipeline.anomaly.tuning import Persistence

N_MAIN: Final = 5
TRACKER_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """One window of a stream, as far as events care. `top` are (feature, share) pairs; `start` and `end` are aware."""

    start: datetime
    end: datetime
    score: float
    threshold: float
    warming: bool
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Event:
    """From the first window that was high to the last one. `raised_at` is the end of the window that made it an
    event; `features` are (feature, share of the score) pairs over its high windows, the largest first."""

    start: datetime
    end: datetime
    raised_at: datetime
    peak_score: float
    peak_at: datetime
    threshold: float
    windows: int
    is_open: bool
    features: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Tracker:
    """What the rule remembers: the last n windows, and the event that is still open."""

    recent: tuple[ScoredWindow, ...] = ()
    event: Event | None = None
    weights: dict[str, float] = field(default_factory=dict)
    """Score-weighted shares of the open event's features, summed over its high windows."""

    def to_json(self) -> str:
        """Times as ISO 8601, numbers as Python writes them (exact for float64)."""
        return json.dumps({"schema": TRACKER_SCHEMA, **asdict(self)}, default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str | dict[str, Any]) -> "Tracker":
        """The tracker that `to_json` wrote. `ValueError` for anything else."""
        data = json.loads(text) if isinstance(text, str) else text
        try:
            if data["schema"] != TRACKER_SCHEMA:
                raise ValueError(f"schema {data['schema']!r}, this version reads {TRACKER_SCHEMA}")
            recent = tuple(_window_from(item) for item in data["recent"])
            event = None if data["event"] is None else _event_from(data["event"])
            return cls(recent, event, {str(name): float(weight) for name, weight in data["weights"].items()})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not an event tracker: {error!r}; rescore the equipment to make a new one") from error


def advance(
    tracker: Tracker, windows: Iterable[ScoredWindow], persistence: Persistence
) -> tuple[tuple[Event, ...], Tracker]:
    """The events that `windows`, in time order, opened, prolonged or closed, and the tracker after them.

    However the windows are cut into calls, the last word on every event is the same.
    """
    touched: dict[datetime, Event] = {}
    for window in windows:
        tracker = _break_at_gap(tracker, window, persistence, touched)
        tracker = replace(tracker, recent=(*tracker.recent, window)[-persistence.n :])
        tracker = _open(tracker, persistence) if tracker.event is None else _prolong(tracker, persistence, touched)
        if tracker.event is not None:
            touched[tracker.event.start] = tracker.event
    return tuple(touched.values()), tracker


def _is_high(window: ScoredWindow, factor: float) -> bool:
    return not window.warming and window.score >= factor * window.threshold


def _open(tracker: Tracker, persistence: Persistence) -> Tracker:
    """An event begins when k of the last n are high; it starts with the first of them."""
    high = [window for window in tracker.recent if _is_high(window, 1.0)]
    if len(high) < persistence.k:
        return tracker
    first, last = high[0], high[-1]
    empty = Event(first.start, first.end, last.end, 0.0, first.start, first.threshold, 0, True, ())
    tracker = replace(tracker, event=empty, weights={})
    for window in high:
        tracker = _add(tracker, window)
    return tracker


def _prolong(tracker: Tracker, persistence: Persistence, touched: dict[datetime, Event]) -> Tracker:
    high = [window for window in tracker.recent if _is_high(window, persistence.hysteresis)]
    if len(high) < persistence.k:
        return _close(tracker, touched)
    newest = tracker.recent[-1]
    return _add(tracker, newest) if newest is high[-1] else tracker


def _close(tracker: Tracker, touched: dict[datetime, Event]) -> Tracker:
    if tracker.event is not None:
        touched[tracker.event.start] = replace(tracker.event, is_open=False)
    # what belonged to the closed event must not open the next one
    return Tracker()


def _break_at_gap(
    tracker: Tracker, window: ScoredWindow, persistence: Persistence, touched: dict[datetime, Event]
) -> Tracker:
    if not tracker.recent or window.start - tracker.recent[-1].end <= timedelta(hours=persistence.max_gap_hours):
        return tracker
    return _close(tracker, touched)


def _add(tracker: Tracker, window: ScoredWindow) -> Tracker:
    """The open event with one more high window."""
    event = tracker.event
    if event is None:
        return tracker
    weights = dict(tracker.weights)
    for name, share in window.top:
        weights[name] = weights.get(name, 0.0) + share * window.score
    total = fsum(weights.values())  # exact in any order: the database gives the names back in another
    main = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:N_MAIN]
    is_peak = window.score > event.peak_score
    longer = replace(
        event,
        end=max(event.end, window.end),
        windows=event.windows + 1,
        peak_score=window.score if is_peak else event.peak_score,
        peak_at=window.start if is_peak else event.peak_at,
        threshold=window.threshold if is_peak else event.threshold,
        features=tuple((name, weight / total if total else 0.0) for name, weight in main),
    )
    return replace(tracker, event=longer, weights=weights)


def _window_from(data: dict[str, Any]) -> ScoredWindow:
    times = {key: datetime.fromisoformat(data[key]) for key in ("start", "end")}
    top = tuple((str(name), float(share)) for name, share in data["top"])
    return ScoredWindow(**{**data, **times, "top": top})


def _event_from(data: dict[str, Any]) -> Event:
    times = {key: datetime.fromisoformat(data[key]) for key in ("start", "end", "raised_at", "peak_at")}
    features = tuple((str(name), float(share)) for name, share in data["features"])
    return Event(**{**data, **times, "features": features})
