"""What looks like a line of the rotor and is none: harmonics that a pulsating load or the recorder puts beside."""

from typing import Any

import numpy as np
import pytest

from signal_pipeline.dsp.diagnosis import FindingStatus, MotorData, Quantity, Severity, diagnose
from signal_pipeline.synthetic import Condition, Motor, simulate

NO_SPEED: dict[str, Any] = {"eccentricity_dbc": None, "slot_harmonics_dbc": None}
PLATE = MotorData(pole_pairs=2, rated_speed_rpm=1455, line_freq_hz=50, rated_current_a=10, rotor_bars=28)
STRONG = ((5, 0.03), (7, 0.02), (11, 0.008), (13, 0.006))

TWELVE_BARS_A_POLE_PAIR = Motor(pole_pairs=4, rated_speed_rpm=727.5, rotor_bars=48)
"""Its slot harmonics stand at 12 * (1 - slip) -+ 1: a little below the 11th and the 13th harmonic."""


@pytest.mark.parametrize("depth", [0.01, 0.03])
@pytest.mark.parametrize("hz", [3.7, 4.99])
def test_harmonics_that_a_pulsating_load_modulates_are_no_slot_harmonics(hz: float, depth: float) -> None:
    motor = TWELVE_BARS_A_POLE_PAIR
    plate = MotorData(pole_pairs=4, rated_speed_rpm=727.5, line_freq_hz=50, rotor_bars=48)
    swinging: dict[str, Any] = {"load_oscillation": depth, "load_oscillation_hz": hz, "harmonics": STRONG}
    for speed in (NO_SPEED, {"eccentricity_dbc": None, "slot_harmonics_dbc": -55.0}):
        condition = Condition(slip=0.012, load=0.4, **speed, **swinging)
        diagnosis = diagnose(simulate(motor, condition, fs=6400, seconds=10, seed=1), fs=6400, motor=plate)
        slip = diagnosis[Quantity.SLIP]
        # 13 * line - hz would be the slot harmonic of a slip of hz / (12 * line)
        assert slip.value is None or "slot" not in slip.detail or slip.value == pytest.approx(0.012, abs=2e-4), slip
        assert diagnosis[Quantity.BROKEN_BAR].severity in (None, Severity.HEALTHY)
        assert f"{hz / 600:.4f}" not in slip.detail


@pytest.mark.parametrize(
    ("line_freq", "lines"),
    [
        # 2000 - 39 * 50.07 stands 0.2 Hz from the lower sideband of 3 %; 2000 - 27 * 49.511 beside a slot harmonic
        (50.07, {**NO_SPEED}),
        (49.943, {**NO_SPEED}),
        (49.511, {"eccentricity_dbc": None, "slot_harmonics_dbc": -40.0}),
        (50.361, {"eccentricity_dbc": None, "slot_harmonics_dbc": -40.0}),
    ],
)
def test_a_place_where_a_harmonic_would_fold_is_lost_only_if_one_stands_there(
    line_freq: float, lines: dict[str, Any]
) -> None:
    condition = Condition(slip=0.03, load=0.9, line_freq_hz=line_freq, broken_bar_dbc=-42.0, **lines)
    diagnosis = diagnose(simulate(Motor(), condition, fs=2000, seconds=10, seed=1), fs=2000, motor=PLATE)
    finding = diagnosis[Quantity.BROKEN_BAR]
    assert finding.value == pytest.approx(-42, abs=0.5), finding
    # without a line of the speed the pair could as well be a pulsating load's
    assert finding.severity is (None if lines == NO_SPEED else Severity.MODERATE)


@pytest.mark.parametrize("line_freq", [50.0, 50.006])
def test_a_supply_that_drifts_across_the_line_folds_nothing_if_no_harmonic_is_there(line_freq: float) -> None:
    # order 79 would sweep by 4 Hz around 49.5 Hz: over the line itself, and over the place of the lower sideband
    condition = Condition(
        slip=0.03, load=0.67, line_freq_hz=line_freq, line_drift_hz_per_s=-0.005, broken_bar_dbc=-42, noise=0.003
    )
    diagnosis = diagnose(simulate(Motor(), condition, fs=2000, seconds=10, seed=289), fs=2000, motor=PLATE)
    assert diagnosis[Quantity.BROKEN_BAR].value == pytest.approx(-42, abs=0.5), diagnosis[Quantity.BROKEN_BAR]


@pytest.mark.parametrize("drift", [0.0, 0.0005, 0.002])
@pytest.mark.parametrize("rate", [1000, 2000])
def test_folded_harmonics_never_make_a_broken_bar(rate: int, drift: float) -> None:
    rng = np.random.default_rng(rate)
    many = tuple((order, float(rng.uniform(0, 0.004))) for order in range(3, 80, 2))
    for seed in range(4):
        condition = Condition(
            slip=0.02, load=0.7, line_freq_hz=50 + rng.uniform(-0.2, 0.2), line_drift_hz_per_s=drift, harmonics=many
        )
        folded = simulate(Motor(), condition, fs=8000, seconds=10, seed=seed)[:, :: 8000 // rate]
        diagnosis = diagnose(folded, fs=rate, motor=PLATE)
        assert diagnosis[Quantity.BROKEN_BAR].severity in (None, Severity.HEALTHY), list(diagnosis)


def test_a_folded_harmonic_at_the_place_of_a_sideband_is_named_and_not_judged() -> None:
    # 2000 - 39 * 50.05 = 48.05 and 41 * 50.05 - 2000 = 52.05: the sidebands of a slip of 2 %, to a hundredth of a hertz
    condition = Condition(slip=0.02, load=0.7, line_freq_hz=50.05, harmonics=((39, 0.005), (41, 0.005)))
    folded = simulate(Motor(), condition, fs=8000, seconds=10, seed=1)[:, ::4]
    diagnosis = diagnose(folded, fs=2000, motor=PLATE)
    assert diagnosis[Quantity.SLIP].value == pytest.approx(0.02, abs=2e-4)
    finding = diagnosis[Quantity.BROKEN_BAR]
    assert finding.status is FindingStatus.INSUFFICIENT_RESOLUTION
    assert finding.detail.startswith("a harmonic that the recorder folded to this place")
    # a recorder with a filter has none there
    assert (
        diagnose(simulate(Motor(), condition, fs=2000, seconds=10, seed=1), fs=2000, motor=PLATE)[
            Quantity.BROKEN_BAR
        ].severity
        is Severity.HEALTHY
    )


def test_a_deviation_too_small_to_print_has_no_sign() -> None:
    for hz in (50 - 2e-5, 50 + 2e-5):
        x = simulate(Motor(), Condition(line_freq_hz=hz), fs=2000, seconds=10, seed=1)
        detail = diagnose(x, fs=2000, motor=PLATE)[Quantity.LINE_FREQUENCY].detail
        assert detail.startswith("+0.0000 Hz from the nominal")


def test_a_carrier_that_covers_everything_is_told_without_an_infinite_number() -> None:
    t = np.arange(20_000) / 2000
    turns = 50 * t + 1.5 * np.sin(2 * np.pi * 0.23 * t) * np.sin(2 * np.pi * 0.71 * t)
    x = np.stack([10 * np.cos(2 * np.pi * (turns - k / 3)) for k in range(3)]).astype(np.float32)
    finding = diagnose(x, fs=2000, motor=MotorData(pole_pairs=2))[Quantity.BROKEN_BAR]
    assert finding.status is FindingStatus.CLOCK_QUALITY
    assert "inf" not in finding.detail
    assert "covers the places of all sidebands" in finding.detail
