"""Motors drawn at random, of any plate, rate, supply and noise: broken ones are found, healthy ones not called broken.

Drawn motors are possible ones: their slip goes with their load. `test_diagnosis` has the odd ones.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from signal_pipeline.dsp.diagnosis import Diagnosis, FindingStatus, MotorData, Quantity, Severity, diagnose
from signal_pipeline.synthetic import Condition, Motor, simulate

RATES = (5000, 6400, 8192, 10_000, 12_800, 20_000, 25_600)
UNKNOWN: tuple[tuple[str, ...], ...] = (
    (),
    ("rotor_bars",),
    ("rated_current_a",),
    ("rated_speed_rpm", "rated_current_a", "rotor_bars", "line_freq_hz"),
)
"""What a plate may lack: the pole pairs alone are needed."""


@dataclass(frozen=True)
class Drawn:
    """A motor, what it does, how it is recorded, and what is known of it."""

    motor: Motor
    condition: Condition
    fs: float
    plate: MotorData

    def diagnosed(self, seed: int) -> Diagnosis:
        phases = simulate(self.motor, self.condition, fs=self.fs, seconds=10, seed=seed)
        return diagnose(phases, fs=self.fs, motor=self.plate)


def draw(rng: np.random.Generator, *, slip: float, **fixed: Any) -> Drawn:
    """50 or 60 Hz, one to four pole pairs, 30 to 100 % load; lines of the speed strong, weak or absent."""
    pairs, line, load = int(rng.integers(1, 5)), float(rng.choice([50.0, 60.0])), rng.uniform(max(0.3, slip / 0.1), 1)
    bars, rpm = int(rng.choice([24, 28, 32, 36, 40, 44, 48, 52])), 60 * line / pairs * (1 - slip / load)
    drawn: dict[str, Any] = {
        "load": load,
        "slip": slip,
        "line_freq_hz": line + rng.uniform(-0.2, 0.2),
        "line_drift_hz_per_s": rng.choice([0.0, 0.002, -0.005, 0.01]),
        "eccentricity_dbc": (None, rng.uniform(-70, -51), rng.uniform(-70, -51))[rng.integers(3)],
        "slot_harmonics_dbc": (None, rng.uniform(-70, -40), rng.uniform(-70, -40))[rng.integers(3)],
        "unbalance": rng.uniform(0, 0.04),
        "noise": 10 ** rng.uniform(-4.5, -2),
        "dc_offset_a": rng.choice([0.0, 1.0]),
        "clock_jitter_s": rng.choice([0.0, 1e-6]),
        "harmonics": tuple((order, rng.uniform(0, 0.2 / order)) for order in (3, 5, 7, 11, 13, 17, 19)),
    }
    known: dict[str, Any] = {
        "pole_pairs": pairs,
        "rated_speed_rpm": rpm,
        "line_freq_hz": line,
        "rated_current_a": 10.0,
        "rotor_bars": bars,
    }
    for name in UNKNOWN[rng.integers(len(UNKNOWN))]:
        del known[name]
    motor = Motor(pole_pairs=pairs, rated_speed_rpm=rpm, line_freq_hz=line, rotor_bars=bars)
    return Drawn(motor, Condition(**(drawn | fixed)), float(rng.choice(RATES)), MotorData(**known))


def a_rhythm(rng: np.random.Generator, slip: float) -> float:
    """Of a pulsating load, in Hz, that is not the very one of a broken bar."""
    return next(
        hz for hz in iter(lambda: rng.uniform(0.4, 8), None) if min(abs(hz - 2 * slip * f) for f in (50, 60)) > 0.4
    )


@pytest.mark.parametrize("part", range(4))
def test_sidebands_of_42_dbc_at_3_percent_slip_are_found_within_1_db_in_any_motor(part: int) -> None:
    rng = np.random.default_rng([42, part])
    judged = 0
    for seed in range(10):
        drawn = draw(rng, slip=0.03, broken_bar_dbc=-42.0)
        diagnosis = drawn.diagnosed(seed)
        finding = diagnosis[Quantity.BROKEN_BAR]
        assert finding.status is FindingStatus.OK, (drawn, finding)
        assert finding.value == pytest.approx(-42, abs=1), (drawn, finding)
        assert diagnosis[Quantity.SLIP].value == pytest.approx(0.03, abs=0.001), drawn
        # nothing but a line of the speed tells them from a pulsating load
        assert finding.severity in (None, Severity.MODERATE), (drawn, finding)
        judged += finding.severity is Severity.MODERATE
    assert judged >= 4


@pytest.mark.parametrize("pulsating", [False, True])
@pytest.mark.parametrize("slip", [0.003, 0.01, 0.03])
def test_no_healthy_motor_is_called_broken_nor_eccentric_whatever_it_drives(slip: float, pulsating: bool) -> None:
    rng = np.random.default_rng([round(1000 * slip), pulsating])
    for seed in range(8):
        swing: dict[str, Any] = {"load_oscillation": 10 ** rng.uniform(-2.5, -1.3)} if pulsating else {}
        drawn = draw(rng, slip=slip, **swing, load_oscillation_hz=a_rhythm(rng, slip))
        diagnosis = drawn.diagnosed(seed)
        for quantity in (Quantity.BROKEN_BAR, Quantity.ECCENTRICITY):
            assert diagnosis[quantity].severity in (None, Severity.HEALTHY), (drawn, diagnosis[quantity])
        told = diagnosis[Quantity.SLIP]
        if told.value is not None and "sidebands only" not in told.detail:
            assert told.value == pytest.approx(slip, abs=0.001), (drawn, told)
