"""Known answers: levels of tones, spikes that an envelope keeps, lines that a thinned spectrum keeps."""

import numpy as np
import pytest

from signal_pipeline.pictures.thinning import FLOOR_DB, envelope, spectrum_db, strongest

FS = 5000.0


def tone(*parts: tuple[float, float], seconds: float = 4.0) -> np.ndarray:
    t = np.arange(round(seconds * FS)) / FS
    return np.asarray(sum(a * np.cos(2 * np.pi * f * t) for f, a in parts), dtype=np.float32)


def test_a_sideband_of_a_hundredth_reads_40_db_below_the_line() -> None:
    phases = np.stack([tone((50, 10), (47, 0.1)), tone((50, 5)), tone((50, 1)) + 3])
    freqs, levels = spectrum_db(phases, fs=FS)
    assert levels[:, np.argmin(np.abs(freqs - 50))] == pytest.approx([0, 0, 0], abs=0.01)
    assert levels[0, np.argmin(np.abs(freqs - 47))] == pytest.approx(-40, abs=0.1)
    assert levels[1, np.argmin(np.abs(freqs - 47))] < -90
    assert levels[2, 0] < -90, "the mean is no line"


def test_missing_samples_leave_the_line_and_a_missing_phase_lies_at_the_floor() -> None:
    phases = np.stack([tone((50, 10)), np.zeros(20_000), np.full(20_000, np.nan)]).astype(np.float32)
    phases[0, 700:720] = np.nan
    freqs, levels = spectrum_db(phases, fs=FS)
    assert freqs[levels[0].argmax()] == pytest.approx(50, abs=0.3)
    assert (levels[1:] == FLOOR_DB).all()


def test_an_envelope_keeps_every_spike_and_bridges_missing_samples() -> None:
    phases = np.zeros((3, 10_001), dtype=np.float32)
    phases[1, 7777], phases[2, 100:110] = -9, np.nan
    shape = envelope(phases, fs=FS, columns=100)
    assert shape.low.shape[1] <= 100
    assert shape.low[1].min() == -9
    assert np.isfinite(shape.high).all()


def test_a_thinned_spectrum_loses_no_line() -> None:
    freqs = np.linspace(0, 1000, 50_001)
    levels = np.full((3, freqs.size), -100.0)
    levels[2, 12_345] = -7.0
    part, shown = strongest(freqs, levels, low=0, high=1000, columns=300)
    assert shown.shape[1] <= 300
    assert shown[2].max() == -7.0
    assert part[shown[2].argmax()] == pytest.approx(freqs[12_345], abs=4)


@pytest.mark.parametrize("starts_at", [0, 7, 23], ids=lambda at: f"at {at} s")
def test_the_spectrum_of_a_motor_that_starts_on_the_way_is_that_of_the_running_motor(starts_at: int) -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, (3, round(40 * FS)))
    running = noise + tone((50, 10), seconds=40)
    begin = round(starts_at * FS)
    running[:, :begin] = noise[:, :begin]
    running[:, begin : begin + round(FS)] *= 6
    freqs, levels = spectrum_db(running.astype(np.float32), fs=FS)
    assert freqs[levels.argmax(axis=1)] == pytest.approx([50, 50, 50], abs=0.1)
    assert (levels[:, np.argmin(np.abs(freqs - 47))] < -80).all(), "nothing of the start stands in it"


def test_the_spectrum_of_a_steady_recording_is_that_of_its_first_part() -> None:
    steady = np.stack([tone((50, 10), (20 + k, 0.5), seconds=30) for k in range(3)])
    first = spectrum_db(steady[:, : round(10 * FS)], fs=FS)
    for whole, part in zip(spectrum_db(steady, fs=FS), first, strict=True):
        assert np.array_equal(whole, part)
