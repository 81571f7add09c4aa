"""The kernel of the decimator: a long filter of which only every `factor`-th output is made.

Not here: which filter, and how a recording is cut. Imports numba, so it is imported inside the function that needs it.
"""

import numpy as np

from signal_pipeline.dsp.arrays import F4, Float4
from signal_pipeline.dsp.compiled import compiled


@compiled
def _product(x: F4, taps: F4) -> Float4:
    total = np.float32(0)
    for i in range(taps.shape[0]):
        total += x[i] * taps[i]
    return total


@compiled
def decimate(x: F4, taps: F4, factor: int, out: F4) -> None:
    """out (3, m): out[:, k] is the product of x (3, n)[:, k * factor :] with the `taps`, which are symmetric.

    Every output is made of its own samples in one order, so a recording cut anywhere gives the same bits.
    """
    for phase in range(out.shape[0]):
        for k in range(out.shape[1]):
            start = k * factor
            out[phase, k] = _product(x[phase, start : start + taps.shape[0]], taps)
