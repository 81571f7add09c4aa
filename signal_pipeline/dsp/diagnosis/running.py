"""When, within a recording, the motor runs: the blocks that a level may be read from, and what else they show.

Here: current or none by block, one frequency or many, starts and surges. A block without current holds noise, and
noise has any frequency and any sequence. Not here: how the blocks are made (`record`), or what is read from them.
"""

import math

import numpy as np
from numpy.typing import NDArray

ALIVE_OF_MEDIAN = 0.2
"""A block below this share of the median level holds no current of the running motor."""

ALIVE_OF_LARGEST = 0.05
"""Nor does one below this share of the largest: where the motor is off most of the time the median is noise."""

BLOCK_CYCLES = 10
"""Line cycles in a block: 0.2 s at 50 Hz. Neighbours share half."""

FREQUENCY_TOLERANCE = 0.02
"""How far the frequency between two blocks may lie from that of the recording, as a share of it: else a ramp."""

EDGE_BLOCKS = 2
"""Blocks this close to one without current hold a part of the edge."""

START_UP_RATIO = 2.0
"""A start draws several times the running current; a surge of a running motor may do so as well."""

RUNNING_BEFORE_BLOCKS = 5
"""So many blocks of running current before the largest: the motor was not started, it was overloaded."""

UNSTEADY_SPREAD = 0.2
"""How far the means of four quarters may lie apart, as a share of their mean."""


def alive_blocks(envelope: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which blocks hold current, from their levels (block,)."""
    least = max(ALIVE_OF_MEDIAN * float(np.median(envelope)), ALIVE_OF_LARGEST * float(envelope.max()))
    return np.asarray(envelope > least)


def phase_slope(phasors: NDArray[np.complex128], alive: NDArray[np.bool_]) -> tuple[float, NDArray[np.bool_]]:
    """The slope of a phase's phasors (block,), in rad per block, and the blocks that share its frequency.

    Fitted over blocks with current only, each weighted by its level up to the median: a start's current is large, and
    its phase is not that of the running motor.
    """
    together = alive[1:] & alive[:-1]
    turn = phasors[1:] * phasors[:-1].conj()
    if not together.any():
        return 0.0, alive
    coarse = float(np.angle(np.sum(turn[together])))
    off = ~together | (np.abs(np.angle(turn * np.exp(-1j * coarse))) > math.pi * BLOCK_CYCLES * FREQUENCY_TOLERANCE)
    # a block beside a gap is judged by its other neighbour
    ramping = np.concatenate([[True], off]) & np.concatenate([off, [True]])
    kept = alive & ~ramping
    at = np.flatnonzero(kept)
    if at.size < 2:
        return coarse, kept
    weight = np.minimum(np.abs(phasors[at]), np.median(np.abs(phasors[at])))
    phase = np.unwrap(np.angle(phasors[at] * np.exp(-1j * coarse * at)))
    return coarse + float(np.polyfit(at, phase, 1, w=weight)[0]), kept


def without_edges(alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`alive` less the blocks that are near one which is not."""
    padded = np.pad(alive, EDGE_BLOCKS, constant_values=True)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * EDGE_BLOCKS + 1).all(axis=1))


def starts_up(envelope: NDArray[np.float64], alive: NDArray[np.bool_]) -> str | None:
    """What says that the motor was started within the recording: a peak of current before which it did not run."""
    level, largest, before = _peak(envelope, alive)
    if largest <= START_UP_RATIO * level or before >= RUNNING_BEFORE_BLOCKS:
        return None
    return f"the current reaches {largest / level:.1f} times that at which the motor then runs"


def varies(envelope: NDArray[np.float64], alive: NDArray[np.bool_]) -> str | None:
    """What says that the current did not keep its level."""
    if not alive.all():
        return f"the motor ran {100 * float(alive.mean()):.0f} % of the time only"
    level, largest, _ = _peak(envelope, alive)
    if largest > START_UP_RATIO * level:
        return f"the current of the running motor surges to {largest / level:.1f} times its level"
    quarters = [float(part.mean()) for part in np.array_split(envelope, 4)]
    spread = (max(quarters) - min(quarters)) / (sum(quarters) / 4)
    return f"the current's level varies by {100 * spread:.0f} % between quarters" if spread > UNSTEADY_SPREAD else None


def _peak(envelope: NDArray[np.float64], alive: NDArray[np.bool_]) -> tuple[float, float, int]:
    """Level of the running motor, from the last quarter of its blocks; the largest one; calm blocks before that."""
    running = envelope[alive]
    if not running.size:
        return 1.0, 0.0, 0
    level, peak = float(np.median(running[-max(1, running.size // 4) :])), int(np.argmax(running))
    return level, float(running[peak]), int(np.count_nonzero(running[:peak] <= START_UP_RATIO * level))
