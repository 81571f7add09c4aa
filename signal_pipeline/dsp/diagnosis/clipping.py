"""Recordings that left the recorder's range: flat tops, which make harmonics and lower every level.

Here: how many samples lie in flat tops. It is asked of the samples as they were recorded: after a filter no top is flat
any more. Not here: what a diagnosis then says.
"""

import numpy as np
from numpy.typing import NDArray

CLIPPED_SHARE = 0.01
"""Samples in flat tops, as a share of all, from which on a recording counts as clipped."""

NEAR_TOP, NEAR_STEPS = 0.1, 4
"""Samples are near the top within this share of the amplitude, or within so many steps of the converter."""

PILED = 0.55
"""Share of the samples near the top that lie at the very top if it is flat; those of a sine are 0.49 at most."""


def clipped_share(phases: NDArray[np.float32]) -> float:
    """Share of samples in flat tops and bottoms, of the worst phase of `phases` (m, n); 0 if no top counts as flat.

    A flat top is three samples or more in a row that equal the largest, bit by bit. A sine whose steps are coarse has
    such rows too, but as many samples close below. NaN count for nothing.
    """
    return max((_flat(x, np.fmax.reduce(x)) + _flat(-x, -np.fmin.reduce(x)) for x in phases if x.size), default=0.0)


def _flat(x: NDArray[np.float32], top: np.float32) -> float:
    at_top = x == top
    if np.count_nonzero(at_top) < CLIPPED_SHARE / 2 * x.size:
        return 0.0
    inner = np.count_nonzero(at_top[1:-1] & at_top[:-2] & at_top[2:])
    below = x[x < top]
    if not below.size:
        return 0.0
    highest, step = float(top), float(top) - float(below.max())
    reach = max(NEAR_TOP * (highest - float(below.min())) / 2, NEAR_STEPS * step)
    near = np.count_nonzero(x >= highest - reach)
    return inner / x.size if np.count_nonzero(at_top) >= PILED * near else 0.0
