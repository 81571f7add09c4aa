"""Many days of one simulated motor in short recordings: enough to learn a reference from, and to forecast by.

Here: what the motor does at which hour, and where its fault begins. Not here: the physics (`motor`), the demo's other
motors (`fleet`).
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from signal_pipeline.synthetic.fleet import START, csv_bytes, hash_seed, write_recording
from signal_pipeline.synthetic.motor import Condition, Motor, simulate

NAME = "blower-4"
MOTOR = Motor(pole_pairs=2, rated_speed_rpm=1450, rated_current_a=8.0, rotor_bars=28)
FAULT_HOURS = 36
"""How long before the end the fault begins."""
WORST = 0.2
"""Share of a phase's turns that are shorted in the last recording."""


@dataclass(frozen=True, slots=True)
class HistoryTruth:
    """What was written: one file an hour of `equipment`, healthy before `fault_from`."""

    folder: Path
    equipment: str
    motor: Motor
    fs: float
    fault_from: datetime
    times: tuple[datetime, ...]
    conditions: tuple[Condition, ...]


def write_history(
    folder: Path, *, hours: int = 288, seconds: float = 1.0, fs: float = 1600.0, seed: int = 0
) -> HistoryTruth:
    """Write `hours` hourly recordings below `folder`, the last of them in the last hour of the fleet's day.

    The load follows the day; load, supply frequency, unbalance and distortion also wander a little from recording to
    recording, as they do at real motors. In the last 36 hours an inter-turn fault grows from nothing to 20 % of a
    phase's turns. The same arguments write the same bytes. Raises `ValueError` if no healthy hour is left.
    """
    if hours <= FAULT_HOURS:
        raise ValueError(f"{hours=} must be more than the {FAULT_HOURS} h of the fault")
    start = START + timedelta(days=1) - timedelta(hours=hours)
    times = tuple(start + timedelta(hours=k) for k in range(hours))
    rng = np.random.default_rng(hash_seed(seed, 201))
    conditions = tuple(_condition_at(at, k - (hours - FAULT_HOURS), rng) for k, at in enumerate(times))
    for k, (at, condition) in enumerate(zip(times, conditions, strict=True)):
        samples = simulate(MOTOR, condition, fs=fs, seconds=seconds, seed=hash_seed(seed, 202, k))
        write_recording(folder / NAME, at, csv_bytes(samples))
    return HistoryTruth(folder, NAME, MOTOR, fs, times[hours - FAULT_HOURS], times, conditions)


def _condition_at(at: datetime, hours_of_fault: int, rng: np.random.Generator) -> Condition:
    """Highest load in the early afternoon; a fault that grows from hour 0 of `hours_of_fault` on."""
    wander = rng.normal(size=6)
    load = 0.65 + 0.2 * math.cos(2 * math.pi * (at.hour - 14) / 24) + 0.02 * wander[0]
    return Condition(
        load=load,
        line_freq_hz=50 + 0.02 * wander[1],
        unbalance=0.01 * math.exp(0.1 * wander[2]),
        harmonics=tuple(
            (order, share * math.exp(0.1 * x))
            for (order, share), x in zip(((5, 0.02), (7, 0.012), (11, 0.005)), wander[3:], strict=True)
        ),
        noise=0.002,
        interturn=WORST * max(0, hours_of_fault) / (FAULT_HOURS - 1),
        interturn_phase=1,
    )
