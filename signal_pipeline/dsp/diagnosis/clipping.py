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
    such rows too, but as many samples close below. What is not finite counts for nothing.
    """
    return max((_flat_ends(x) for x in phases if x.size), default=0.0)


def _flat_ends(x: NDArray[np.float32]) -> float:
    lowest, highest = x.min(), x.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        finite = x[np.isfinite(x)]
        return _flat_ends(finite) if finite.size else 0.0
    return _flat(x, highest, lowest) + _flat(x, lowest, highest) if lowest < highest else 0.0


def _flat(x: NDArray[np.float32], end: np.float32, other: np.float32) -> float:
    """Share of samples that lie in flat pieces at `end`, the largest or the smallest."""
    at_end = x == end
    n_at_end = np.count_nonzero(at_end)
    if n_at_end < CLIPPED_SHARE / 2 * x.size:
        return 0.0
    depth = np.abs(x - end)
    reach = max(NEAR_TOP * abs(float(end) - float(other)) / 2, NEAR_STEPS * float(depth[~at_end].min()))
    inner = np.count_nonzero(at_end[1:-1] & at_end[:-2] & at_end[2:])
    return inner / x.size if n_at_end >= PILED * np.count_nonzero(depth <= reach) else 0.0
