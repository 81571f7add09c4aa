"""The spectra of a diagnosis against those of the library, and recordings whose length would be slow."""

import numpy as np
import pytest
import statorscope
from numpy.typing import NDArray

from signal_pipeline.dsp.diagnosis import Decimator, MotorData, rotor
from signal_pipeline.dsp.diagnosis.record import Line, Stretch, follow_line
from signal_pipeline.dsp.diagnosis.slip import find_slip
from signal_pipeline.dsp.diagnosis.spectra import usable
from signal_pipeline.synthetic import Condition, Motor, simulate

MOTOR = MotorData(pole_pairs=2, rated_speed_rpm=1455, line_freq_hz=50, rotor_bars=28)
FS = 2000.0


def recording(seed: int, n: int = 20_000) -> Stretch:
    rng = np.random.default_rng(seed)
    condition = Condition(
        slip=float(rng.uniform(0.01, 0.05)),
        broken_bar_dbc=(None, -45.0)[seed % 2],
        noise=10 ** rng.uniform(-5, -0.3),
        line_freq_hz=float(rng.uniform(49.5, 50.5)),
        clock_jitter_s=(0.0, 1e-5)[seed % 2],
    )
    samples = simulate(Motor(), condition, fs=FS, seconds=n / FS, seed=seed).astype(np.float64)
    return Stretch(samples - samples.mean(axis=1, keepdims=True), FS, has_gaps=False)


def line_of(stretch: Stretch) -> Line:
    line, reason = follow_line(stretch, nominal_hz=50.0)
    assert line is not None, reason
    return line


@pytest.mark.parametrize("seed", range(8))
def test_the_audit_of_the_clock_is_the_librarys(seed: int) -> None:
    stretch = recording(seed)
    line = line_of(stretch)
    seen = rotor.look_at_rotor(stretch, line, MOTOR)
    phase = statorscope.Recording(stretch.phases[line.strongest], FS)
    theirs = statorscope.assess_clock(phase, line_hz=line.hz)
    assert seen.clock.measured_floor_dbc == pytest.approx(theirs.measured_floor_dbc, abs=1e-6)
    assert seen.clock.carrier_halfwidth_hz == pytest.approx(theirs.carrier_halfwidth_hz)
    assert seen.clock.trustworthy is theirs.trustworthy


@pytest.mark.parametrize("seed", range(4))
def test_the_residual_spectrum_is_the_librarys_power_mean(seed: int) -> None:
    stretch = recording(seed)
    line = line_of(stretch)
    ours = rotor.look_at_rotor(stretch, line, MOTOR).spectrum
    residuals = [statorscope.suppress_fundamental(x, FS, line.hz) for x in stretch.phases]
    theirs = [statorscope.compute_spectrum(x, FS, reference_hz=line.hz).amplitude for x in residuals]
    mean = np.sqrt(np.mean(np.square(theirs), axis=0))
    assert ours.amplitude == pytest.approx(mean, rel=1e-6, abs=1e-11)
    carriers = [statorscope.compute_spectrum(x, FS, reference_hz=line.hz) for x in stretch.phases]
    refined = [c.reference_amplitude * 10 ** (c.peak_near(c.reference_hz, c.resolution_hz)[1] / 20) for c in carriers]
    assert ours.reference_amplitude == pytest.approx(np.sqrt(np.mean(np.square(refined))), rel=1e-9)
    assert ours.dbc == pytest.approx(ours.rereferenced(ours.reference_hz, ours.reference_amplitude).dbc, abs=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_not_searched_would_not_have_been_found(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stretch = recording(seed)
    line = line_of(stretch)
    seen = rotor.look_at_rotor(stretch, line, MOTOR)
    screened = find_slip(seen, MOTOR)
    monkeypatch.setattr("signal_pipeline.dsp.diagnosis.slip._may_hold_a_pair", lambda *_: True)
    assert find_slip(seen, MOTOR) == screened


@pytest.mark.parametrize("n", [50, 997, 19_997, 51_160, 1_048_573])
def test_a_length_that_is_slow_loses_a_few_samples_at_most(n: int) -> None:
    kept = usable(np.zeros((1, n))).shape[1]
    assert kept <= n
    assert n - kept <= max(2, n // 100)
    assert largest_prime(kept) <= 11


def test_a_recording_of_a_slow_length_is_judged_by_what_is_left() -> None:
    stretch = recording(1, n=19_997)
    seen = rotor.look_at_rotor(stretch, line_of(stretch), MOTOR)
    assert seen.spectrum.n_samples == usable(stretch.phases).shape[1] < 19_997
    assert seen.spectrum.resolution_hz == pytest.approx(FS / seen.spectrum.n_samples)


def test_a_decimated_sample_has_the_same_bits_wherever_the_recording_was_cut() -> None:
    x: NDArray[np.float32] = np.random.default_rng(0).standard_normal((3, 300_000)).astype(np.float32)
    whole, pieces = Decimator(25_600).push(x), Decimator(25_600)
    cut = [pieces.push(part) for part in np.split(x, [1, 50, 30_001, 262_200], axis=1)]
    assert np.array_equal(whole, np.concatenate(cut, axis=1))


def largest_prime(n: int) -> int:
    factor, largest = 2, 1
    while n > 1:
        while n % factor == 0:
            n, largest = n // factor, factor
        factor += 1
    return largest
