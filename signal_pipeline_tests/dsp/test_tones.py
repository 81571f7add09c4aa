"""Known tones come back: line frequency, amplitude, phase, harmonics, THD, sequences. Not here: agreement, NULL."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signal_pipeline.catalogue import HARMONICS
from signal_pipeline.dsp.extract import FeatureBlock
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline_tests.dsp.signals import column, extract

FS = 25_600.0
GRID = WindowGrid(FS, 25_600, 12_800)


def tone(
    freq: float, *, amplitude: float = 10.0, phase: float = 0.0, n: int = 25_600, fs: float = FS
) -> NDArray[np.float64]:
    """A cosine whose phase is `phase` (rad) in the middle of its n samples."""
    t = (np.arange(n, dtype=np.float64) - n / 2) / fs
    return np.asarray(amplitude * np.cos(2 * np.pi * freq * t + phase), np.float64)


def of(*phases: NDArray[np.float64], grid: WindowGrid = GRID) -> FeatureBlock:
    """Features of one window; a single phase stands for all three."""
    return extract(np.asarray(phases if len(phases) == 3 else phases * 3, np.float32), grid)


@settings(max_examples=60, deadline=None)
@given(freq=st.floats(45, 65), phase=st.floats(-math.pi, math.pi), amplitude=st.floats(1e-3, 1e4))
def test_the_line_frequency_of_a_clean_second_is_within_five_millihertz(
    freq: float, phase: float, amplitude: float
) -> None:
    block = of(tone(freq, amplitude=amplitude, phase=phase))
    assert column(block, "line_freq_hz_a")[0] == pytest.approx(freq, abs=0.000_2)
    assert column(block, "fundamental_amplitude_a")[0] == pytest.approx(amplitude, rel=1e-5)
    error = column(block, "fundamental_phase_deg_a")[0] - math.degrees(phase)
    assert (error + 180) % 360 - 180 == pytest.approx(0, abs=0.01)


@settings(max_examples=40, deadline=None)
@given(freq=st.floats(45, 65), noise=st.floats(0, 0.2), seed=st.integers(0, 9))
def test_the_line_frequency_stands_noise_of_two_percent(freq: float, noise: float, seed: int) -> None:
    x = tone(freq) + noise * np.random.default_rng(seed).standard_normal(25_600)
    assert column(of(x), "line_freq_hz_a")[0] == pytest.approx(freq, abs=0.005)


@settings(max_examples=40, deadline=None)
@given(freq=st.floats(45, 65), seed=st.integers(0, 99))
def test_harmonics_and_distortion_are_within_a_thousandth_of_the_truth(freq: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.uniform(0.005, 0.2, len(HARMONICS))
    x = tone(freq, phase=rng.uniform(-3, 3))
    for order, share in zip(HARMONICS, shares, strict=True):
        x += tone(order * freq, amplitude=10 * share, phase=rng.uniform(-3, 3))
    block = of(x)
    for order, share in zip(HARMONICS, shares, strict=True):
        assert column(block, f"harmonic_{order}_pct_a")[0] == pytest.approx(100 * share, rel=1e-3), order
    assert column(block, "thd_pct_a")[0] == pytest.approx(100 * np.sqrt(np.sum(shares**2)), rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(cycles=st.floats(10.05, 20), seed=st.integers(0, 99))
def test_ten_cycles_are_enough_for_the_harmonics_of_a_network(cycles: float, seed: int) -> None:
    """The shortest window that gives harmonics at all: the fundamental's skirt is taken out, a per mille remains."""
    freq = 50.0
    n = round(FS * cycles / freq)
    x = tone(freq, n=n) + tone(5 * freq, amplitude=0.5, phase=seed, n=n) + tone(7 * freq, amplitude=0.3, phase=1, n=n)
    block = of(x, grid=WindowGrid(FS, n, n))
    assert column(block, "harmonic_5_pct_a")[0] == pytest.approx(5, abs=0.05)
    assert column(block, "harmonic_7_pct_a")[0] == pytest.approx(3, abs=0.05)
    assert column(block, "harmonic_2_pct_a")[0] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("freq", [45.5, 50.0, 50.49, 59.83])
def test_a_clean_tone_has_no_harmonics_to_speak_of(freq: float) -> None:
    block = of(tone(freq))
    assert column(block, "thd_pct_a")[0] < 0.005


def test_the_raw_peak_would_read_low_and_ours_does_not() -> None:
    """Half a bin off, the strongest bin of a Hann window is 15 % low; the reason for all the arithmetic."""
    x = tone(50.5)
    raw = 4 * np.abs(np.fft.rfft(x * np.hanning(25_601)[:-1])).max() / 25_600
    assert raw < 8.6
    assert column(of(x), "fundamental_amplitude_a")[0] == pytest.approx(10, rel=1e-5)
    assert column(of(x), "peak_1_amplitude_a")[0] == pytest.approx(10, rel=1e-4)


phasors = st.builds(lambda r, a: r * np.exp(1j * a), st.floats(0, 3), st.floats(-math.pi, math.pi))


@settings(max_examples=40, deadline=None)
@given(freq=st.floats(45, 65), negative=phasors, zero=phasors, start=st.floats(-math.pi, math.pi))
def test_the_sequences_are_those_the_phases_were_made_of(
    freq: float, negative: complex, zero: complex, start: float
) -> None:
    turn = np.exp(2j * np.pi / 3)
    positive = 10 * np.exp(1j * start)
    currents = [positive * turn**-k + negative * turn**k + zero for k in range(3)]
    block = of(*(tone(freq, amplitude=abs(c), phase=float(np.angle(c))) for c in currents))
    assert column(block, "seq_pos_amplitude")[0] == pytest.approx(10, abs=2e-3)
    assert column(block, "seq_neg_amplitude")[0] == pytest.approx(abs(negative), abs=2e-3)
    assert column(block, "seq_zero_amplitude")[0] == pytest.approx(abs(zero), abs=2e-3)
    assert column(block, "i2_i1_pct")[0] == pytest.approx(10 * abs(negative), abs=0.02)
    assert column(block, "i0_i1_pct")[0] == pytest.approx(10 * abs(zero), abs=0.02)


def test_an_open_phase_is_half_negative_sequence() -> None:
    silence = np.zeros(25_600)
    block = of(tone(50), tone(50, phase=math.pi), silence)
    assert column(block, "i2_i1_pct")[0] == pytest.approx(100, abs=0.01)
    assert column(block, "i0_i1_pct")[0] == pytest.approx(0, abs=0.01)
    assert column(block, "unbalance_pct")[0] == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_a_balanced_motor_has_its_positive_sequence_whichever_way_it_is_wired(order: tuple[int, ...]) -> None:
    block = of(*(tone(50, phase=-k * 2 * math.pi / 3) for k in order))
    assert column(block, "seq_pos_amplitude")[0] == pytest.approx(10, rel=1e-5)
    assert column(block, "i2_i1_pct")[0] == pytest.approx(0, abs=1e-3)
    assert block.null_reasons[0] is None or "i2_i1_pct" not in block.null_reasons[0]


def test_a_reversed_sensor_is_half_negative_sequence() -> None:
    """The sums over the two orders of a balanced motor with one sign turned are 1/3 and 2/3 of it."""
    block = of(tone(50), tone(50, phase=-2 * math.pi / 3), tone(50, amplitude=-10, phase=-4 * math.pi / 3))
    phasors = np.exp(-2j * np.pi * np.arange(3) / 3) * [1, 1, -1]
    turn = np.exp(2j * np.pi / 3)
    one, other = abs(phasors @ [1, turn, turn**2]), abs(phasors @ [1, turn**2, turn])
    assert column(block, "i2_i1_pct")[0] == pytest.approx(100 * min(one, other) / max(one, other), abs=0.01)
    assert column(block, "unbalance_pct")[0] == pytest.approx(0, abs=1e-3)


def test_the_offset_of_a_sensor_is_no_unbalance() -> None:
    """3 A of it on one of three balanced phases read 5.6 % when the rms of a phase contained its mean."""
    block = of(*(tone(50, phase=-k * 2 * math.pi / 3) + offset for k, offset in enumerate((3.0, 0.0, 0.0))))
    assert column(block, "unbalance_pct")[0] == pytest.approx(0, abs=1e-3)


def test_the_unbalance_is_the_largest_deviation_of_a_fundamental_from_their_mean() -> None:
    """Amplitudes 9, 10, 11 and a harmonic that is none of it: 10 %."""
    phases = [tone(50, amplitude=9 + k, phase=-k * 2 * math.pi / 3) for k in range(3)]
    block = of(phases[0] + tone(250, amplitude=4), phases[1], phases[2])
    assert column(block, "unbalance_pct")[0] == pytest.approx(10, abs=1e-3)


@pytest.mark.parametrize("drift", [10.0, 20.0, 40.0])
def test_a_drift_beside_fifty_cycles_leaves_the_line_its_numbers(drift: float) -> None:
    """40 A over the window hold more power than the line of 10 A, and none of it where the line is."""
    block = of(tone(50.3) + drift * np.arange(25_600) / 25_600)
    assert column(block, "line_freq_hz_a")[0] == pytest.approx(50.3, abs=0.001)
    assert column(block, "fundamental_amplitude_a")[0] == pytest.approx(10, rel=1e-4)
    assert column(block, "thd_pct_a")[0] < 0.05


def test_an_unbalanced_current_beats_at_twice_the_line_in_the_park_vector() -> None:
    """I1 = 10, I2 = 0.5: the modulus swings by 2·I2 about I1·sqrt(3/2), so its line at 2f is I2/I1."""
    shift = 2 * np.pi / 3
    phases = [tone(50, phase=-k * shift) + tone(50, amplitude=0.5, phase=k * shift) for k in range(3)]
    block = of(*phases)
    assert column(block, "park_2f_pct")[0] == pytest.approx(5, abs=0.05)
    assert column(block, "park_mean")[0] == pytest.approx(10 * math.sqrt(1.5), rel=1e-3)
