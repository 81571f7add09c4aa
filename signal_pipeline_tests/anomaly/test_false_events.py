"""What a threshold promises: at most twice the false events that were asked for, on healthy windows never seen."""

import numpy as np
import pytest

from signal_pipeline.anomaly.arrays import F8
from signal_pipeline.anomaly.calibration import in_alarm
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.stream import score, start
from signal_pipeline.anomaly.tuning import PERSISTENCES, Kind
from signal_pipeline_tests.anomaly.machines import FEATURES, Machine, wandering

ASKED = 1.0


def false_events(reference: Reference, healthy: F8) -> int:
    """How many events begin in `healthy` (n, 12), a stream of its own."""
    scores, _ = score(reference, start(reference), healthy)
    limits = np.full(len(healthy), reference.threshold)
    alarm = in_alarm(np.where(scores.warming, 0, scores.score), limits, reference.persistence)
    return int((np.diff(alarm.astype(int), prepend=0) == 1).sum())


def of_machines(kind: Kind, *, recordings: int, seeds: range) -> int:
    """False events of machines fitted on some recordings each, and scored on forty others, 2,400 windows."""
    events = 0
    for seed in seeds:
        machine = Machine(np.random.default_rng(seed))
        values, names = machine.recordings(recordings)
        reference = fit(FEATURES, values, names, kind=kind, false_events_per_1000=ASKED)
        events += false_events(reference, machine.recordings(40)[0])
    return events


@pytest.mark.parametrize("kind", ["stream", "stats"])
@pytest.mark.parametrize("recordings", [2, 4])
def test_few_recordings_promise_no_less_than_many(kind: Kind, recordings: int) -> None:
    """Five machines: 12,000 windows."""
    assert of_machines(kind, recordings=recordings, seeds=range(200, 205)) <= 2 * ASKED * 12


@pytest.mark.parametrize("kind", ["stream", "stats"])
def test_unseen_healthy_recordings_raise_at_most_twice_the_false_events_asked_for(kind: Kind) -> None:
    """Twenty machines, each fitted on twelve recordings: 48,000 windows."""
    assert of_machines(kind, recordings=12, seeds=range(100, 120)) <= 2 * ASKED * 48


@pytest.mark.parametrize("memory", [0.0, 0.9, 0.98, 0.995])
def test_what_follows_a_single_wandering_recording_raises_no_more_than_twice_either(memory: float) -> None:
    """Eighty machines, each fitted on 400 windows and scored on the next 200: 16,000 windows. What a window shares
    with another is gone after 10, 50 or 200 of them; the recording then shows the wander 40, 8 or 2 times."""
    events = 0
    for seed in range(80):
        values = wandering(np.random.default_rng(seed), 600, memory)
        reference = fit(FEATURES, values[:400], ["only"] * 400, kind="stats", false_events_per_1000=ASKED)
        events += false_events(reference, values[400:])
    assert events <= 2 * ASKED * 16


def test_both_kinds_ask_for_a_majority_of_the_last_windows() -> None:
    assert {kind: (rule.k, rule.n) for kind, rule in PERSISTENCES.items()} == {"stream": (3, 5), "stats": (4, 7)}
    values, names = Machine(np.random.default_rng(7)).recordings(12)
    for kind, rule in PERSISTENCES.items():
        assert fit(FEATURES, values, names, kind=kind).persistence == rule
