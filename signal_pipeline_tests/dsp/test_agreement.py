"""Every comparable feature equals scipy's and numpy's, computed here the slow and plain way in float64.

Definitions where libraries differ: skewness and kurtosis are biased, kurtosis is Fisher's (0 for Gauss); centroid,
bandwidth, entropy and flatness weigh by power under a Hann window without the mean's bin (librosa: magnitude, bin 0
included); rolloff is at 85 % of power; entropy is over ln(bins). Not here: laws, tones, NULL.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft, fftpack, signal, stats

from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline_tests.dsp.signals import BANDS, Phases, column, extract, motor

Vector = NDArray[np.float64]

CASES = {
    "a clean motor": (25_600.0, motor(64_000, fs=25_600)),
    "a noisy motor": (25_600.0, motor(64_000, fs=25_600, noise=1.0)),
    "noise only": (2560.0, motor(9000, fs=2560, amplitude=0, noise=1.0)),
    "an odd window": (999.0, motor(4000, fs=999, noise=0.5)),
    "an offset": (2560.0, motor(9000, fs=2560, noise=0.5) + np.float32(40)),
}


def waveform(x: Vector) -> dict[str, float]:
    magnitude, rms = np.mean(np.abs(x)), np.sqrt(np.mean(x**2))
    return {
        "rms": rms,
        "mean": np.mean(x),
        "std": np.std(x),
        "min": x.min(),
        "max": x.max(),
        "peak": np.abs(x).max(),
        "peak_to_peak": np.ptp(x),
        "crest": np.abs(x).max() / rms,
        "form": rms / magnitude,
        "impulse": np.abs(x).max() / magnitude,
        "shape": np.std(x) / np.mean(np.abs(x - x.mean())),
        "skew": stats.skew(x),
        "kurt": stats.kurtosis(x),
    }  # fmt: skip


def spectral(x: Vector, fs: float) -> dict[str, float]:
    """From scipy's periodogram: a Hann window, constant detrend, density turned into power by the bin's width."""
    freqs, density = signal.periodogram(x, fs, window="hann", detrend="constant", scaling="density")
    df = freqs[1]
    freqs, power = freqs[1:], density[1:] * df
    total = power.sum()
    centroid = np.sum(freqs * power) / total
    bands = {
        f"band_power_{i + 1}": power[(freqs >= low) & (freqs < high)].sum()
        for i, (low, high) in enumerate(BANDS)
        if high < fs / 2
    }
    return bands | {
        "dominant_freq_hz": freqs[power.argmax()],
        "spectral_centroid_hz": centroid,
        "spectral_bandwidth_hz": np.sqrt(np.sum((freqs - centroid) ** 2 * power) / total),
        "spectral_rolloff_hz": freqs[np.searchsorted(np.cumsum(power), 0.85 * total)],
        "spectral_entropy": stats.entropy(power) / np.log(power.size),
        "spectral_flatness": stats.gmean(np.maximum(power, 1e-30)) / power.mean(),
        "total_power": total,
    }


@pytest.mark.parametrize("case", CASES)
def test_the_waveform_features_equal_numpy_and_scipy(case: str) -> None:
    fs, phases = CASES[case]
    grid = WindowGrid.for_rate(fs, window_ms=1000, overlap=0.5)
    block = extract(phases, grid)
    for row, start in enumerate(block.start_rows):
        for index, phase in enumerate("abc"):
            x = phases[index, start : start + grid.window_length].astype(np.float64)
            for name, expected in waveform(x).items():
                got = column(block, f"{name}_{phase}")[row]
                assert got == pytest.approx(expected, rel=2e-6, abs=2e-6), (name, phase, row)


@pytest.mark.parametrize("case", CASES)
def test_the_spectral_features_equal_scipy(case: str) -> None:
    fs, phases = CASES[case]
    grid = WindowGrid.for_rate(fs, window_ms=1000, overlap=0.5)
    block = extract(phases, grid)
    for row, start in enumerate(block.start_rows):
        for index, phase in enumerate("abc"):
            x = phases[index, start : start + grid.window_length].astype(np.float64)
            for name, expected in spectral(x, fs).items():
                got = column(block, f"{name}_{phase}")[row]
                assert got == pytest.approx(expected, rel=2e-5, abs=1e-8), (name, phase, row)


def test_the_machine_features_equal_their_formulas() -> None:
    fs = 2560.0
    phases = motor(2560, fs=fs, noise=0.1)
    phases[1] *= 0.9
    block = extract(phases, WindowGrid(fs, 2560, 2560))
    z = phases.astype(np.float64) - phases.mean(axis=1, dtype=np.float64, keepdims=True)
    d = np.sqrt(2 / 3) * z[0] - (z[1] + z[2]) / np.sqrt(6)
    q = (z[1] - z[2]) / np.sqrt(2)
    modulus = np.hypot(d, q)
    hann = signal.windows.hann(2560, sym=False)
    twice = 2 * np.abs(np.fft.rfft((modulus - modulus.mean()) * hann)[100]) / hann.sum()
    fundamentals = np.abs(np.fft.rfft(z * hann)[:, 49:52] @ [-0.5, 1, -0.5])  # what a tone in bin 50 gives to three
    expected = {
        "park_mean": modulus.mean(),
        "park_ripple_pct": 100 * modulus.std() / modulus.mean(),
        "park_2f_pct": 100 * twice / modulus.mean(),
        "unbalance_pct": 100 * np.abs(fundamentals - fundamentals.mean()).max() / fundamentals.mean(),
    }
    for name, value in expected.items():
        assert column(block, name)[0] == pytest.approx(value, rel=1e-4), name


def test_the_peaks_are_those_that_scipy_finds() -> None:
    fs = 2560.0
    t = np.arange(2560) / fs
    tones = {50.0: 10.0, 320.0: 4.0, 777.0: 1.0, 1000.0: 0.2}
    x = sum(a * np.cos(2 * np.pi * f * t + f) for f, a in tones.items())
    phases = np.tile(np.asarray(x, np.float32), (3, 1))
    block = extract(phases, WindowGrid(fs, 2560, 2560))
    freqs, power = signal.periodogram(np.asarray(x), fs, window="hann", scaling="spectrum")
    found, _ = signal.find_peaks(power, height=power.max() * 1e-8)
    best = found[np.argsort(power[found])[::-1]][:3]
    got = [float(column(block, f"peak_{rank}_freq_hz_a")[0]) for rank in (1, 2, 3)]
    assert got == pytest.approx(freqs[best].tolist(), abs=0.01)
    assert [float(column(block, f"peak_{rank}_amplitude_a")[0]) for rank in (1, 2, 3)] == pytest.approx(
        [10, 4, 1], rel=1e-3
    )


def test_one_window_equals_the_same_window_in_a_batch() -> None:
    fs = 1000.0
    phases: Phases = motor(5000, fs=fs, noise=0.3)
    grid = WindowGrid(fs, 1000, 500)
    many = extract(phases, grid)
    for row, start in enumerate(many.start_rows):
        alone = extract(phases[:, start : start + 1000], grid)
        assert alone.values[0] == pytest.approx(many.values[row], rel=1e-6, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("n", [16, 17, 1000, 1001, 25_600])
def test_the_transform_in_place_is_as_exact_as_the_usual_one(n: int) -> None:
    """Both within a float32 rounding for each of the log2(n) steps; which bits those leave is the library's affair."""
    samples = motor(n, fs=1000, noise=1.0)
    exact = fft.rfft(samples.astype(np.float64), axis=-1).view(np.float64)[:, 2 : n + 1]
    usual = fft.rfft(samples, axis=-1).view(np.float32)[:, 2 : n + 1]
    packed = fftpack.rfft(samples, axis=-1, overwrite_x=True)
    assert np.shares_memory(packed, samples)
    allowed = np.finfo(np.float32).eps * np.log2(n) * np.linalg.norm(exact)
    assert np.linalg.norm(packed[:, 1:] - exact) < allowed
    assert np.linalg.norm(packed[:, 1:] - usual) < allowed
