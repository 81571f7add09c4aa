"""Events: k of n, hysteresis, gaps, and the same last word however the windows are cut."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signal_pipeline.anomaly.calibration import in_alarm
from signal_pipeline.anomaly.events import Event, ScoredWindow, Tracker, advance
from signal_pipeline.anomaly.tuning import Persistence

T0 = datetime(2026, 1, 1, tzinfo=UTC)
RULE = Persistence(k=3, n=5, hysteresis=0.8)


def _windows(scores: list[float], *, warming: int = 0) -> list[ScoredWindow]:
    return [
        ScoredWindow(
            T0 + timedelta(seconds=i / 2),
            T0 + timedelta(seconds=i / 2 + 1),
            score,
            8.0,
            i < warming,
            (("rms_a", 0.5), ("thd_pct_b", 0.25)) if i % 2 else (("rms_a", 0.6),),
        )
        for i, score in enumerate(scores)
    ]


def _events(windows: list[ScoredWindow]) -> tuple[Event, ...]:
    return advance(Tracker(), windows, RULE)[0]


def test_an_event_has_start_end_peak_and_main_features() -> None:
    (event,) = _events(_windows([0, 9, 0, 9, 12, 9, 7, 1, 1, 1, 1, 1]))
    assert event.start == T0 + timedelta(seconds=0.5)
    assert event.end == T0 + timedelta(seconds=4)
    assert event.raised_at == T0 + timedelta(seconds=3)
    assert (event.peak_score, event.peak_at) == (12, T0 + timedelta(seconds=2))
    assert (event.windows, event.is_open, event.threshold) == (5, False, 8.0)
    assert [name for name, _ in event.features] == ["rms_a", "thd_pct_b"]
    assert sum(share for _, share in event.features) == pytest.approx(1)


def test_two_high_windows_are_no_event() -> None:
    assert _events(_windows([0, 9, 9, 0, 0, 0, 9, 9, 0])) == ()


def test_warming_windows_start_nothing() -> None:
    assert _events(_windows([9, 9, 9, 9, 0, 0, 0, 0], warming=2)) == ()
    assert len(_events(_windows([9, 9, 9, 9, 9, 0, 0, 0], warming=2))) == 1


def test_scores_between_hysteresis_and_threshold_keep_an_event_going() -> None:
    (event,) = _events(_windows([9, 9, 9, 7, 7, 7, 7, 7, 7]))
    assert event.is_open
    assert event.windows == 9


def test_a_long_gap_closes_an_event() -> None:
    first = _windows([9, 9, 9, 9])
    shift = timedelta(days=2)
    later = [ScoredWindow(w.start + shift, w.end + shift, w.score, 8.0, False, w.top) for w in first]
    closed, opened = _events([*first, *later])
    assert (closed.is_open, opened.is_open) == (False, True)
    assert opened.start == T0 + shift


@settings(max_examples=60, deadline=None)
@given(scores=st.lists(st.sampled_from([0.0, 7.0, 9.0]), min_size=1, max_size=60), cuts=st.lists(st.integers(0, 60)))
def test_any_cut_gives_the_same_last_word_on_every_event(scores: list[float], cuts: list[int]) -> None:
    windows = _windows(scores)
    whole, after = advance(Tracker(), windows, RULE)
    tracker, known = Tracker(), {}
    for first, last in pairwise([0, *sorted(cuts), 60]):
        events, tracker = advance(Tracker.from_json(tracker.to_json()), windows[first:last], RULE)
        known.update({event.start: event for event in events})
    assert tuple(known.values()) == whole
    assert tracker == after


def test_a_tracker_whose_names_come_back_in_another_order_gives_the_same_shares() -> None:
    """JSONB sorts them, and a plain sum in another order differs in its last bit."""
    shares = (("a", 0.1), ("cc", 0.2), ("b", 0.3), ("d", 1e-9))
    windows = [ScoredWindow(w.start, w.end, w.score, 8.0, False, shares) for w in _windows([9.1, 9.7, 8.3, 8.9])]
    (whole,), _ = advance(Tracker(), windows, RULE)
    _, tracker = advance(Tracker(), windows[:3], RULE)
    stored = json.loads(tracker.to_json())
    for names in permutations(stored["weights"]):
        stored["weights"] = {name: stored["weights"][name] for name in names}
        assert advance(Tracker.from_json(stored), windows[3:], RULE)[0] == (whole,)


@given(scores=st.lists(st.sampled_from([0.0, 7.0, 9.0]), min_size=1, max_size=60))
def test_events_and_calibration_follow_one_rule(scores: list[float]) -> None:
    alarm = in_alarm(np.array(scores), np.full(len(scores), 8.0), RULE)
    rises = int(np.count_nonzero(np.diff(np.concatenate([[0], alarm.astype(int)])) == 1))
    assert len(_events(_windows(scores))) == rises


@pytest.mark.parametrize("text", ["{}", '{"schema": 2}', '{"schema": 1, "recent": [{}], "event": null, "weights": {}}'])
def test_a_broken_tracker_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an event tracker"):
        Tracker.from_json(text)
