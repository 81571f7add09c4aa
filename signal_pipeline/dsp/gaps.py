"""Runs of missing samples: where they are, and how long one may be. Not here: filling them (`waveform`)."""

import math

import numpy as np

from signal_pipeline.dsp.arrays import F4, I8


def max_gap_samples(fs: float, max_gap_ms: float) -> int:
    """The longest run that is interpolated at `fs` Hz, in samples: at least one, unless `max_gap_ms` is 0."""
    return max(1, math.floor(fs * max_gap_ms / 1000)) if max_gap_ms > 0 else 0


def gap_lengths(samples: F4) -> I8:
    """Lengths of the runs of NaN in `samples` (n,), in order."""
    missing = np.concatenate(([False], np.isnan(samples), [False]))
    edges = np.flatnonzero(missing[1:] != missing[:-1])
    return (edges[1::2] - edges[::2]).astype(np.int64)
