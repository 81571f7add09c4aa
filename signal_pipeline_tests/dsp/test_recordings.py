"""On real motor currents the features tell what is known about the machine. Skipped where the recordings are absent."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline_tests.dsp.signals import Phases, column, extract

pytestmark = pytest.mark.shared_data

GRID = WindowGrid.for_rate(1000.0, window_ms=1000, overlap=0.5)
Vector = NDArray[np.float64]


@pytest.fixture(scope="module")
def itsc() -> Path:
    root = Path(os.environ.get("SIGNAL_PIPELINE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (root / "itsc").is_dir():
        pytest.skip(f"no motor currents below {root}: set SIGNAL_PIPELINE_SHARED_DATA to the folder that holds itsc/")
    return root / "itsc"


def load(path: Path) -> Phases:
    return np.ascontiguousarray(np.loadtxt(path, delimiter=",", dtype=np.float32).T)


def series(folder: Path, pattern: str, name: str) -> list[Vector]:
    """One feature over the windows of every file."""
    return [column(extract(load(path), GRID, max_gap=1), name) for path in sorted(folder.glob(pattern))]


def test_healthy_currents_have_nine_windows_and_the_known_rms(itsc: Path) -> None:
    for phase, rms in zip("abc", (5.4, 4.6, 5.2), strict=True):
        for values in series(itsc, "SC_HLT_*.csv", f"rms_{phase}"):
            assert values.shape == (9,)
            assert values == pytest.approx(rms, abs=0.5)


def test_the_line_frequency_is_that_of_the_network(itsc: Path) -> None:
    for values in series(itsc, "SC_HLT_*.csv", "line_freq_hz_a"):
        assert values == pytest.approx(60, abs=0.3)


def test_a_healthy_motor_has_little_negative_sequence_all_the_time(itsc: Path) -> None:
    healthy = np.concatenate(series(itsc, "SC_HLT_*.csv", "i2_i1_pct"))
    assert np.nanmax(healthy) < 10


def test_a_strong_short_circuit_in_phase_c_shows_in_the_negative_sequence(itsc: Path) -> None:
    for values in series(itsc, "SC_A0_B0_C4_*.csv", "i2_i1_pct"):
        assert 20 < np.nanmax(values) < 40
        assert np.nanmin(values) < 10, "the fault is on for part of the recording only"
