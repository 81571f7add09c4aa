"""Fitting: what takes part, what is left out, and how high the threshold lies."""

from collections.abc import Sequence

import numpy as np
import pytest

from signal_pipeline.anomaly.arrays import F8
from signal_pipeline.anomaly.calibration import calibrate, calibrate_on_simulated, in_alarm, persistent
from signal_pipeline.anomaly.covariance import ledoit_wolf, left_out_deviations, of_recordings, scatter_of_means
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.folds import kept_from, split_folds
from signal_pipeline.anomaly.reference import Calibration, Dropped
from signal_pipeline.anomaly.scaling import fit_scaler
from signal_pipeline.anomaly.tuning import Persistence, Tuning
from signal_pipeline_tests.anomaly.machines import FEATURES, Machine


def test_a_reference_says_what_it_was_made_of(machine: Machine) -> None:
    values, names = machine.recordings(12)
    reference = fit(FEATURES, values, names)
    assert reference.recordings == tuple(f"recording_{i}" for i in range(12))
    assert reference.n_windows == 720
    assert reference.calibration.left_out_windows == 720
    assert reference.calibration.blocks == 12
    assert reference.calibration.target_false_events_per_1000 == 1.0
    assert 0 < reference.shape.shrinkage < 1
    assert 1 <= reference.shape.n_leading <= 12


def test_the_same_windows_give_the_same_reference(machine: Machine) -> None:
    values, names = machine.recordings(3)
    assert fit(FEATURES, values, names).digest == fit(FEATURES, values, names).digest
    assert fit(FEATURES, values, names).digest != fit(FEATURES, values * 2, names).digest


def test_constant_and_missing_features_take_no_part(machine: Machine) -> None:
    values, names = machine.recordings(12, 20)
    values[:, 0] = 4.5
    values[: len(values) // 10, 3] = np.nan
    values[5, 7] = np.nan
    reference = fit(FEATURES, values, names)
    assert reference.scaler.dropped == {"feature_0": Dropped.CONSTANT, "feature_3": Dropped.MISSING}
    assert reference.scaler.used == tuple(f for f in FEATURES if f not in {"feature_0", "feature_3"})


@pytest.mark.parametrize(("recordings", "used"), [(1, 12), (2, 4), (3, 6), (12, 12)])
def test_few_recordings_teach_only_the_first_features(machine: Machine, recordings: int, used: int) -> None:
    values, names = machine.recordings(recordings)
    reference = fit(FEATURES, values, names)
    assert reference.scaler.used == FEATURES[:used]
    assert reference.scaler.dropped == dict.fromkeys(FEATURES[used:], Dropped.SURPLUS)


def test_a_feature_without_content_does_not_take_the_place_of_another(machine: Machine) -> None:
    values, names = machine.recordings(2)
    values[:, 0] = 4.5
    assert fit(FEATURES, values, names).scaler.used == FEATURES[1:5]


def test_scaling_ignores_a_few_wild_windows() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(5, 2, size=(1000, 1))
    values[:20] = 1e6
    scaler = fit_scaler(["x"], values)
    assert scaler.centre[0] == pytest.approx(5, abs=0.3)
    assert scaler.scale[0] == pytest.approx(2, rel=0.1)


def test_a_feature_with_a_gap_is_scaled_by_what_is_there() -> None:
    values = np.random.default_rng(0).normal(5, 2, size=(100, 3))
    values[10, 1] = np.nan
    values[20:, 2] = np.inf
    scaler = fit_scaler(["x", "gap", "missing"], values)
    alone = fit_scaler(["gap"], np.delete(values[:, [1]], 10, axis=0))
    assert (scaler.centre[1], scaler.scale[1]) == (alone.centre[0], alone.scale[0])
    assert scaler.centre[0] == np.median(values[:, 0])
    assert scaler.dropped == {"missing": Dropped.MISSING}


@pytest.mark.parametrize(("share", "scale"), [(0.1, 1 / 3.2897), (0.02, (0.02 * 0.98) ** 0.5)])
def test_a_mostly_constant_feature_still_has_a_scale(share: float, scale: float) -> None:
    values = np.zeros((100, 1))
    values[: round(100 * share)] = 1.0
    assert fit_scaler(["x"], values).scale[0] == pytest.approx(scale, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, r: (v[:50], r[:50]), "50 windows are too few"),
        (lambda v, r: (v[:, :5], r), "not \\(180, 12\\)"),
        (lambda v, r: (np.full_like(v, 3.0), r), "none of the 12 features varies"),
        (lambda v, r: (v, [r[0], *r[:0:-1]]), "must stand together"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(machine: Machine, change: object, message: str) -> None:
    values, names = machine.recordings(3)
    assert callable(change)
    with pytest.raises(ValueError, match=message):
        fit(FEATURES, *change(values, names))


def test_one_recording_is_cut_into_twelve_stretches() -> None:
    assert np.bincount(split_folds(["a"] * 600)).tolist() == [50] * 12


def test_a_few_recordings_are_left_out_whole() -> None:
    assert split_folds(["b"] * 40 + ["a"] * 20).tolist() == [0] * 40 + [1] * 20


def test_many_recordings_are_joined_to_twelve_folds_and_never_cut() -> None:
    names = [f"r{i}" for i in range(37) for _ in range(3 + i % 5)]
    folds = split_folds(names)
    assert len(np.unique(folds)) == 12
    assert (np.diff(folds) >= 0).all()
    for name in set(names):
        assert len({int(fold) for fold, other in zip(folds, names, strict=True) if other == name}) == 1


def test_a_huge_recording_beside_short_ones_leaves_no_empty_fold() -> None:
    folds = split_folds(["long"] * 500 + [f"short{i}" for i in range(12) for _ in range(2)])
    assert np.unique(folds).tolist() == list(range(len(np.unique(folds))))


def test_a_stretch_is_scored_without_itself_and_the_one_its_stream_comes_from() -> None:
    folds = np.repeat(np.arange(12), 5)
    for several in (True, False):
        kept = [np.unique(folds[kept_from(folds, fold, several=several, frozen=False)]).tolist() for fold in (0, 6)]
        assert kept == [[0, 11], [5, 6]]


def test_a_frozen_centre_does_not_learn_what_lies_near_a_stretch_of_the_same_recording() -> None:
    folds = np.repeat(np.arange(12), 5)
    kept = [np.unique(folds[kept_from(folds, fold, several=False, frozen=True)]).tolist() for fold in (0, 6, 11)]
    assert kept == [[0, 1, 2, 3], [3, 4, 5, 6, 7, 8, 9], [8, 9, 10, 11]]
    assert np.unique(folds[kept_from(folds, 6, several=True, frozen=True)]).tolist() == [5, 6]


def test_differences_between_recordings_count_as_healthy_variation() -> None:
    smoothed = np.repeat([[0.0], [10.0]], 50, axis=0)
    folds = np.repeat([0, 1], 50)
    assert np.abs(left_out_deviations(smoothed, folds)).min() == 10
    assert np.abs(left_out_deviations(smoothed, folds * 0)).max() == 5


def test_a_new_recording_varies_within_and_between_recordings() -> None:
    """5000 recordings: so many show every direction, and hardly anything is shrunk."""
    rng = np.random.default_rng(0)
    between, within = np.array([[4.0, 3.0], [3.0, 4.0]]), np.diag([1.0, 0.25])
    means = np.repeat(rng.multivariate_normal([0, 0], between, size=5000), 4, axis=0)
    smoothed = means + rng.multivariate_normal([0, 0], within, size=20_000)
    covariance, _ = of_recordings(smoothed, np.repeat(np.arange(5000), 4))
    # a recording's mean has a quarter of the variance within it, and three quarters are left about it
    np.testing.assert_allclose(covariance, between + within, rtol=0.1, atol=0.1)


def test_few_recordings_share_one_variance_and_hardly_believe_a_direction() -> None:
    means = np.array([[0.0, 0.0], [2.0, 2.0]])
    np.testing.assert_allclose(scatter_of_means(means, 2 / 3), [[2.0, 2 / 3], [2 / 3, 2.0]])
    np.testing.assert_allclose(scatter_of_means(np.array([[0.0, 0.0], [2.0, 0.0]]), 1.0), np.eye(2))


def test_shrinkage_is_the_formula_of_its_source_row_by_row() -> None:
    for n, d in ((30, 12), (200, 5)):
        x = np.random.default_rng(n).normal(size=(n, d)) * np.linspace(1, 3, d)
        sample = x.T @ x / n
        noise = sum(np.linalg.norm(np.outer(row, row) - sample) ** 2 for row in x) / n**2
        distance = np.linalg.norm(sample - sample.trace() / d * np.eye(d)) ** 2
        assert 0 < ledoit_wolf(x) < 1
        assert ledoit_wolf(x) == pytest.approx(noise / distance, rel=1e-9)


def test_persistent_is_the_kth_largest_of_the_last_n() -> None:
    scores = np.array([5.0, 1.0, 9.0, np.nan, 7.0, 3.0])
    assert persistent(scores, Persistence(k=2, n=3)).tolist() == [-np.inf, 1.0, 5.0, 1.0, 7.0, 3.0]


def test_an_alarm_needs_k_of_n_and_ends_below_hysteresis() -> None:
    scores = np.array([9, 0, 9, 9, 0, 7, 7, 7, 7, 7, 0, 0, 0, 9, 9, 0], dtype=np.float64)
    alarm = in_alarm(scores, np.full(len(scores), 8.0), Persistence(k=3, n=5, hysteresis=0.8))
    assert np.flatnonzero(alarm).tolist() == list(range(3, 12))


def test_few_stretches_of_the_same_spread_give_a_higher_threshold_than_many() -> None:
    stretches = [np.full(100, np.exp(x)) for x in (-1.0, 1.0)]
    few, many = (calibrate(stretches * n, Persistence(), false_events_per_1000=0.1).threshold for n in (4, 50))
    assert few > many > np.exp(1.0)


def test_a_rarer_alarm_needs_a_higher_threshold() -> None:
    scores = [np.exp(np.random.default_rng(i).normal(size=100)) for i in range(10)]
    rates = (2.0, 0.5, 0.1)
    thresholds = [calibrate(scores, Persistence(), false_events_per_1000=rate).threshold for rate in rates]
    assert thresholds == sorted(thresholds)


def test_achieved_rate_counts_events_not_windows() -> None:
    quiet, loud = np.ones(100), np.ones(100)
    loud[50:70] = 1000
    calibration = calibrate([quiet] * 39 + [loud], Persistence(), false_events_per_1000=1)
    assert 1 < calibration.threshold < 1000
    assert calibration.achieved_false_events_per_1000 == pytest.approx(1000 * 1 / 4000)


@pytest.mark.parametrize("scores", [[np.array([np.nan] * 40)], [np.ones(40), np.full(40, np.nan)][1:]])
def test_nothing_is_calibrated_on_scores_that_are_not_there(scores: list[F8]) -> None:
    with pytest.raises(ValueError, match="left-out stretches have scores"):
        calibrate(scores, Persistence(), false_events_per_1000=1)


def test_a_promise_of_no_false_alarm_is_refused() -> None:
    with pytest.raises(ValueError, match="none is promised"):
        calibrate([np.ones(40)] * 2, Persistence(), false_events_per_1000=0)


def simulated(pairs: Sequence[tuple[F8, F8]], rate: float, *, repeats: bool = False) -> Calibration:
    return calibrate_on_simulated(pairs, Persistence(), false_events_per_1000=rate, repeats=repeats)


def test_simulated_events_count_where_they_begin() -> None:
    """Every second pair is loud, and three of four loud ones have been so before: one pair in eight begins an event."""
    quiet, loud = np.ones(50), np.full(50, 9.0)
    pairs = [(quiet, quiet)] * 4 + [(loud, loud)] * 3 + [(quiet, loud)]
    rate = -np.log1p(-1 / 8) / 50 * 1000
    often = simulated(pairs * 10, rate * 1.01)
    rarely = simulated(pairs[:7] * 10 + pairs[7:], rate / 100)
    assert (often.threshold, rarely.threshold) == (9.0, 9.0)
    assert often.achieved_false_events_per_1000 == pytest.approx(1000 / 8 / 50)
    never_quiet = simulated(pairs * 10, rate * 100)
    assert never_quiet.threshold == 9.0


def test_what_alarms_again_and_again_counts_each_time_where_that_is_asked_for() -> None:
    """Of a hundred pairs five alarm five times each at 9, five once at 12, and the others once at 5."""
    before, faint, often, once = np.zeros(100), np.zeros(100), np.zeros(100), np.zeros(100)
    faint[40:45], once[40:45] = 5.0, 12.0
    for start in range(0, 100, 20):
        often[start : start + 5] = 9.0
    pairs = [(before, faint)] * 90 + [(before, often)] * 5 + [(before, once)] * 5
    assert simulated(pairs, 1.06, repeats=False).threshold == 9.0
    assert simulated(pairs, 1.06, repeats=False).achieved_false_events_per_1000 == pytest.approx(3.0)
    assert simulated(pairs, 1.06, repeats=True).threshold == 12.0
    assert simulated(pairs, 1.06, repeats=True).achieved_false_events_per_1000 == pytest.approx(0.5)
    assert simulated(pairs, 3.06, repeats=True).threshold == 9.0


@pytest.mark.parametrize(
    "change", [{"smoothing": 0.0}, {"knee": 0.0}, {"adaptation": 1.0}, {"patience": -1}, {"min_present": 0.0}]
)
def test_a_knob_out_of_range_is_refused(change: dict[str, float]) -> None:
    good = {
        "smoothing": 0.1,
        "knee": 1.0,
        "gate": 2.0,
        "adaptation": 0.1,
        "reach": 1.0,
        "patience": 0,
        "warming": 0,
        "min_present": 0.5,
        "leading_share": 0.9,
        "residual": "shrunk",
    }
    with pytest.raises(ValueError, match=next(iter(change))):
        Tuning(**{**good, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"k": 6, "n": 5}, {"k": 0}, {"hysteresis": 0.0}])
def test_a_persistence_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"k=|hysteresis="):
        Persistence(**wrong)  # type: ignore[arg-type]
