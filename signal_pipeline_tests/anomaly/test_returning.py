"""Machines that go back: slow drift, quick return. An alarm ends when its reason has, and no fault is absorbed."""

from dataclasses import replace

import numpy as np
import pytest

from signal_pipeline.anomaly import kernel
from signal_pipeline.anomaly.arrays import F8
from signal_pipeline.anomaly.calibration import in_alarm
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.stream import Scores, StreamState, score, start
from signal_pipeline.anomaly.tuning import STREAM

FEATURES = tuple(f"feature_{i}" for i in range(8))
DRIFT = 1.8
"""sd; within the reach of the centres, and far beyond their gates."""
SLOWLY = np.linspace(0, DRIFT, 3000)


@pytest.fixture(scope="module", params=["thirty recordings", "one recording"])
def reference(request: pytest.FixtureRequest) -> Reference:
    values = np.random.default_rng(0).normal(size=(600, len(FEATURES)))
    several = request.param == "thirty recordings"
    return fit(FEATURES, values, [f"r{i // 20}" if several else "only" for i in range(600)])


def run(reference: Reference, *shifts: F8) -> tuple[Scores, StreamState]:
    """Scores of a machine that runs `shifts` (n,) sd beside its reference, one stretch after the other."""
    away = np.concatenate(shifts)
    values = np.random.default_rng(1).normal(size=(len(away), len(FEATURES))) + away[:, None]
    return score(reference, start(reference), values)


def events_on(reference: Reference, scores: Scores) -> F8:
    """1 for every window (n,) in which an event is on, else 0."""
    raising = np.where(scores.warming, 0.0, scores.score)
    limits = np.full(len(raising), reference.threshold)
    return in_alarm(raising, limits, reference.persistence).astype(np.float64)


@pytest.mark.parametrize("to", [0.0, 0.5 * DRIFT, -0.5], ids=["reference", "half way", "a little beyond"])
def test_a_machine_that_drifted_slowly_and_goes_back_at_once_is_told_and_then_no_more(
    reference: Reference, to: float
) -> None:
    scores, _ = run(reference, SLOWLY, np.full(4000, to))
    on = events_on(reference, scores)
    assert on[: len(SLOWLY)].mean() < 0.01
    assert on[len(SLOWLY) :][:200].any()
    assert on[-2000:].mean() < 0.01


def test_a_fault_in_a_drifted_machine_that_is_repaired_to_its_reference_is_over(reference: Reference) -> None:
    scores, _ = run(reference, SLOWLY, np.full(600, 6.0), np.zeros(4000))
    on = events_on(reference, scores)
    assert on[len(SLOWLY) + 30 :][:570].all()
    assert on[-2000:].mean() < 0.01


@pytest.mark.parametrize("fault", [6.0, -6.0])
def test_a_fault_that_ends_where_the_drift_had_come_to_is_over_at_once(reference: Reference, fault: float) -> None:
    scores, _ = run(reference, SLOWLY, np.full(2000, fault), np.full(1000, DRIFT))
    on = events_on(reference, scores)
    assert on[len(SLOWLY) + 30 :][:1970].all()
    assert on[-900:].mean() < 0.01


@pytest.mark.parametrize("fault", [6.0, -6.0])
def test_a_fault_that_stays_in_a_drifted_machine_is_never_absorbed(reference: Reference, fault: float) -> None:
    scores, state = run(reference, SLOWLY, np.full(10_000, fault))
    assert scores.is_anomaly[len(SLOWLY) + 30 :].all()
    assert np.abs(state.centre).max() <= STREAM.reach


def test_nothing_is_forgotten_before_the_machine_has_been_back_for_long(reference: Reference) -> None:
    _, before = run(reference, SLOWLY)
    _, soon = run(reference, SLOWLY, np.zeros(STREAM.patience - 20))
    _, later = run(reference, SLOWLY, np.zeros(STREAM.patience + 500))
    np.testing.assert_allclose(soon.centre, before.centre, atol=0.15)
    assert np.abs(later.centre).max() < 0.7


def test_centres_on_their_way_back_stop_at_the_reference() -> None:
    centre, returning = np.array([0.001, -0.001, 0.0]), np.full(3, 5)
    smoothed = np.array([-0.3, 0.3, 0.3])
    kernel._follow(np.zeros(3), smoothed, np.full(3, 0.3), 0.01, 2.0, 0.5, 5, centre, returning)
    assert centre.tolist() == [0.0, 0.0, 0.0]


def test_a_machine_whose_days_are_warm_and_cold_raises_no_more_than_twice_the_false_events_asked_for(
    reference: Reference,
) -> None:
    """Two days of 20,000 windows between 1.5 sd above the reference and 1.5 below."""
    scores, _ = run(reference, 1.5 * np.sin(np.linspace(0, 4 * np.pi, 40_000)))
    events = int((np.diff(events_on(reference, scores), prepend=0) == 1).sum())
    assert events <= 2 * 40


def test_any_cut_of_a_return_gives_the_same_bytes(reference: Reference) -> None:
    values = np.random.default_rng(1).normal(size=(3600, len(FEATURES)))
    values += np.concatenate([SLOWLY, np.zeros(600)])[:, None]
    whole, after = score(reference, start(reference), values)
    state, parts = start(reference), []
    for part in np.array_split(values, 83):
        scores, state = score(reference, StreamState.from_json(state.to_json()), part)
        parts.append(scores.score)
    assert np.concatenate(parts).tobytes() == whole.score.tobytes()
    assert state.to_json() == after.to_json()
    assert state.returning.any()


def test_a_reference_from_before_goes_on_as_before(reference: Reference) -> None:
    """Its knobs stand in its manifest; whoever trains again has the new ones."""
    old = replace(reference, tuning=replace(reference.tuning, patience=0))
    scores, state = run(old, SLOWLY, np.zeros(3000))
    assert old.digest != reference.digest
    assert events_on(old, scores)[-1000:].mean() > 0.3
    assert not state.returning.any()
