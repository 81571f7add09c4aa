"""Drift: noticed when many features lean against the bound, and only then."""

from dataclasses import replace

import numpy as np
import pytest

from signal_pipeline.anomaly.drift import MIN_WINDOWS, notice
from signal_pipeline.anomaly.feature_set import DEFAULT_FEATURES
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.stream import StreamState, score, start

FEATURES = DEFAULT_FEATURES[:8]


@pytest.fixture(scope="module")
def reference() -> Reference:
    values = np.random.default_rng(0).normal(size=(600, len(FEATURES)))
    return fit(FEATURES, values, [f"r{i // 20}" for i in range(600)])


def settled(reference: Reference, shift: float) -> StreamState:
    """The state after many windows of a machine that runs `shift` standard deviations beside its reference."""
    values = np.random.default_rng(1).normal(size=(MIN_WINDOWS + 1500, len(FEATURES)))
    state = start(reference)
    ramp = np.linspace(0, shift, len(values))[:, None]
    return score(reference, state, values + ramp)[1]


def test_a_healthy_stream_proposes_nothing(reference: Reference) -> None:
    assert notice(reference, settled(reference, 0.0)) is None


def test_a_machine_that_moves_slowly_away_is_noticed_with_its_features(reference: Reference) -> None:
    found = notice(reference, settled(reference, 1.5 * reference.tuning.reach))
    assert found is not None
    assert found.drifted >= 1
    assert {name for name, _ in found.features} <= set(FEATURES)
    assert found.as_dict()["windows"] == MIN_WINDOWS + 1500


def test_few_windows_are_no_drift(reference: Reference) -> None:
    state = settled(reference, 1.5 * reference.tuning.reach)
    assert notice(reference, replace(state, windows=MIN_WINDOWS - 1)) is None


def test_a_state_of_another_reference_is_refused(reference: Reference) -> None:
    with pytest.raises(ValueError, match="belongs to reference"):
        notice(reference, replace(start(reference), reference="0" * 64))
