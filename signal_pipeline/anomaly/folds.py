"""What is left out together: whole recordings where there are several, stretches of the only one otherwise.

Not here: any feature. Windows of one recording resemble each other far more than windows of different days do, so
whoever leaves out single windows finds thresholds that the next recording breaks.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from signal_pipeline.anomaly.arrays import I8

MAX_FOLDS: Final = 12
MIN_WINDOWS: Final = 60


def split_folds(recordings: Sequence[str]) -> I8:
    """The fold, 0 and up, of every window, `recordings` naming the recording of each in time order.

    One recording gives twelve stretches of equal length; two to twelve a fold each; more are joined with their
    neighbours in time to twelve folds of about equal length. Raises `ValueError` below 60 windows, or where the
    windows of a recording are not together.
    """
    n = len(recordings)
    if n < MIN_WINDOWS:
        raise ValueError(f"{n} windows are too few to learn from: {MIN_WINDOWS} are needed, choose more recordings")
    names = list(dict.fromkeys(recordings))
    if len(names) == 1:
        return np.arange(n, dtype=np.int64) * MAX_FOLDS // n
    place = {name: i for i, name in enumerate(names)}
    number = np.array([place[name] for name in recordings], dtype=np.int64)
    if (np.diff(number) < 0).any():
        raise ValueError("the windows of a recording must stand together, in time order")
    if len(names) <= MAX_FOLDS:
        return number
    # a recording belongs to the fold in which its middle lies
    sizes = np.bincount(number)
    middles = np.cumsum(sizes) - sizes / 2
    folds = np.minimum((middles / n * MAX_FOLDS).astype(np.int64), MAX_FOLDS - 1)
    _, dense = np.unique(folds, return_inverse=True)
    return dense.astype(np.int64)[number]
