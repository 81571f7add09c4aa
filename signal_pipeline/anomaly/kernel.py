"""The two loops that have an order, compiled, and the steps of the second. Not here: checks, names, dataclasses.

Compiled without fastmath: every sum has one order, so a batch gives the bytes that its windows give one by one.
numba costs half a second, so this module is imported inside the functions that need it. The cache on disk notices
changes of this file only, and so the loops call nothing from another file. The steps are functions because people
read them; the compiler puts them back into the loop.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from signal_pipeline.anomaly.arrays import F8, I8

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
            # without memory nothing of the window before may stay, not even in the last bit
            smoothed[j] = x if smoothing == 1.0 else smoothed[j] + smoothing * (x - smoothed[j])
            out[t, j] = smoothed[j]
    return out


@_compiled
def _deviate(window: F8, columns: I8, median: F8, scale: F8, z: F8) -> int:
    """Fill `z` (d,) with the deviations of one window in sd, NaN where nothing finite is; how many are finite."""
    present = 0
    for j in range(len(columns)):
        x = (window[columns[j]] - median[j]) / scale[j]
        if np.isfinite(x):
            z[j] = x
            present += 1
        else:
            z[j] = np.nan
    return present


@_compiled
def _smooth(z: F8, centre: F8, smoothing: float, knee: float, smoothed: F8) -> None:
    """Move `smoothed` by one window's deviations from `centre`; one that is missing counts as none."""
    for j in range(len(z)):
        x = 0.0
        if not np.isnan(z[j]):
            x = knee * math.asinh((z[j] - centre[j]) / knee)
        # without memory nothing of the window before may stay, not even in the last bit
        smoothed[j] = x if smoothing == 1.0 else smoothed[j] + smoothing * (x - smoothed[j])


@_compiled
def _distances(smoothed: F8, white: F8, n_leading: int, y: F8) -> tuple[float, float]:
    """Fill `y` (d,) with Wᵀ·s; the squared lengths of its leading part and of the rest."""
    d = len(y)
    y[:] = 0.0
    for j in range(d):
        s = smoothed[j]
        for k in range(d):
            y[k] += s * white[j, k]
    lead = 0.0
    rest = 0.0
    for k in range(d):
        if k < n_leading:
            lead += y[k] * y[k]
        else:
            rest += y[k] * y[k]
    return lead, rest


@_compiled
def _explain(y: F8, white_t: F8, precision: F8, v: F8, columns: I8, shares: F8) -> None:  # noqa: PLR0917
    """Fill `columns` and `shares` (k,) with the largest of (P·s)_j² / P_jj, `v` (d,) being scratch.

    P = W·Wᵀ: reconstruction-based contributions, Alcala and Qin 2009. Equal ones stand in the features' order.
    """
    d, n_top = len(y), len(columns)
    v[:] = 0.0
    for k in range(d):
        for j in range(d):
            v[j] += y[k] * white_t[k, j]
    total = 0.0
    shares[:] = -1.0
    for j in range(d):
        x = v[j] * v[j] / precision[j]
        total += x
        place = n_top
        while place > 0 and x > shares[place - 1]:
            place -= 1
        for i in range(n_top - 1, place, -1):
            columns[i] = columns[i - 1]
            shares[i] = shares[i - 1]
        if place < n_top:
            columns[place] = j
            shares[place] = x
    for i in range(n_top):
        shares[i] = shares[i] / total if total > 0.0 else 0.0


@_compiled
def _is_back(smoothed: float, centre: float, gate: float, knee: float) -> bool:
    """Whether a feature lies between the reference and its centre, give or take the gate."""
    return smoothed * centre < 0.0 and abs(smoothed) - knee * math.asinh(abs(centre) / knee) < gate


@_compiled
def _follow(  # noqa: PLR0917
    z: F8, smoothed: F8, gate: F8, rate: float, reach: float, knee: float, patience: int, centre: F8, returning: I8
) -> None:
    """Move `centre` (d,) towards what is present and below `gate`, never beyond `reach`; and towards the reference,
    never across it, where a feature has been on its way back for `patience` windows more than not (`returning`)."""
    for j in range(len(z)):
        if np.isnan(z[j]):
            continue
        step = rate * smoothed[j]
        is_near = abs(smoothed[j]) < gate[j]
        if is_near:
            centre[j] = min(max(centre[j] + step, -reach), reach)
        if not is_near and patience > 0 and _is_back(smoothed[j], centre[j], gate[j], knee):
            returning[j] = min(returning[j] + 1, patience)
            if returning[j] == patience:
                centre[j] = math.copysign(max(abs(centre[j]) - abs(step), 0.0), centre[j])
        elif returning[j] > 0:
            returning[j] -= 1


@_compiled
def _moved(centre: F8, furthest: F8) -> float:
    """How far at least so many of `centre` (d,) are from 0 as `furthest` (k,), scratch, has places."""
    k = len(furthest)
    furthest[:] = 0.0
    for j in range(len(centre)):
        x = abs(centre[j])
        place = k
        while place > 0 and x > furthest[place - 1]:
            place -= 1
        for i in range(k - 1, place, -1):
            furthest[i] = furthest[i - 1]
        if place < k:
            furthest[place] = x
    return float(furthest[k - 1])


def advance_loop(  # noqa: PLR0917
    values: F8,
    columns: I8,
    median: F8,
    scale: F8,
    smoothing: float,
    knee: float,
    gate: F8,
    adaptation: float,
    reach: float,
    patience: int,
    needed: int,
    settled: int,
    white: F8,
    white_t: F8,
    precision: F8,
    n_leading: int,
    smoothed: F8,
    centre: F8,
    returning: I8,
    seen: int,
    t2: F8,
    q: F8,
    top_columns: I8,
    top_shares: F8,
    n_moved: int,
    moved: F8,
) -> int:
    """Move `smoothed`, `centre` and `returning` (d,), changed in place, through the windows `values` (n, features).

    `columns`, `median`, `scale` (d,) say what takes part. Fills `t2`, `q` (n,) with |W_lead·s|² and |W_rest·s|²,
    `white` (d, d) holding W's directions as columns and `white_t` the same transposed; and `top_columns`, `top_shares`
    (n, k) with the largest contributions, `precision` being the diagonal of W·Wᵀ. A window with fewer than `needed`
    features present changes nothing and gives NaN. `gate` (d,) is in sd. `moved` (n,) becomes how far, in sd, at least
    `n_moved` of the centres are from the reference after each window. Returns `seen` plus the windows learnt.
    """
    d = len(columns)
    z, y, v, furthest = np.empty(d), np.empty(d), np.empty(d), np.empty(n_moved)
    for t in range(len(values)):
        if _deviate(values[t], columns, median, scale, z) < needed:
            t2[t], q[t], moved[t], top_shares[t] = np.nan, np.nan, np.nan, 0.0
            top_columns[t] = np.arange(top_columns.shape[1])
            continue
        _smooth(z, centre, smoothing, knee, smoothed)
        t2[t], q[t] = _distances(smoothed, white, n_leading, y)
        _explain(y, white_t, precision, v, top_columns[t], top_shares[t])
        seen += 1
        if adaptation > 0.0:
            # the mean of all that was seen, the windows behind the reference included where they show other days
            rate = max(adaptation, 1.0 / (settled + seen))
            _follow(z, smoothed, gate, rate, reach, knee, patience, centre, returning)
        moved[t] = _moved(centre, furthest) if adaptation > 0.0 else 0.0
    return seen


smooth = _compiled(smooth_loop)
advance = _compiled(advance_loop)
