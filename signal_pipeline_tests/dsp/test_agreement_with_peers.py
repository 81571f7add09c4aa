"""Every comparable feature equals librosa's or tsfel's. Both are in the `dev` group, so nothing here is ever skipped.

Definitions are made equal by what the peers let be chosen: librosa is given the power of a periodic Hann window (its
default is magnitude) without the mean's bin, rolloff at 85 %, flatness without a floor. tsfel weighs its spectral
moments by magnitude under no window and cannot be told otherwise, so only its waveform features and its lowest large
peak are comparable. Kurtosis is Fisher's in both. Not here: scipy and numpy (`test_agreement`).
"""

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline_tests.dsp.signals import Phases, column, extract, motor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the peers' own
    import librosa
    import tsfel

Values = NDArray[np.float64]

TOLERANCE = {"librosa": 1e-5, "tsfel": 2e-6}
"""Relative. Both get float64: what is left is that ours transforms in float32."""

CASES = {
    "a clean motor": (25_600.0, motor(64_000, fs=25_600)),
    "a noisy motor": (25_600.0, motor(64_000, fs=25_600, noise=1.0)),
    "noise only": (2560.0, motor(9000, fs=2560, amplitude=0, noise=1.0)),
    "an even window at another rate": (1000.0, motor(4000, fs=1000, freq=37.3, noise=0.5)),
}

FROM_TSFEL = {
    "rms": "rms",
    "mean": "calc_mean",
    "std": "calc_std",
    "min": "calc_min",
    "max": "calc_max",
    "peak_to_peak": "pk_pk_distance",
    "skew": "skewness",
    "kurt": "kurtosis",
}


def from_librosa(window: Phases, fs: float) -> dict[str, Values]:
    """Each feature of one window (3, n), for three phases."""
    n = window.shape[1]
    shape: dict[str, Any] = {"hop_length": n, "center": False}
    centred = window - window.mean(axis=1, dtype=np.float64, keepdims=True)  # the mean's leakage is no power
    transform = librosa.stft(centred, n_fft=n, window="hann", **shape)
    power = np.abs(transform[:, 1:]) ** 2
    power[:, -1] /= 2  # one-sided power: half the sample rate has no twin
    bins: dict[str, Any] = {"S": power, "freq": librosa.fft_frequencies(sr=fs, n_fft=n)[1:]}
    feature = librosa.feature
    found = {
        "rms": feature.rms(y=window, frame_length=n, **shape),
        "spectral_centroid_hz": feature.spectral_centroid(**bins),
        "spectral_bandwidth_hz": feature.spectral_bandwidth(**bins),
        "spectral_rolloff_hz": feature.spectral_rolloff(**bins, roll_percent=0.85),
        "spectral_flatness": feature.spectral_flatness(S=power, power=1.0, amin=1e-30),
    }
    return {name: np.asarray(values)[:, 0, 0] for name, values in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_the_features_equal_those_of_librosa(case: str) -> None:
    fs, phases = CASES[case]
    grid = WindowGrid.for_rate(fs, window_ms=1000, overlap=0.5)
    block = extract(phases, grid)
    for row, start in enumerate(block.start_rows):
        for name, expected in from_librosa(phases[:, start : start + grid.window_length], fs).items():
            got = [column(block, f"{name}_{phase}")[row] for phase in "abc"]
            assert got == pytest.approx(expected.tolist(), rel=TOLERANCE["librosa"]), (name, row)


@pytest.mark.parametrize("case", CASES)
def test_the_features_equal_those_of_tsfel(case: str) -> None:
    fs, phases = CASES[case]
    grid = WindowGrid.for_rate(fs, window_ms=1000, overlap=0.5)
    block = extract(phases, grid)
    for row, start in enumerate(block.start_rows):
        for index, phase in enumerate("abc"):
            x = phases[index, start : start + grid.window_length].astype(np.float64)
            for name, theirs in FROM_TSFEL.items():
                got, expected = column(block, f"{name}_{phase}")[row], getattr(tsfel, theirs)(x)
                assert got == pytest.approx(expected, rel=TOLERANCE["tsfel"], abs=2e-6), (name, phase, row)


@pytest.mark.parametrize("case", ["a clean motor", "a noisy motor", "an even window at another rate"])
def test_the_strongest_bin_is_the_one_that_tsfel_calls_fundamental(case: str) -> None:
    """Its lowest peak of at least 30 % of the highest, which in a motor's current is the highest; to one bin."""
    fs, phases = CASES[case]
    grid = WindowGrid.for_rate(fs, window_ms=1000, overlap=0.5)
    block = extract(phases, grid)
    for row, start in enumerate(block.start_rows):
        expected = tsfel.fundamental_frequency(phases[0, start : start + grid.window_length].astype(np.float64), fs)
        assert column(block, "dominant_freq_hz_a")[row] == pytest.approx(expected, abs=fs / grid.window_length)
