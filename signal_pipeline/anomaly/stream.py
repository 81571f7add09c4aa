"""Scoring: an equipment's state moved through windows in time order. High = anomalous.

Here: the state, its exact JSON, and `score`. Not here: fitting, thresholds' origin, which windows come next.
"""

import json
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

import numpy as np

from signal_pipeline.anomaly.arrays import F8, I8, Bools
from signal_pipeline.anomaly.reference import Reference, Scaler, Shape
from signal_pipeline.anomaly.tuning import Tuning

STATE_SCHEMA: Final = 2
WITHOUT_RETURNING: Final = 1
"""The schema before: of streams in which no feature had been counted on its way back."""
N_TOP: Final = 5
MOVED_SHARE: Final = 0.05
"""Of the features; a single one may have a sensor's reasons to move."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamState:
    """Where a stream stands. `smoothed` and `centre` (d,) in sd, `returning` (d,) in how many windows more than not a
    feature has been on its way back, `windows` learnt so far; `reference` is the digest that the numbers belong to.
    Replaced as a whole, never changed."""

    reference: str
    windows: int
    smoothed: F8
    centre: F8
    returning: I8

    def to_json(self) -> str:
        """Exact: every number as a hexadecimal float, so JSON and JSONB give the same bits back."""
        return json.dumps(
            {
                "schema": STATE_SCHEMA,
                "reference": self.reference,
                "windows": self.windows,
                "smoothed": [float(x).hex() for x in self.smoothed],
                "centre": [float(x).hex() for x in self.centre],
                "returning": self.returning.tolist(),
            }
        )

    @classmethod
    def from_json(cls, text: str | dict[str, Any]) -> "StreamState":
        """The state that `to_json` wrote, from its text or from the parsed object. `ValueError` for anything else."""
        data = json.loads(text) if isinstance(text, str) else text
        try:
            if data["schema"] not in (STATE_SCHEMA, WITHOUT_RETURNING):
                raise ValueError(f"schema {data['schema']!r}, this version reads {STATE_SCHEMA}")
            smoothed, centre = (np.array([float.fromhex(x) for x in data[k]]) for k in ("smoothed", "centre"))
            counted = [0] * len(centre) if data["schema"] == WITHOUT_RETURNING else data["returning"]
            returning = np.array([_count(x) for x in counted], dtype=np.int64)
            state = cls(str(data["reference"]), int(data["windows"]), smoothed, centre, returning)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a stream state: {error!r}; rescore the equipment to make a new one") from error
        agree = len(smoothed) == len(centre) == len(returning)
        if not agree or state.windows < 0 or not np.isfinite([smoothed, centre]).all():
            raise ValueError("not a stream state: its numbers contradict each other; rescore the equipment")
        return state


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What n windows said.

    `score` float64 (n,) = `t2` + `q`, NaN where a window had too few features (`scored` False: no row, nothing
    learnt); `is_anomaly` score at or above the threshold in force and not `warming`; `top_columns` (n, k) places in
    `features` of the largest contributions, largest first, and `top_shares` (n, k) their share of all contributions;
    `moved` (n,) how far in sd at least `MOVED_SHARE` of the centres were from the reference after the window.
    """

    score: F8
    t2: F8
    q: F8
    scored: Bools
    warming: Bools
    is_anomaly: Bools
    threshold: float
    features: tuple[str, ...]
    top_columns: I8
    top_shares: F8
    moved: F8

    def top(self, window: int) -> tuple[tuple[str, float], ...]:
        """Names and shares of the features that made the score of one window, the largest first."""
        pairs = zip(self.top_columns[window].tolist(), self.top_shares[window].tolist(), strict=True)
        return tuple((self.features[column], share) for column, share in pairs)


def start(reference: Reference) -> StreamState:
    """The state of a stream that has seen nothing."""
    return blank(reference.digest, len(reference.scaler.columns))


def blank(digest: str, d: int) -> StreamState:
    """A state of `d` features that stand at the reference, and have never been elsewhere."""
    return StreamState(digest, 0, np.zeros(d), np.zeros(d), np.zeros(d, dtype=np.int64))


def _count(x: object) -> int:
    if type(x) is not int or x < 0:
        raise ValueError(f"{x!r} is no count of windows")
    return x


def aside(state: StreamState) -> StreamState:
    """A state to score a late recording with: what the equipment settled on, and none of the newer windows' memory.

    The state that such a scoring returns is thrown away: late windows are scored, never learnt.
    """
    return replace(state, smoothed=np.zeros_like(state.smoothed))


def score(
    reference: Reference, state: StreamState, values: F8, *, threshold: float | None = None
) -> tuple[Scores, StreamState]:
    """Score `values` float64 (n, len(features)), windows in time order, NaN = NULL; and the state after them.

    A feature that is missing counts as being at its centre: it neither raises nor hides an alarm. However the windows
    are cut into calls, scores and final state have the same bytes. `threshold` overrides the calibrated one.

    Raises `ValueError` for a state of another reference, a wrong shape or a threshold that is not above 0.
    """
    if state.reference != reference.digest:
        raise ValueError(
            f"the state belongs to reference {state.reference[:12]}, not to {reference.digest[:12]}: start a new one"
        )
    limit = reference.threshold if threshold is None else threshold
    if not limit > 0:
        raise ValueError(f"{threshold=} must be above 0")
    t2, q, top_columns, top_shares, moved, after = advance(
        reference.scaler, reference.shape, reference.tuning, state, values, settled=reference.settled
    )
    total = t2 + q
    scored = np.isfinite(total)
    # the number that a window has in the stream; an unscored window does not count
    warming = state.windows + scored.cumsum() <= reference.tuning.warming
    is_anomaly = scored & ~warming & (total >= limit)
    scores = Scores(
        total, t2, q, scored, warming, is_anomaly, float(limit), reference.scaler.used, top_columns, top_shares, moved
    )
    return scores, after


def advance(
    scaler: Scaler, shape: Shape, tuning: Tuning, state: StreamState, values: F8, *, settled: int = 0
) -> tuple[F8, F8, I8, F8, F8, StreamState]:
    """T² (n,), Q (n,), places and shares (n, k) of the largest contributions, how far the centres have moved (n,), and
    the state after `values`.

    `settled` is how many windows the centre at 0 stands for: 0 lets the first windows move it at once. No threshold,
    no judgement.
    """
    from signal_pipeline.anomaly import kernel

    values = scaler.check(values)
    n, d = len(values), len(scaler.columns)
    t2, q, moved = np.empty(n), np.empty(n), np.empty(n)
    top_columns, top_shares = np.empty((n, min(N_TOP, d)), dtype=np.int64), np.empty((n, min(N_TOP, d)))
    smoothed, centre, returning = state.smoothed.copy(), state.centre.copy(), state.returning.copy()
    seen = kernel.advance(
        values,
        scaler.columns,
        scaler.centre,
        scaler.scale,
        tuning.smoothing,
        tuning.knee,
        tuning.gate * shape.spread,
        tuning.adaptation,
        tuning.reach,
        tuning.patience,
        max(1, ceil(tuning.min_present * d)),
        settled,
        shape.white,
        shape.white_t,
        shape.precision,
        shape.n_leading,
        smoothed,
        centre,
        returning,
        state.windows,
        t2,
        q,
        top_columns,
        top_shares,
        max(1, ceil(MOVED_SHARE * d)),
        moved,
    )
    after = StreamState(state.reference, int(seen), smoothed, centre, returning)
    return t2, q, top_columns, top_shares, moved, after
