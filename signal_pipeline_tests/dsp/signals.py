"""Signals and calls that the dsp tests share. Not here: tests."""

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.dsp.extract import FeatureBlock, extract_features
from signal_pipeline.dsp.windows import WindowGrid

BANDS = ((0.0, 40.0), (40.0, 80.0), (80.0, 500.0), (500.0, 2000.0), (2000.0, 10000.0))

Phases = NDArray[np.float32]


def motor(
    n: int, *, fs: float, freq: float = 50.0, amplitude: float = 10.0, noise: float = 0.0, seed: int = 0
) -> Phases:
    """Balanced three-phase currents (3, n), a little fifth harmonic, and Gaussian noise of `noise` A."""
    t = np.arange(n) / fs
    shift = np.array([[0.0], [1.0], [2.0]]) / 3
    angle = 2 * np.pi * (freq * t - shift)
    clean = amplitude * (np.cos(angle + 0.3) + 0.05 * np.cos(5 * angle))
    return (clean + noise * np.random.default_rng(seed).standard_normal((3, n))).astype(np.float32)


def extract(
    phases: Phases,
    grid: WindowGrid,
    *,
    max_gap: int = 3,
    bands: tuple[tuple[float, float], ...] = BANDS,
    present: tuple[bool, bool, bool] = (True, True, True),
    workers: int = 1,
) -> FeatureBlock:
    """Every window of a whole record."""
    return extract_features(
        phases,
        grid=grid,
        start_row=0,
        windows=range(grid.n_windows(phases.shape[1])),
        present=present,
        max_gap_samples=max_gap,
        bands_hz=bands,
        workers=workers,
    )


def column(block: FeatureBlock, name: str) -> NDArray[np.float64]:
    """One column of a block."""
    return block.values[:, COLUMNS.index(name)]
