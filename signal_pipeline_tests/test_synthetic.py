"""The simulator: its samples say what its truth promises, and its folders hold what they claim."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from signal_pipeline.synthetic import (
    Condition,
    Motor,
    known_truth,
    simulate,
    write_fleet,
    write_history,
    write_many_signals,
)

MOTOR = Motor()
QUIET = Condition(noise=0.0, unbalance=0.0, harmonics=(), eccentricity_dbc=None, slot_harmonics_dbc=None)
TURN = np.exp(2j * math.pi / 3)


def amplitude_at(x: NDArray[np.float32], hz: float, fs: float) -> complex:
    """Complex peak amplitude of the line at `hz`, through a flat enough window."""
    window = np.hanning(x.size)
    return complex(2 * np.sum(window * x * np.exp(-2j * np.pi * hz * np.arange(x.size) / fs)) / window.sum())


def sequences(x: NDArray[np.float32], hz: float, fs: float) -> tuple[complex, complex, complex]:
    """Positive, negative and zero sequence at `hz` (peak amperes)."""
    r, s, t = (amplitude_at(phase, hz, fs) for phase in x)
    return (r + TURN * s + TURN**2 * t) / 3, (r + TURN**2 * s + TURN * t) / 3, (r + s + t) / 3


def test_the_same_arguments_give_the_same_samples_and_another_seed_gives_others() -> None:
    args = {"fs": 2000.0, "seconds": 0.5}
    first, again = (simulate(MOTOR, Condition(), seed=3, **args) for _ in range(2))
    assert first.shape == (3, 1000)
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.array_equal(first, simulate(MOTOR, Condition(), seed=4, **args))


def test_a_longer_recording_of_a_quiet_motor_begins_with_the_shorter_one() -> None:
    short = simulate(MOTOR, QUIET, fs=20000, seconds=1, seed=0)
    long = simulate(MOTOR, QUIET, fs=20000, seconds=5, seed=0)
    assert np.array_equal(short, long[:, : short.shape[1]])


@pytest.mark.parametrize("load", [0.0, 0.5, 1.0])
def test_the_fundamental_is_a_pure_positive_sequence_of_the_loads_current(load: float) -> None:
    condition = Condition(**{**QUIET.__dict__, "load": load})
    truth = known_truth(MOTOR, condition)
    positive, negative, zero = sequences(simulate(MOTOR, condition, fs=2000, seconds=4, seed=1), 50.0, 2000)
    assert abs(positive) / math.sqrt(2) == pytest.approx(truth.current_a, rel=1e-5)
    assert abs(negative) < 1e-5
    assert abs(zero) < 1e-5
    if load == 1.0:
        assert truth.current_a == pytest.approx(MOTOR.rated_current_a)
        assert truth.slip == pytest.approx(MOTOR.rated_slip)


def test_broken_bar_and_eccentricity_lines_stand_where_the_slip_puts_them() -> None:
    condition = Condition(**{**QUIET.__dict__, "slip": 0.03, "broken_bar_dbc": -42.0, "eccentricity_dbc": -50.0})
    x = simulate(MOTOR, condition, fs=2000, seconds=20, seed=5)[0]
    carrier = abs(amplitude_at(x, 50.0, 2000))
    rotor = 50 * 0.97 / 2
    for hz, dbc in ((47, -42), (53, -42), (44, -57), (56, -57), (50 - rotor, -50), (50 + rotor, -50)):
        assert 20 * math.log10(abs(amplitude_at(x, hz, 2000)) / carrier) == pytest.approx(dbc, abs=0.05)
    assert 20 * math.log10(abs(amplitude_at(x, 48.5, 2000)) / carrier) < -90


@pytest.mark.parametrize("phase", [0, 1, 2])
def test_an_interturn_fault_makes_negative_sequence_and_the_largest_current_in_its_phase(phase: int) -> None:
    condition = Condition(**{**QUIET.__dict__, "interturn": 0.4, "interturn_phase": phase})
    x = simulate(MOTOR, condition, fs=2000, seconds=2, seed=6)
    positive, negative, zero = sequences(x, 50.0, 2000)
    assert abs(negative) / abs(positive) == pytest.approx(known_truth(MOTOR, condition).i2_i1_max, rel=1e-4)
    assert abs(positive) / math.sqrt(2) == pytest.approx(known_truth(MOTOR, condition).current_a, rel=1e-4)
    assert abs(zero) < 1e-5
    assert int(np.argmax(x.std(axis=1))) == phase


def test_harmonics_turn_as_their_order_says() -> None:
    condition = Condition(**{**QUIET.__dict__, "harmonics": ((3, 0.03), (5, 0.02), (7, 0.01))})
    x = simulate(MOTOR, condition, fs=4000, seconds=2, seed=7)
    carrier = abs(sequences(x, 50.0, 4000)[0])
    for order, share, sequence in ((3, 0.03, 2), (5, 0.02, 1), (7, 0.01, 0)):
        found = [abs(value) / carrier for value in sequences(x, 50.0 * order, 4000)]
        assert found[sequence] == pytest.approx(share, rel=1e-3)
        assert sum(found) - found[sequence] < 1e-5
    assert known_truth(MOTOR, condition).thd == pytest.approx(math.sqrt(0.0014))


def test_a_drifting_supply_moves_the_line_by_the_drift() -> None:
    condition = Condition(**{**QUIET.__dict__, "line_freq_hz": 49.9, "line_drift_hz_per_s": 0.02})
    x = simulate(MOTOR, condition, fs=2000, seconds=10, seed=8)[0]
    phase = np.unwrap(np.angle([amplitude_at(x[k : k + 2000], 50.0, 2000) for k in range(0, 18001, 1000)]))
    steps = np.diff(phase) / (2 * np.pi * 0.5)  # Hz away from 50, in the middle of each half second
    assert steps[0] == pytest.approx(-0.1 + 0.02 * 0.75, abs=1e-3)
    assert steps[-1] == pytest.approx(-0.1 + 0.02 * 9.25, abs=1e-3)


def test_a_stopped_motor_leaves_offset_and_noise() -> None:
    x = simulate(MOTOR, Condition(off=True, dc_offset_a=0.25, noise=0.001), fs=2000, seconds=5, seed=9)
    assert x.mean() == pytest.approx(0.25, abs=1e-3)
    assert x.std() == pytest.approx(0.01, rel=0.02)


def test_a_start_begins_at_several_times_the_running_current() -> None:
    x = simulate(MOTOR, Condition(start_up_s=1.0), fs=2000, seconds=5, seed=10)
    first, last = x[:, :800].std(), x[:, -800:].std()
    assert 5 < first / last < 7
    assert last == pytest.approx(known_truth(MOTOR, Condition()).current_a, rel=0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Motor(rated_speed_rpm=1500),
        lambda: Motor(pole_pairs=0),
        lambda: Motor(rated_current_a=0),
        lambda: Condition(interturn=1.0),
        lambda: Condition(interturn_phase=3),
        lambda: Condition(slip=-0.1),
        lambda: simulate(MOTOR, QUIET, fs=10, seconds=0.01, seed=0),
        lambda: write_fleet(Path("nowhere"), motors=0),
        lambda: write_history(Path("nowhere"), hours=36),
    ],
)
def test_an_impossible_motor_condition_or_length_is_named(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"="):
        make()


def test_a_fleet_is_what_its_truth_says(tmp_path: Path) -> None:
    truth = write_fleet(tmp_path, motors=3, recordings=4, seconds=1.0, fs=1000, seed=1)
    files = sorted(tmp_path.rglob("*.csv"))
    assert files == sorted(recording.path for recording in truth.recordings)
    assert len(files) == 3 * 4 + 2
    assert {recording.equipment for recording in truth.recordings} == set(truth.motors)
    assert [r.failure for r in truth.recordings if r.failure] == ["csv_error", "insufficient_data"]
    for recording in truth.recordings:
        assert recording.path.parent.name == recording.equipment
        assert recording.path.name == recording.recorded_at.strftime("%Y-%m-%dT%H-%M-%SZ.csv")
        header, *rows = recording.path.read_text().splitlines()
        assert header == "current_R,current_S,current_T"
        assert len(rows) == recording.n_samples
        if recording.failure != "csv_error":
            assert np.isfinite(np.loadtxt(rows, delimiter=",")).all()
    severities = [r.condition.interturn for r in truth.recordings if r.equipment == truth.developing]
    assert severities == sorted(severities)
    assert severities[0] == 0
    assert severities[-1] > 0.3


def test_a_fleet_file_holds_the_simulated_samples_to_the_milliampere(tmp_path: Path) -> None:
    truth = write_fleet(tmp_path, motors=1, recordings=1, seconds=1.0, fs=1000, seed=1)
    values = np.loadtxt(truth.recordings[0].path, delimiter=",", skiprows=1, dtype=np.float32).T
    (motor,) = truth.motors.values()
    positive, _, _ = sequences(values, 50.0, 1000)
    expected = known_truth(motor, truth.recordings[0].condition).current_a
    assert abs(positive) / math.sqrt(2) == pytest.approx(expected, rel=1e-3)


def test_the_bad_cells_are_where_a_reader_has_to_find_them(tmp_path: Path) -> None:
    truth = write_fleet(tmp_path, motors=1, recordings=1, seconds=2.0, fs=1000)
    (bad,) = (r.path for r in truth.recordings if r.failure == "csv_error")
    cells = [cell for line in bad.read_text().splitlines()[1:] for cell in line.split(",")]
    assert [cell for cell in cells if cell.strip("-.0123456789e")] == ["n/a", "ERR", "overrange"]


def test_many_signals_are_all_different_and_repeatable(tmp_path: Path) -> None:
    paths = write_many_signals(tmp_path / "a", 50, seconds=1.0)
    again = write_many_signals(tmp_path / "b", 50, seconds=1.0)
    contents = [path.read_bytes() for path in paths]
    assert len(set(contents)) == 50
    assert contents == [path.read_bytes() for path in again]
    assert len({path.parent for path in paths}) == 10


def test_a_history_is_healthy_until_its_fault_begins_and_then_only_gets_worse(tmp_path: Path) -> None:
    truth = write_history(tmp_path, hours=40, seconds=0.1)
    files = sorted((tmp_path / truth.equipment).iterdir())
    assert [file.name for file in files] == [f"{at:%Y-%m-%dT%H-%M-%SZ}.csv" for at in truth.times]
    assert len(files) == 40
    severities = [condition.interturn for condition in truth.conditions]
    assert severities[:5] == [0] * 5
    assert truth.times[4] == truth.fault_from
    assert all(severities[k] < severities[k + 1] for k in range(4, 39))
    assert severities[-1] == pytest.approx(0.2)


def test_the_last_hours_of_a_history_show_the_fault_as_negative_sequence(tmp_path: Path) -> None:
    truth = write_history(tmp_path, hours=40)
    files = sorted((tmp_path / truth.equipment).iterdir())
    shares = []
    for file in (files[0], files[-1]):
        samples = np.loadtxt(file, delimiter=",", skiprows=1, dtype=np.float32).T
        positive, negative, _ = sequences(samples, 50.0, truth.fs)
        shares.append(abs(negative) / abs(positive))
    assert shares[0] < 0.02
    assert shares[1] > 0.1


def test_the_same_history_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_history(tmp_path / name, hours=38, seconds=0.2)
    first, again = (sorted((tmp_path / name).rglob("*.csv")) for name in ("a", "b"))
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in again]
    assert len({file.read_bytes() for file in first}) == 38
