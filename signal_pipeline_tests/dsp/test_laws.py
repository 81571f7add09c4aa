"""Laws that hold for every signal: scaling, offset, Parseval, permutation, and any grid that settings allow.

Not here: what a number is (agreement, tones), why one is NULL.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from signal_pipeline.catalogue import COLUMNS, FEATURES, columns_explained_by
from signal_pipeline.dsp.extract import FeatureBlock
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline.settings import FeatureSettings
from signal_pipeline_tests.dsp.signals import Phases, column, extract, motor

FS = 2560.0
GRID = WindowGrid(FS, 2560, 1280)
LONGEST_MS = 600_000.0
MOST_SAMPLES = 300_000
BY_NAME = {feature.name: feature for feature in FEATURES}

signals = st.builds(
    lambda freq, amplitude, noise, seed: motor(2560, fs=FS, freq=freq, amplitude=amplitude, noise=noise, seed=seed),
    freq=st.floats(20, 100),
    amplitude=st.floats(0.5, 50),
    noise=st.floats(0.001, 2),
    seed=st.integers(0, 99),
)


def power_of_unit(name: str) -> int:
    """How a feature grows with the current: as its first or second power, or not at all."""
    return {"A": 1, "A²": 2}.get(BY_NAME[name].unit, 0)


def feature_of(name: str) -> str:
    return name if name in BY_NAME else name[:-2]


def assert_close(
    got: FeatureBlock,
    expected: FeatureBlock,
    *,
    factor: float = 1.0,
    leave_out: tuple[str, ...] = (),
    rel: float = 2e-4,
) -> None:
    """Every column of `got` is that of `expected`, times the factor to the power of its unit."""
    current = max(float(column(expected, f"peak_{phase}").max()) for phase in "abc")
    for name in COLUMNS:
        feature = feature_of(name)
        if feature in leave_out:
            continue
        want = column(expected, name) * factor ** power_of_unit(feature)
        # what may be near 0 is held to a fraction of the current or of a unit, not of itself
        slack = 2e-3 if BY_NAME[feature].unit in {"%", "°"} else 1e-6 * (factor * current) ** power_of_unit(feature)
        assert column(got, name) == pytest.approx(want, rel=rel, abs=slack, nan_ok=True), name


@settings(max_examples=25, deadline=None)
@given(phases=signals, exponent=st.integers(-20, 20))
def test_amplitudes_scale_and_ratios_stay(phases: Phases, exponent: int) -> None:
    """By powers of two, which change no bit of a mantissa: then nothing may change at all but the exponent."""
    factor = 2.0**exponent
    assert_close(extract(phases * np.float32(factor), GRID), extract(phases, GRID), factor=factor, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(phases=signals, factor=st.floats(1e-6, 1e6))
def test_any_amplitude_scales(phases: Phases, factor: float) -> None:
    block = extract((phases * factor).astype(np.float32), GRID)
    # three peaks of noise may trade places when the rounding changes
    peaks = tuple(name for name in BY_NAME if name.startswith("peak_") and name[5] in "23")
    assert_close(block, extract(phases, GRID), factor=factor, leave_out=peaks)


WITH_OFFSET = ("rms", "mean", "min", "max", "peak", "crest", "form", "impulse")


@settings(max_examples=25, deadline=None)
@given(phases=signals, offset=st.integers(-64, 64))
def test_an_offset_changes_only_what_contains_the_mean(phases: Phases, offset: int) -> None:
    coarse = np.round(phases * 2**12).astype(np.float32) / np.float32(2**12)  # so that adding the offset is exact
    moved, block = extract(coarse + np.float32(offset), GRID), extract(coarse, GRID)
    peaks = tuple(name for name in BY_NAME if name.startswith("peak_") and name[5] in "23")
    assert_close(moved, block, leave_out=(*WITH_OFFSET, *peaks))
    assert column(moved, "mean_a") == pytest.approx(column(block, "mean_a") + offset, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(deviation=st.sampled_from([0.01, 0.1]), seed=st.integers(0, 99), offset=st.sampled_from([1000.0, -1000.0]))
def test_a_small_deviation_on_a_large_offset_loses_nothing(deviation: float, seed: int, offset: float) -> None:
    """The trap of E[x²] - E[x]² in float32, which is wrong by 100 % here."""
    noise = deviation * np.random.default_rng(seed).standard_normal((3, 2560))
    phases = (offset + noise).astype(np.float32)
    exact = phases.astype(np.float64)
    block = extract(phases, GRID)
    assert column(block, "std_a")[0] == pytest.approx(exact[0].std(), rel=1e-6)
    assert column(block, "mean_a")[0] == pytest.approx(exact[0].mean(), rel=1e-12)
    centred = exact[0] - exact[0].mean()
    assert column(block, "skew_a")[0] == pytest.approx(np.mean(centred**3) / exact[0].std() ** 3, abs=1e-5)
    _, density = signal.periodogram(exact[0], FS, window="hann", detrend="constant")
    assert column(block, "total_power_a")[0] == pytest.approx(density[1:].sum(), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(phases=signals)
def test_the_power_of_all_bins_is_the_power_of_the_windowed_samples(phases: Phases) -> None:
    hann = signal.windows.hann(2560, sym=False)
    z = (phases[0].astype(np.float64) - phases[0].mean(dtype=np.float64)) * hann
    parseval = (np.sum(z**2) - np.sum(z) ** 2 / 2560) / np.sum(hann**2)
    assert column(extract(phases, GRID), "total_power_a")[0] == pytest.approx(parseval, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(phases=signals)
def test_bands_that_cover_the_spectrum_hold_all_of_its_power(phases: Phases) -> None:
    block = extract(phases, GRID, bands=((0, 100), (100, 300.5), (300.5, 700), (700, 900), (900, FS / 2)))
    total = sum(column(block, f"band_power_{i}_b") for i in range(1, 6))
    assert total == pytest.approx(column(block, "total_power_b"), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(phases=signals)
def test_turning_the_phases_round_turns_their_columns_and_leaves_the_machine(phases: Phases) -> None:
    block, turned = extract(phases, GRID), extract(phases[[1, 2, 0]], GRID)
    for feature in FEATURES:
        if feature.scope == "machine":
            assert column(turned, feature.name) == pytest.approx(
                column(block, feature.name), rel=1e-4, abs=1e-3, nan_ok=True
            )
        else:
            for here, there in zip("abc", "bca", strict=True):
                got, want = column(turned, f"{feature.name}_{here}"), column(block, f"{feature.name}_{there}")
                assert np.array_equal(got, want, equal_nan=True), feature.name


@settings(max_examples=25, deadline=None)
@given(phases=signals, share=st.floats(0.3, 1.5))
def test_swapping_two_leads_changes_nothing_of_the_machine(phases: Phases, share: float) -> None:
    """The sequence that carries more is the positive one, as the diagnosis has it."""
    phases = phases * np.array([[share], [1], [1]], np.float32)
    block, swapped = extract(phases, GRID), extract(phases[[0, 2, 1]], GRID)
    for feature in FEATURES:
        if feature.scope == "machine":
            got, want = column(swapped, feature.name), column(block, feature.name)
            assert got == pytest.approx(want, rel=1e-4, abs=1e-3, nan_ok=True), feature.name


def test_the_longest_window_of_the_laws_is_the_longest_that_settings_allow() -> None:
    limits = [part for part in FeatureSettings.model_fields["window_ms"].metadata if hasattr(part, "le")]
    assert [part.le for part in limits] == [LONGEST_MS]


@settings(max_examples=60, deadline=None)
@given(
    fs=st.sampled_from([1.0, 50.0, 100.0, 1000.0, 4096.0, 25_600.0, 48_000.0]),
    window_ms=st.one_of(st.floats(1, 3000), st.floats(3000, LONGEST_MS)),
    overlap=st.one_of(st.floats(0, 0.95), st.floats(0.95, 1, exclude_max=True)),
    freq=st.floats(1, 400),
    kind=st.sampled_from(["motor", "noise", "constant", "zero", "step", "tiny", "switched on", "sweep"]),
)
def test_any_grid_gives_finite_numbers_or_null_with_a_reason(
    fs: float, window_ms: float, overlap: float, freq: float, kind: str
) -> None:
    if round(fs * window_ms / 1000) < 2:
        window_ms = 2500 / fs
    fs = min(fs, 1000 * MOST_SAMPLES / window_ms)  # ten minutes at 48 kHz are the same code as at 500 Hz, only slower
    grid = WindowGrid.for_rate(fs, window_ms=window_ms, overlap=overlap)
    n = grid.window_length + 2 * grid.hop_length
    phases = {
        "motor": motor(n, fs=fs, freq=freq, noise=0.1),
        "noise": motor(n, fs=fs, amplitude=0, noise=1),
        "constant": np.full((3, n), 7.25, np.float32),
        "zero": np.zeros((3, n), np.float32),
        "step": np.tile(np.where(np.arange(n) < n // 2, 0, 5).astype(np.float32), (3, 1)),
        "tiny": motor(n, fs=fs, freq=freq) * np.float32(1e-35),
        "switched on": motor(n, fs=fs, freq=freq) * (np.arange(n) > n // 2).astype(np.float32),
        "sweep": np.tile(np.cos(np.pi * freq * np.arange(n) ** 2 / (n * fs)).astype(np.float32), (3, 1)),
    }[kind]
    block = extract(phases, grid)
    assert len(block.window_numbers) == 3
    assert not np.isinf(block.values).any()
    for values, reasons in zip(block.values, block.null_reasons, strict=True):
        missing = {name for name, value in zip(COLUMNS, values, strict=True) if np.isnan(value)}
        explained = {name for key in reasons or {} for name in columns_explained_by(key)}
        assert missing <= explained, sorted(missing - explained)[:5]
        for key in reasons or {}:
            assert missing & set(columns_explained_by(key)), f"{key} explains nothing"
