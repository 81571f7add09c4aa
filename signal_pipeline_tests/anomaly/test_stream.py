"""Scoring as a stream: exact, cut anywhere, high = anomalous."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signal_pipeline.anomaly import kernel
from signal_pipeline.anomaly.arrays import F8
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.stream import StreamState, advance, aside, score, start
from signal_pipeline.anomaly.tuning import STREAM
from signal_pipeline_tests.anomaly.machines import FEATURES, Machine


def _with_holes(values: F8) -> F8:
    holes = values.copy()
    holes[np.random.default_rng(0).random(holes.shape) < 0.1] = np.nan
    holes[20] = np.nan
    return holes


def test_a_healthy_machine_scores_low_and_a_fault_scores_high(reference: Reference, machine: Machine) -> None:
    healthy = machine.recording()
    faulty = machine.recording()
    faulty[:, 4] += 3 * np.ptp(healthy[:, 4])
    quiet, state = score(reference, start(reference), healthy)
    loud, _ = score(reference, state, faulty)
    assert not quiet.is_anomaly.any()
    assert loud.is_anomaly[15:].all()
    assert loud.score[30:].min() > quiet.score.max()


def test_the_faulty_feature_makes_the_largest_contribution(reference: Reference, machine: Machine) -> None:
    faulty = machine.recording()
    faulty[:, 4] += 3 * np.ptp(faulty[:, 4])
    scores, _ = score(reference, start(reference), faulty)
    assert {scores.top(i)[0][0] for i in range(20, 60)} == {"feature_4"}
    assert all(0.2 < scores.top(i)[0][1] <= 1 for i in range(20, 60))
    assert (np.diff(scores.top_shares, axis=1) <= 0).all()


def test_equal_contributions_stand_in_the_order_of_the_features() -> None:
    columns, shares = np.zeros(3, dtype=np.int64), np.zeros(3)
    # the identity for a shape: a feature contributes its square
    kernel._explain(np.array([1.0, 2.0, -2.0, 0.0, 2.0]), np.eye(5), np.ones(5), np.empty(5), columns, shares)
    assert columns.tolist() == [1, 2, 4]
    assert shares.tolist() == [4 / 13] * 3


def test_a_new_stream_of_one_recording_settles_and_of_several_hardly_moves(machine: Machine) -> None:
    values, names = machine.recordings(4)
    several, one = fit(FEATURES, values, names), fit(FEATURES, values, ["same"] * len(names))
    assert (several.settled, one.settled) == (240, 0)
    day = machine.recording(20)
    moved = [np.abs(score(reference, start(reference), day)[1].centre).max() for reference in (several, one)]
    assert moved[0] < moved[1] / 2


def test_broken_correlation_is_seen_in_q_though_every_feature_is_in_range(machine: Machine) -> None:
    values, names = machine.recordings(8)
    reference = fit(FEATURES, values, names)
    shuffled = np.column_stack([np.random.default_rng(i).permutation(values[:, i]) for i in range(12)])
    healthy, _ = score(reference, start(reference), values)
    broken, _ = score(reference, start(reference), shuffled)
    assert np.median(broken.q) > 3 * np.median(healthy.q)
    np.testing.assert_array_equal(broken.score, broken.t2 + broken.q)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_any_cut_into_batches_gives_the_same_bytes(reference: Reference, cuts: list[int]) -> None:
    values = _with_holes(Machine(np.random.default_rng(11)).recording())
    whole, after = score(reference, start(reference), values)
    state, parts = start(reference), []
    for first, last in pairwise([0, *sorted(cuts), 60]):
        part, state = score(reference, StreamState.from_json(state.to_json()), values[first:last])
        parts.append(part)
    for name in ("score", "t2", "q", "top_shares", "warming", "is_anomaly", "scored", "top_columns"):
        assert np.concatenate([getattr(part, name) for part in parts]).tobytes() == getattr(whole, name).tobytes()
    assert state.to_json() == after.to_json()


def test_compiled_loops_give_the_bytes_of_the_plain_ones(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    values = _with_holes(Machine(np.random.default_rng(5)).recording(30))
    z = reference.scaler.apply(values)
    assert kernel.smooth(z, 0.1, 0.5).tobytes() == kernel.smooth_loop(z, 0.1, 0.5).tobytes()
    compiled = advance(reference.scaler, reference.shape, STREAM, start(reference), values)
    for name in ("_deviate", "_smooth", "_distances", "_explain", "_is_back", "_follow", "_moved"):
        monkeypatch.setattr(kernel, name, getattr(kernel, name).py_func)
    monkeypatch.setattr(kernel, "advance", kernel.advance_loop)
    plain = advance(reference.scaler, reference.shape, STREAM, start(reference), values)
    *arrays, after = compiled
    *plain_arrays, plain_after = plain
    assert [a.tobytes() for a in arrays] == [a.tobytes() for a in plain_arrays]
    assert after.to_json() == plain_after.to_json()


@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5), windows=st.integers(0, 10**9))
def test_state_survives_json_bit_for_bit(numbers: list[float], windows: int) -> None:
    state = StreamState("abc", windows, np.array(numbers), -np.array(numbers), np.arange(len(numbers)))
    again = StreamState.from_json(json.loads(json.dumps(json.loads(state.to_json()))))
    assert (again.reference, again.windows) == ("abc", windows)
    assert again.smoothed.tobytes() == state.smoothed.tobytes()
    assert again.centre.tobytes() == state.centre.tobytes()
    assert again.returning.tobytes() == state.returning.tobytes()


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"schema": 9, "reference": "a", "windows": 0, "smoothed": [], "centre": []}',
        '{"schema": 1, "reference": "a", "windows": -1, "smoothed": [], "centre": []}',
        '{"schema": 1, "reference": "a", "windows": 0, "smoothed": ["0x1p+0"], "centre": []}',
        '{"schema": 1, "reference": "a", "windows": 0, "smoothed": ["nan"], "centre": ["0x0p+0"]}',
        '{"schema": 1, "reference": "a", "windows": 0, "smoothed": [1.5], "centre": [0.5]}',
        '{"schema": 2, "reference": "a", "windows": 0, "smoothed": [], "centre": []}',
        '{"schema": 2, "reference": "a", "windows": 0, "smoothed": [], "centre": [], "returning": [1]}',
        '{"schema": 2, "reference": "a", "windows": 0, "smoothed": ["0x0"], "centre": ["0x0"], "returning": [-1]}',
        '{"schema": 2, "reference": "a", "windows": 0, "smoothed": ["0x0"], "centre": ["0x0"], "returning": [1.5]}',
    ],
)
def test_a_state_that_contradicts_itself_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a stream state"):
        StreamState.from_json(text)


def test_a_state_from_before_features_were_counted_on_their_way_back_goes_on(
    reference: Reference, machine: Machine
) -> None:
    _, state = score(reference, start(reference), machine.recording())
    old = json.loads(state.to_json()) | {"schema": 1}
    del old["returning"]
    again = StreamState.from_json(old)
    assert not again.returning.any()
    assert again.centre.tobytes() == state.centre.tobytes()


def test_a_state_of_another_reference_is_refused(reference: Reference, machine: Machine) -> None:
    values, names = machine.recordings(8)
    other = fit(FEATURES, values, names)
    with pytest.raises(ValueError, match="start a new one"):
        score(other, start(reference), values)


def test_warming_windows_raise_nothing(reference: Reference, machine: Machine) -> None:
    faulty = machine.recording() * 3
    scores, state = score(reference, start(reference), faulty)
    assert scores.warming.sum() == STREAM.warming == 10
    assert not scores.is_anomaly[:10].any()
    assert scores.is_anomaly[10:].all()
    assert not score(reference, state, faulty)[0].warming.any()


def test_a_fault_that_stays_is_never_absorbed(reference: Reference, machine: Machine) -> None:
    faulty = machine.recording(5000)
    faulty[:, 4] += 3 * np.ptp(faulty[:, 4])
    scores, state = score(reference, start(reference), faulty)
    assert scores.is_anomaly[-1000:].all()
    assert np.abs(state.centre).max() <= STREAM.reach


def test_a_small_lasting_shift_is_followed(reference: Reference, machine: Machine) -> None:
    shifted = machine.recording(2000) + 0.5 * reference.scaler.scale
    scores, state = score(reference, start(reference), shifted)
    assert np.median(scores.score[-500:]) < reference.threshold / 2
    assert np.abs(state.centre).max() > 0.2


def test_a_missing_feature_neither_raises_nor_hides(reference: Reference, machine: Machine) -> None:
    values = machine.recording()
    values[:, 2] = np.nan
    scores, _ = score(reference, start(reference), values)
    assert scores.scored.all()
    assert not scores.is_anomaly.any()
    values[:, 4] += 3 * np.ptp(values[:, 4])
    assert score(reference, start(reference), values)[0].is_anomaly[15:].all()


def test_a_window_with_too_few_features_has_no_score_and_changes_nothing(
    reference: Reference, machine: Machine
) -> None:
    values = machine.recording()
    values[:, :7] = np.nan
    scores, state = score(reference, start(reference), values)
    assert not scores.scored.any()
    assert not scores.is_anomaly.any()
    assert np.isnan(scores.score).all()
    assert state.to_json() == start(reference).to_json()


def test_late_windows_are_scored_without_the_memory_of_newer_ones(reference: Reference, machine: Machine) -> None:
    faulty = machine.recording(200)
    faulty[:, 4] += 3 * np.ptp(faulty[:, 4])
    _, state = score(reference, start(reference), np.concatenate([machine.recording(200), faulty]))
    before = state.to_json()
    late, _ = score(reference, aside(state), machine.recording())
    assert not late.is_anomaly.any()
    assert not late.warming.any()
    assert state.to_json() == before


def test_an_override_replaces_the_calibrated_threshold(reference: Reference, machine: Machine) -> None:
    scores, _ = score(reference, start(reference), machine.recording(), threshold=1e-6)
    assert scores.threshold == 1e-6
    assert scores.is_anomaly[10:].all()
    with pytest.raises(ValueError, match="must be above 0"):
        score(reference, start(reference), machine.recording(), threshold=0)


def test_values_of_another_width_are_refused(reference: Reference) -> None:
    with pytest.raises(ValueError, match=r"\(n, 12\) is needed"):
        score(reference, start(reference), np.zeros((4, 11)))
