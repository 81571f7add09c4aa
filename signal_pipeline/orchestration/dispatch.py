"""What a tick of the sensor decides, as pure functions: no Dagster call, no database.

A claim without a run is one whose tick died between claim and run request: it is asked for again, under the same run
key. A claim whose run waits in the queue is kept alive by the sensor. A claim whose run a person cancelled is failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from math import ceil
from uuid import UUID

from signal_pipeline.db.claims import Claim, OwnClaim

SAMPLES_A_RUN = 200_000_000
"""Of a phase: about half a minute of one core (650 recordings of 10 s at 25.6 kHz, 0.05 s each)."""

SAMPLES_WORTH_A_RUN = SAMPLES_A_RUN // 5
"""Less than this is not shared between runs: each takes seconds of a core before its first signal."""

SIGNAL_IN_SAMPLES = 50_000
"""What a signal costs besides its samples (its rows, its transactions), measured in samples."""


class RunStage(StrEnum):
    """How far the runs of a claim have come: the least advanced one that is not over."""

    WAITING = "waiting"
    RUNNING = "running"
    CANCELLED = "cancelled"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with the instance's own claims, and how many new batches there is room for."""

    ask_again: tuple[Claim, ...]
    keep_alive: tuple[UUID, ...]
    cancel: tuple[UUID, ...]
    new_batches: int


def plan(own: Sequence[OwnClaim], runs: Mapping[UUID, RunStage], *, max_runs: int) -> Plan:
    """Sort the instance's claims by what their runs are at.

    `runs` maps tokens to the stage of their runs; a token without an entry has no run. New batches are claimed only
    while those not yet running are fewer than the slots, so that leases do not run out in a queue. A waiting claim is
    renewed only when its lease is due: each renewal rewrites the rows of all its signals.
    """
    ask_again = tuple(c.claim for c in own if c.is_live and c.claim.token not in runs)
    waiting = [c for c in own if runs.get(c.claim.token) is RunStage.WAITING]
    due = tuple(c.claim.token for c in waiting if c.is_due)
    cancelled = tuple(c.claim.token for c in own if runs.get(c.claim.token) is RunStage.CANCELLED)
    room = max_runs - len(ask_again) - len(waiting)
    return Plan(ask_again, due, cancelled, max(0, room))


def signals_a_run(samples: Sequence[int], *, runs: int, at_most: int) -> int:
    """How many signals to claim for the next of `runs` runs, so that short recordings make runs as long as long ones.

    `samples` are the samples per phase of the signals that wait, in the order of the claim. They are shared evenly
    between the runs, and as many more as it takes to have none too long: no short run is left for the end. 1 to
    `at_most`, which ends runs of recordings below some 6 s before their time: a claim is one bulk write, and those
    have a thousand rows at most.
    """
    costs = [count + SIGNAL_IN_SAMPLES for count in samples]
    runs = max(runs, ceil(sum(costs) / SAMPLES_A_RUN))
    budget = min(SAMPLES_A_RUN, max(SAMPLES_WORTH_A_RUN, ceil(sum(costs) / runs)))
    fitting = sum(total <= budget for total in accumulate(costs))
    return max(1, min(fitting, at_most))
