"""Pays the kernels' compilation before the first signal does. Not here: kernels."""

import numpy as np

from signal_pipeline.dsp.diagnosis import Decimator
from signal_pipeline.dsp.extract import extract_features
from signal_pipeline.dsp.windows import WindowGrid


def warm_up() -> None:
    """Compile every kernel, or load it from the cache on disk: seconds the first time, a moment afterwards."""
    grid = WindowGrid(fs=1000.0, window_length=256, hop_length=128)
    t = np.arange(512) / grid.fs
    turns = np.array([[0.0], [-1.0], [1.0]]) / 3
    phases = np.sin(2 * np.pi * (50 * t + turns)).astype(np.float32)
    phases[0, 100] = np.nan  # the path of a gap is compiled too
    extract_features(phases, grid=grid, start_row=0, windows=range(3), max_gap_samples=1, bands_hz=((0.0, 100.0),))
    Decimator(10_000.0).push(phases)
