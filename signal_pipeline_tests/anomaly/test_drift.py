"""Drift: noticed when many features lean against the bound for long, and only then."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from signal_pipeline.anomaly.arrays import F8
from signal_pipeline.anomaly.drift import MIN_WINDOWS, Drift, Leaning, notice
from signal_pipeline.anomaly.feature_set import DEFAULT_FEATURES
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.stream import score, start

FEATURES = DEFAULT_FEATURES[:8]


@pytest.fixture(scope="module")
def reference() -> Reference:
    values = np.random.default_rng(0).normal(size=(600, len(FEATURES)))
    return fit(FEATURES, values, [f"r{i // 20}" for i in range(600)])


N = MIN_WINDOWS + 1500
STARTS = [datetime(2025, 8, 25, tzinfo=UTC) + timedelta(seconds=i) for i in range(2 * N)]


def noticed(reference: Reference, shifts: F8, *, cuts: int = 1) -> tuple[Drift | None, Leaning]:
    """What is noticed, in `cuts` calls, of a machine that runs `shifts` (n,) sd beside its reference."""
    values = np.random.default_rng(1).normal(size=(len(shifts), len(FEATURES))) + shifts[:, None]
    state, leaning, found = start(reference), Leaning(), None
    for part in np.array_split(np.arange(len(shifts)), cuts):
        scores, state = score(reference, state, values[part])
        drift, leaning = notice(reference, leaning, scores.moved, [STARTS[i] for i in part], state)
        found = found or drift
    return found, leaning


@pytest.fixture
def ramp(reference: Reference) -> F8:
    """A machine that moves slowly away, to one and a half times the bound."""
    return np.linspace(0, 1.5 * reference.tuning.reach, N)


def test_a_healthy_stream_proposes_nothing(reference: Reference) -> None:
    assert noticed(reference, np.zeros(N)) == (None, Leaning())


def test_a_machine_that_moves_slowly_away_is_noticed_with_its_features(reference: Reference, ramp: F8) -> None:
    found, _ = noticed(reference, ramp)
    assert found is not None
    assert found.drifted >= 1
    assert {name for name, _ in found.features} <= set(FEATURES)
    assert found.as_dict()["windows"] == MIN_WINDOWS


def test_the_windows_of_a_drift_are_those_of_the_new_regime_and_not_of_the_life_before(reference: Reference) -> None:
    healthy, moving, there = np.zeros(1000), np.linspace(0, 2.5, 2000), np.full(700, 2.5)
    found, _ = noticed(reference, np.concatenate([healthy, moving, there]))
    assert found is not None
    first, last = STARTS.index(found.since), STARTS.index(found.until)
    assert 2000 <= first < 3200
    assert last - first == MIN_WINDOWS - 1
    assert found.windows == MIN_WINDOWS


def test_a_drift_is_the_same_however_the_windows_are_cut_into_calls(reference: Reference, ramp: F8) -> None:
    whole, leaning = noticed(reference, ramp)
    cut, after = noticed(reference, ramp, cuts=173)
    assert whole is not None
    assert cut is not None
    assert (cut.since, cut.until, after) == (whole.since, whole.until, leaning)


def test_few_windows_at_the_bound_are_no_drift(reference: Reference, ramp: F8) -> None:
    found, leaning = noticed(reference, ramp)
    assert found is not None
    first = STARTS.index(found.since)
    assert noticed(reference, ramp[: first + MIN_WINDOWS - 1])[0] is None
    assert noticed(reference, ramp[: first + MIN_WINDOWS])[0] is not None
    assert leaning.windows > MIN_WINDOWS


def test_a_machine_that_comes_back_in_time_has_not_drifted(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As slowly as it went, so that the centres follow; what it leant is forgotten."""
    monkeypatch.setattr("signal_pipeline.anomaly.drift.MIN_WINDOWS", 2000)
    there, back = np.linspace(0, 2.5, 1500), np.linspace(2.5, 0, 1500)
    assert noticed(reference, there)[1].since is not None
    found, leaning = noticed(reference, np.concatenate([there, back, np.zeros(500)]))
    assert found is None
    assert leaning == Leaning()


def test_how_a_stream_leans_is_read_back_as_it_was_written() -> None:
    for leaning in (Leaning(), Leaning(STARTS[7], 3)):
        assert Leaning.from_dict(json.loads(json.dumps(leaning.as_dict()))) == leaning
    with pytest.raises(ValueError, match="rescore"):
        Leaning.from_dict(None)


def test_a_state_of_another_reference_is_refused(reference: Reference) -> None:
    state = replace(start(reference), reference="0" * 64)
    with pytest.raises(ValueError, match="belongs to reference"):
        notice(reference, Leaning(), np.zeros(0), [], state)
