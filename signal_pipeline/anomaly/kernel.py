"""The two loops that have an order, compiled. Not here: checks, names, dataclasses.

Compiled without fastmath: every sum has one order, so a batch gives the bytes that its windows give one by one.
numba costs half a second, so this module is imported inside the functions that need it. The cache on disk notices
changes of this file only, and so the loops call nothing from another file.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from signal_pipeline.anomaly.arrays import F8

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def smooth_loop(z: F8, smoothing: float, knee: float) -> F8:
    """EWMA, from 0, of knee·asinh(z / knee). `z` (n, d) in sd, NaN counts as 0. Returns (n, d)."""
    n, d = z.shape
    out = np.empty((n, d))
    smoothed = np.zeros(d)
    for t in range(n):
        for j in range(d):
            x = 0.0
            if not np.isnan(z[t, j]):
                x = knee * math.asinh(z[t, j] / knee)
            smoothed[j] += smoothing * (x - smoothed[j])
            out[t, j] = smoothed[j]
    return out


def advance_loop(  # noqa: C901, PLR0912, PLR0917 - one flat loop: numba inlines nothing of it, and positional calls cost least
    z: F8,
    smoothing: float,
    knee: float,
    gate: F8,
    adaptation: float,
    reach: float,
    needed: int,
    white: F8,
    white_t: F8,
    precision: F8,
    n_leading: int,
    smoothed: F8,
    centre: F8,
    seen: int,
    t2: F8,
    q: F8,
    contributions: F8,
) -> int:
    """Move `smoothed` and `centre` (d,), both changed in place, through the windows `z` (n, d) in sd, NaN = missing.

    Fills `t2`, `q` (n,) with |W_lead·s|² and |W_rest·s|², `white` (d, d) holding W's directions as columns and
    `white_t` the same transposed; and `contributions` (n, d) with (P·s)_j² / P_jj, P = W·Wᵀ, `precision` its diagonal
    (reconstruction-based contributions, Alcala and Qin 2009). A window with fewer than `needed` features present
    changes nothing and gives NaN. `gate` (d,) is in sd. Returns `seen` plus the windows that were learnt.
    """
    n, d = z.shape
    y = np.empty(d)
    v = np.empty(d)
    for t in range(n):
        present = 0
        for j in range(d):
            present += not np.isnan(z[t, j])
        if present < needed:
            t2[t] = np.nan
            q[t] = np.nan
            contributions[t] = np.nan
            continue
        y[:] = 0.0
        for j in range(d):
            x = 0.0
            if not np.isnan(z[t, j]):
                x = knee * math.asinh((z[t, j] - centre[j]) / knee)
            smoothed[j] += smoothing * (x - smoothed[j])
            s = smoothed[j]
            for k in range(d):
                y[k] += s * white[j, k]
        lead = 0.0
        rest = 0.0
        v[:] = 0.0
        for k in range(d):
            if k < n_leading:
                lead += y[k] * y[k]
            else:
                rest += y[k] * y[k]
            for j in range(d):
                v[j] += y[k] * white_t[k, j]
        t2[t] = lead
        q[t] = rest
        for j in range(d):
            contributions[t, j] = v[j] * v[j] / precision[j]
        seen += 1
        if adaptation > 0.0:
            # at first the mean of what was seen: a new state settles on the machine's present operating point
            rate = max(adaptation, 1.0 / seen)
            for j in range(d):
                if not np.isnan(z[t, j]) and abs(smoothed[j]) < gate[j]:
                    centre[j] = min(max(centre[j] + rate * smoothed[j], -reach), reach)
    return seen


smooth = _compiled(smooth_loop)
advance = _compiled(advance_loop)
