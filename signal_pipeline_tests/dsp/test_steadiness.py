"""A window in which the current is not steady says so, instead of giving its leakage as distortion and amplitude.

Not here: steady tones (`test_tones`), other reasons for NULL (`test_null`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from signal_pipeline.dsp.extract import FeatureBlock
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline_tests.dsp.signals import column, extract

FS = 25_600
GRID = WindowGrid(float(FS), FS, FS)
T = np.arange(FS, dtype=np.float64) / FS
SECOND = 2 * np.pi * T

Vector = NDArray[np.float64]


def of(
    envelope: NDArray[np.floating[Any]] | float = 1.0,
    *,
    angle: Vector = 50.3 * SECOND,
    noise: float = 0.005,
    harmonics: dict[int, float] | None = None,
    seed: int = 0,
) -> tuple[FeatureBlock, dict[str, str]]:
    """One window of three balanced phases of 10 A times `envelope`, and its reasons."""
    turns = 2 * np.pi * np.arange(3)[:, None] / 3
    phases = np.cos(angle - turns + 0.3)
    for order, share in (harmonics or {}).items():
        phases = phases + share * np.cos(order * (angle - turns) + 1)
    phases = 10 * envelope * phases + noise * np.random.default_rng(seed).standard_normal((3, FS))
    block = extract(phases.astype(np.float32), GRID)
    return block, block.null_reasons[0] or {}


def value(block: FeatureBlock, name: str) -> float:
    return float(column(block, name)[0])


@pytest.mark.parametrize("at", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_a_motor_switched_on_in_the_window_has_no_distortion_made_of_leakage(at: float) -> None:
    block, reasons = of((at < T).astype(float))
    assert np.isnan(value(block, "thd_pct_a"))
    assert np.isnan(value(block, "harmonic_2_pct_b"))
    assert np.isnan(value(block, "peak_2_freq_hz_a"))
    assert reasons["harmonics_a"].startswith("not_stationary")
    assert reasons["peaks_a"].startswith("not_stationary")


@pytest.mark.parametrize("at", [0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_a_motor_switched_on_in_the_middle_has_no_amplitude_and_no_sequences(at: float) -> None:
    block, reasons = of((at < T).astype(float))
    for name in ("fundamental_amplitude_a", "line_freq_hz_c", "peak_1_amplitude_a", "seq_pos_amplitude", "park_2f_pct"):
        assert np.isnan(value(block, name)), name
    assert reasons["fundamental_a"].startswith("not_stationary")
    assert reasons["sequence"].startswith("not_stationary")
    assert value(block, "rms_a") == pytest.approx(10 * np.sqrt((1 - at) / 2), rel=0.02), "levels need no line"


@pytest.mark.parametrize("rise", [10, 20, -20])
def test_an_inverter_that_sweeps_through_the_window_has_no_amplitude(rise: float) -> None:
    block, reasons = of(angle=45 * SECOND + np.pi * rise * T**2)
    assert np.isnan(value(block, "fundamental_amplitude_a"))
    assert np.isnan(value(block, "seq_pos_amplitude"))
    assert reasons["fundamental_b"].startswith("not_stationary")


@pytest.mark.parametrize("degrees", [20, 60, 90])
def test_samples_lost_without_a_trace_make_no_distortion(degrees: float) -> None:
    block, reasons = of(angle=50.3 * SECOND + np.radians(degrees) * (T > 0.4))
    assert np.isnan(value(block, "thd_pct_a"))
    assert reasons["harmonics_a"].startswith("not_stationary")


def test_a_load_step_of_half_the_current_keeps_amplitude_and_sequences() -> None:
    """Its amplitude is the mean of the window, and I2/I1 holds: only what leakage makes has to go."""
    block, reasons = of(1 + 0.5 * (T > 0.5))
    assert value(block, "fundamental_amplitude_a") == pytest.approx(12.5, rel=0.01)
    assert value(block, "i2_i1_pct") == pytest.approx(0, abs=0.3)
    assert np.isnan(value(block, "thd_pct_a"))
    assert set(reasons) == {f"{group}_{phase}" for group in ("harmonics", "peaks") for phase in "abc"}


def test_a_load_step_of_a_current_rich_in_harmonics_keeps_them() -> None:
    """The step's leakage is a tenth of a per cent; the distortion is 25 %, and stays within 1 % of the truth."""
    block, reasons = of(1 + 0.1 * (T > 0.5), harmonics={5: 0.2, 7: 0.15})
    assert value(block, "thd_pct_a") == pytest.approx(25, rel=0.01)
    assert reasons == {}


STEADY: dict[str, Callable[[], tuple[FeatureBlock, dict[str, str]]]] = {
    "noise of 10 %": lambda: of(noise=1),
    "noise of 100 %": lambda: of(noise=10),
    "a load that pulsates by 2 % at 1.5 Hz": lambda: of(1 + 0.02 * np.cos(1.5 * SECOND)),
    "a load that rises by 30 %": lambda: of(1 + 0.3 * T),
    "a network that drifts by 0.3 Hz": lambda: of(angle=50 * SECOND + np.pi * 0.3 * T**2),
    "an inrush that decays": lambda: of(1 + 2 * np.exp(-T / 0.3)),
}


@pytest.mark.parametrize("kind", STEADY)
def test_what_leaks_nowhere_keeps_its_harmonics(kind: str) -> None:
    block, reasons = STEADY[kind]()
    assert np.isfinite(value(block, "thd_pct_a"))
    assert np.isfinite(value(block, "fundamental_amplitude_a"))
    assert not any(why.startswith("not_stationary") for why in reasons.values())


@pytest.mark.parametrize("cycles", [10.2, 12.0, 25.6])
@pytest.mark.parametrize("change", ["amplitude", "angle"])
def test_a_jump_in_a_short_window_makes_no_distortion(cycles: float, change: str) -> None:
    later = np.asarray(T > 0.45, float)
    angle = cycles * SECOND + (0.5 * later if change == "angle" else 0)
    block, reasons = of(1 + (0.3 * later if change == "amplitude" else 0), angle=angle)
    assert np.isnan(value(block, "thd_pct_a"))
    assert reasons["harmonics_a"].startswith("not_stationary")


def test_a_line_of_the_machine_between_the_harmonics_is_no_leakage() -> None:
    """Twelve cycles, a load that pulsates, and rotor lines of which one lies half way to the second harmonic."""
    rotor = sum(0.05 * np.cos(f * SECOND + 1) for f in (6.3, 17.7))
    phases = 10 * (np.cos(12 * SECOND) * (1 + 0.02 * np.cos(1.7 * SECOND)) + rotor + 0.05 * np.cos(60 * SECOND))
    block = extract(np.tile(phases.astype(np.float32), (3, 1)), GRID)
    assert value(block, "thd_pct_a") == pytest.approx(5, rel=0.2)
    assert value(block, "harmonic_5_pct_a") == pytest.approx(5, rel=0.02)


def test_noise_alone_is_never_called_unsteady() -> None:
    """A hundred windows of it: the skirt is measured against the floor, and both are the same noise."""
    for seed in range(100):
        _, reasons = of(noise=10, harmonics={5: 0.05}, seed=seed)
        assert not any(why.startswith("not_stationary") for why in reasons.values()), seed
