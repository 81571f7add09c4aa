"""What is left out together: whole recordings where there are several, stretches of the only one otherwise.

Not here: any feature. Windows of one recording resemble each other far more than windows of different days do, so
whoever leaves out single windows finds thresholds that the next recording breaks.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from signal_pipeline.anomaly.arrays import I8, Bools
from signal_pipeline.counted import counted

MAX_FOLDS: Final = 12
MIN_WINDOWS: Final = 60
APART: Final = MAX_FOLDS // 4
"""So many stretches on either side of one that is left out are not learnt from, where the centre is frozen."""


def split_folds(recordings: Sequence[str]) -> I8:
    """The fold, 0 and up, of every window, `recordings` naming the recording of each in time order.

    One recording gives twelve stretches of equal length; two to twelve a fold each; more are joined with their
    neighbours in time to twelve folds of about equal length. Raises `ValueError` below 60 windows, or where the
    windows of a recording are not together.
    """
    n = len(recordings)
    if n < MIN_WINDOWS:
        raise ValueError(
            f"{counted(n, 'window is', 'windows are')} too few to learn from: {MIN_WINDOWS} are needed, "
            "choose more recordings"
        )
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


def kept_from(folds: I8, fold: int, *, several: bool, frozen: bool) -> Bools:
    """The windows (n,) that a model must not have learnt from, if it is to score `fold` as what is to come.

    They are the fold and the one before it, which the stream comes from: were that part of the fit, the place where
    the stream stands would be too familiar, and the threshold too low. A frozen centre does not go along with the
    machine, which wanders: between two neighbours that it knows a stretch looks at home, and the future has none. So
    of a single recording it does not learn what lies within a quarter of its length.
    """
    if frozen and not several:
        return np.asarray(np.abs(folds - fold) <= APART)
    return np.asarray((folds == fold) | before(folds, fold))


def before(folds: I8, fold: int) -> Bools:
    """The windows (n,) of the fold that a stream comes from when it reaches `fold`; the last one, before the first."""
    return np.asarray(folds == (fold - 1) % (int(folds.max()) + 1))
