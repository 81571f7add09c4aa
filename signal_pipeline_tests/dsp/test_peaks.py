"""The free peaks of a spectrum are tones, and not the skirts of stronger ones. Not here: their NULL (`test_null`)."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from signal_pipeline.dsp.extract import FeatureBlock
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline_tests.dsp.signals import column, extract

FS = 25_600
GRID = WindowGrid(float(FS), FS, FS)
T = np.arange(FS, dtype=np.float64) / FS


def of(*tones: tuple[float, float, float]) -> FeatureBlock:
    """Features of one window of tones of (Hz, A, rad)."""
    x = sum(amplitude * np.cos(2 * np.pi * freq * T + phase) for freq, amplitude, phase in tones)
    return extract(np.tile(np.asarray(x, np.float32), (3, 1)), GRID)


def peak(block: FeatureBlock, rank: int) -> tuple[float, float]:
    """Frequency and amplitude."""
    return (
        float(column(block, f"peak_{rank}_freq_hz_a")[0]),
        float(column(block, f"peak_{rank}_amplitude_a")[0]),
    )


@pytest.mark.parametrize("phase", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
@pytest.mark.parametrize(("freq", "amplitude"), [(55.1, 0.05), (58.2, 0.02), (44.3, 0.05), (54.5, 0.2)])
def test_a_weak_tone_beside_a_strong_one_reads_its_own_amplitude(freq: float, amplitude: float, phase: float) -> None:
    """Half a bin off, the skirt of 10 A is 0.03 A four bins away: with it 0.05 A at 55.1 Hz read 0.092 at 54.61."""
    block = of((50.5, 10, 0.3), (freq, amplitude, phase))
    assert peak(block, 1) == pytest.approx((50.5, 10), rel=1e-3)
    got = peak(block, 2)
    if np.isfinite(got[0]):  # a skirt of the other sign may hide it: then there is no number
        assert got[0] == pytest.approx(freq, abs=0.05)
        assert got[1] == pytest.approx(amplitude, rel=0.05)


def test_most_weak_tones_beside_a_strong_one_are_seen() -> None:
    seen = [np.isfinite(peak(of((50.5, 10, 0.3), (55.1, 0.05, phase)), 2)[0]) for phase in np.arange(0, 6, 0.5)]
    assert np.mean(seen) > 0.5


@settings(max_examples=60, deadline=None)
@given(
    strong=st.floats(45, 65),
    distance=st.floats(6, 40),
    share=st.floats(0.003, 0.5),
    angles=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
)
def test_two_tones_are_two_peaks_and_no_third(
    strong: float, distance: float, share: float, angles: tuple[float, float]
) -> None:
    skirt = 1 / (np.pi * distance * (distance**2 - 1))  # of the stronger one, half a bin off, as a share of it
    assume(share > 5 * skirt)  # a weaker tone may be hidden, if the skirt has the other sign
    block = of((strong, 10, angles[0]), (strong + distance, 10 * share, angles[1]))
    assert peak(block, 1) == pytest.approx((strong, 10), rel=2e-3)
    assert peak(block, 2) == pytest.approx((strong + distance, 10 * share), rel=1e-2)
    third = peak(block, 3)[1]
    assert np.isnan(third) or third < 0.002 * 10 * share


def test_the_peaks_stand_in_the_order_of_their_amplitudes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        tones = [(f, float(a), 1.0) for f, a in zip((50.5, 56.2, 300.7, 311.1), rng.uniform(0.05, 10, 4), strict=True)]
        sizes = [peak(of(*tones), rank)[1] for rank in (1, 2, 3)]
        assert sizes == sorted(sizes, reverse=True)
