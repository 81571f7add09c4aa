"""What a window cannot support is NULL with a reason, and gaps are treated from the window's own samples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from signal_pipeline.catalogue import HARMONICS, columns_explained_by
from signal_pipeline.dsp.extract import FeatureBlock, extract_features
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline_tests.dsp.signals import BANDS, column, extract, motor

FS = 1000.0
GRID = WindowGrid(FS, 1000, 500)


def one(phases: Any, grid: WindowGrid = GRID, **options: Any) -> tuple[FeatureBlock, dict[str, str]]:
    """The block of a record of one window, and its reasons."""
    block = extract(np.asarray(phases, np.float32), grid, **options)
    assert len(block.window_numbers) == 1
    return block, block.null_reasons[0] or {}


def is_null(block: FeatureBlock, *names: str) -> bool:
    return all(np.isnan(column(block, name)).all() for name in names)


def test_a_zero_signal_has_levels_and_nothing_else() -> None:
    block, reasons = one(np.zeros((3, 1000)))
    assert column(block, "rms_a")[0] == 0
    assert column(block, "std_a")[0] == 0
    assert is_null(block, "crest_a", "skew_a", "spectral_centroid_hz_a", "line_freq_hz_a", "i2_i1_pct", "unbalance_pct")
    assert reasons["factors_a"] == reasons["spectrum_a"] == reasons["unbalance"] == "zero_signal"


def test_a_constant_signal_has_a_crest_factor_of_one_and_no_distribution() -> None:
    block, reasons = one(np.full((3, 1000), -3.7))
    assert column(block, "crest_a")[0] == pytest.approx(1)
    assert column(block, "form_a")[0] == pytest.approx(1)
    assert column(block, "mean_a")[0] == np.float32(-3.7)
    assert is_null(block, "skew_a", "kurt_a", "shape_a", "total_power_a", "park_mean")
    assert reasons["distribution_b"] == reasons["park"] == "constant_signal"


def test_a_phase_that_was_not_recorded_is_null_and_so_is_what_needs_it() -> None:
    phases = motor(1000, fs=FS)
    phases[2] = np.nan
    block, reasons = one(phases, present=(True, True, False))
    assert is_null(block, *columns_explained_by("phase_c"))
    assert is_null(block, "i2_i1_pct", "i0_i1_pct", "unbalance_pct", "park_mean", "park_2f_pct")
    assert reasons["phase_c"] == reasons["sequence"] == reasons["park_2f"] == "missing_phase"
    assert column(block, "rms_a")[0] > 5
    assert column(block, "line_freq_hz_b")[0] == pytest.approx(50, abs=1e-3)


def test_a_missing_phase_leaves_the_others_bit_for_bit() -> None:
    phases = motor(3000, fs=FS, noise=0.1)
    whole = extract(phases, GRID)
    without = extract(
        np.stack([phases[0], np.full(3000, np.nan, np.float32), phases[2]]), GRID, present=(True, False, True)
    )
    for name in (*columns_explained_by("phase_a"), *columns_explained_by("phase_c")):
        assert np.array_equal(column(without, name), column(whole, name), equal_nan=True), name


def test_harmonics_above_nyquist_are_null_and_never_a_mirror_image() -> None:
    """60 Hz at 1 kHz: harmonics 9 to 20 fold back below 500 Hz, where a careless program would read something."""
    t = np.arange(1000) / FS
    phases = motor(1000, fs=FS, freq=60) + np.float32(0.5) * np.cos(2 * np.pi * 600 * t).astype(np.float32)
    block, reasons = one(phases)
    assert not is_null(block, "harmonic_8_pct_a")
    assert is_null(block, "thd_pct_a", *(f"harmonic_{order}_pct_a" for order in range(9, 21)))
    assert reasons["harmonics_a"] == "above_nyquist: harmonics 9 to 20"


def test_bands_above_nyquist_are_null() -> None:
    block, reasons = one(motor(1000, fs=FS))
    assert not is_null(block, "band_power_3_a")
    assert is_null(block, "band_power_4_a", "band_power_5_a")
    assert reasons["band_power_4_a"].startswith("above_nyquist")


def test_a_band_narrower_than_the_resolution_and_one_not_configured_are_null() -> None:
    block, reasons = one(motor(1000, fs=FS), bands=((40, 60), (50, 52)))
    assert not is_null(block, "band_power_1_c")
    assert is_null(block, "band_power_2_c", "band_power_3_c")
    assert reasons["band_power_2_c"].startswith("insufficient_resolution")
    assert reasons["band_power_3_c"] == "not_configured"


def test_fewer_than_ten_cycles_give_a_line_frequency_and_no_harmonics() -> None:
    grid = WindowGrid(25_600.0, 2560, 1280)
    block, reasons = one(motor(2560, fs=25_600, freq=60), grid)
    assert column(block, "line_freq_hz_a")[0] == pytest.approx(60, abs=0.2)
    assert is_null(block, "thd_pct_a", *(f"harmonic_{order}_pct_a" for order in HARMONICS))
    assert reasons["harmonics_a"].startswith("insufficient_resolution")


def test_fewer_than_four_cycles_give_no_line_frequency() -> None:
    grid = WindowGrid(25_600.0, 1024, 512)
    block, reasons = one(motor(1024, fs=25_600, freq=50), grid)
    assert is_null(block, "line_freq_hz_a", "seq_pos_amplitude", "park_2f_pct")
    assert reasons["fundamental_a"].startswith("insufficient_resolution")
    assert reasons["sequence"].startswith("insufficient_resolution")


def test_noise_has_no_fundamental() -> None:
    block, reasons = one(motor(1000, fs=FS, amplitude=0, noise=1))
    assert is_null(block, "line_freq_hz_a", "thd_pct_b", "i2_i1_pct")
    assert reasons["fundamental_a"] == reasons["sequence"] == "no_fundamental"


def test_a_drift_that_outweighs_the_line_is_named() -> None:
    t = np.arange(1000) / FS
    block, reasons = one(motor(1000, fs=FS) + np.float32(400) * t.astype(np.float32))
    assert is_null(block, "line_freq_hz_a", "i2_i1_pct")
    assert "drift" in reasons["fundamental_a"]
    assert "drift" in reasons["sequence"]


def test_integrated_noise_has_no_line_frequency() -> None:
    """A random walk has a strongest bin, and it is not that of a tone."""
    grid = WindowGrid(FS, 1000, 500)
    walk = np.cumsum(np.random.default_rng(3).standard_normal((3, 100_000)), axis=1)
    block = extract(walk.astype(np.float32), grid)
    for phase in "abc":
        assert is_null(block, f"line_freq_hz_{phase}", f"fundamental_amplitude_{phase}")


def test_a_tone_above_every_line_frequency_is_no_fundamental() -> None:
    grid = WindowGrid(25_600.0, 25_600, 12_800)
    block, reasons = one(motor(25_600, fs=25_600, freq=3000), grid)
    assert is_null(block, "line_freq_hz_a")
    assert reasons["fundamental_a"] == "no_fundamental"
    assert column(block, "peak_1_freq_hz_a")[0] == pytest.approx(3000, abs=1e-2)


def test_a_clean_tone_has_one_peak_and_the_others_are_null() -> None:
    t = np.arange(1000) / FS
    block, reasons = one(np.tile(np.cos(2 * np.pi * 50.3 * t), (3, 1)))
    assert not is_null(block, "peak_1_freq_hz_a")
    assert is_null(block, "peak_2_freq_hz_a", "peak_3_amplitude_a")
    assert reasons["peaks_a"] == "no_peak: 1 found"


def test_three_equal_phases_have_no_positive_sequence_to_compare_with() -> None:
    t = np.arange(1000) / FS
    block, reasons = one(np.tile(np.cos(2 * np.pi * 50 * t), (3, 1)))
    assert column(block, "seq_zero_amplitude")[0] == pytest.approx(1, abs=1e-4)
    assert is_null(block, "i2_i1_pct", "i0_i1_pct")
    assert reasons["i2_i1_pct"] == "no_positive_sequence"


def test_a_good_window_has_no_reasons_at_all() -> None:
    grid = WindowGrid(25_600.0, 25_600, 12_800)
    block = extract(motor(51_200, fs=25_600, noise=0.5), grid)
    assert block.null_reasons == (None, None, None)
    assert np.isfinite(block.values).all()


@pytest.mark.parametrize("where", [0, 499, 997])
def test_a_short_gap_is_interpolated_wherever_it_lies(where: int) -> None:
    phases = motor(1000, fs=FS, freq=5)
    holed = phases.copy()
    holed[0, where : where + 3] = np.nan
    block, _ = one(holed)
    filled = phases.copy()
    if where == 0:
        filled[0, :3] = filled[0, 3]
    elif where == 997:
        filled[0, 997:] = filled[0, 996]
    else:
        filled[0, 499:502] = np.interp([499, 500, 501], [498, 502], filled[0, [498, 502]])
    expected, _ = one(filled)
    assert block.values == pytest.approx(expected.values, rel=1e-5, abs=1e-5, nan_ok=True)


def test_a_longer_gap_skips_exactly_the_windows_that_hold_it() -> None:
    phases = motor(5000, fs=FS)
    phases[1, 1700:1704] = np.nan
    block = extract(phases, GRID, max_gap=3)
    assert block.skipped == {2: "gap_too_long", 3: "gap_too_long"}
    assert block.window_numbers.tolist() == [0, 1, 4, 5, 6, 7, 8]
    assert block.start_rows.tolist() == [0, 500, 2000, 2500, 3000, 3500, 4000]


def test_what_a_window_sees_of_a_longer_gap_is_what_counts() -> None:
    """Three of six missing samples lie in window 0: it judges by its own samples, or a split file would differ."""
    phases = motor(2000, fs=FS)
    phases[1, 997:1003] = np.nan
    block = extract(phases, WindowGrid(FS, 1000, 1000), max_gap=3)
    assert block.skipped == {}
    assert block.window_numbers.tolist() == [0, 1]


def test_too_many_short_gaps_skip_the_window() -> None:
    phases = motor(1500, fs=FS)
    phases[0, 0:500:9] = np.nan  # 56 of the first 1000 samples
    block = extract(phases, GRID)
    assert block.skipped == {0: "too_much_filled"}
    assert block.window_numbers.tolist() == [1]


def test_without_interpolation_one_missing_sample_skips() -> None:
    phases = motor(1000, fs=FS)
    phases[2, 500] = np.nan
    assert extract(phases, GRID, max_gap=0).skipped == {0: "gap_too_long"}


def test_an_empty_window_is_skipped_however_long_a_gap_may_be() -> None:
    phases = motor(1000, fs=FS)
    phases[2] = np.nan
    assert extract(phases, GRID, max_gap=5000).skipped == {0: "too_much_filled"}


Change = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(phases=np.zeros((2, 1000), np.float32)), "float32"),
        (lambda a: a.update(phases=np.zeros((3, 1000))), "float64"),
        (lambda a: a.update(windows=range(2)), "cover rows 0 to 1500"),
        (lambda a: a.update(start_row=1), "cover rows 0 to 1000"),
        (lambda a: a.update(windows=range(0, 2, 2)), "consecutive"),
        (lambda a: a.update(max_gap_samples=-1), "below 0"),
        (lambda a: a.update(bands_hz=((1.0, 2.0),) * 6), "6 bands"),
        (lambda a: a.update(bands_hz=((5.0, 2.0),)), "5.0-2.0"),
    ],
)
def test_arguments_that_cannot_be_are_named(change: Change, message: str) -> None:
    arguments: dict[str, Any] = {
        "phases": motor(1000, fs=FS), "grid": GRID, "start_row": 0, "windows": range(1),
        "max_gap_samples": 1, "bands_hz": BANDS,
    }  # fmt: skip
    change(arguments)
    with pytest.raises(ValueError, match=message):
        extract_features(arguments.pop("phases"), **arguments)
