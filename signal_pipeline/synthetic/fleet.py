"""Folders of simulated recordings: the demo's small fleet, and many cheap ones for load tests.

Here: which motor does what at which hour, file names, CSV text. Not here: the physics (`motor`), nor reading files.
A recording is `<equipment>/<time>.csv` with header current_R,current_S,current_T; the time is in the file's name as
ISO 8601 with '-' for ':', which every file system accepts.
"""

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import SEEK_END, BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.synthetic.motor import Condition, Motor, simulate

HEADER = ("current_R", "current_S", "current_T")
START = datetime(2025, 8, 25, tzinfo=UTC)
FLEET = (
    ("pump-1", Motor(pole_pairs=2, rated_speed_rpm=1455, rated_current_a=10.0, rotor_bars=28)),
    ("fan-2", Motor(pole_pairs=2, rated_speed_rpm=1440, rated_current_a=6.5, rotor_bars=28)),
    ("compressor-3", Motor(pole_pairs=3, rated_speed_rpm=965, rated_current_a=22.0, rotor_bars=44)),
)
"""Names and nameplates, repeated with rising numbers when more motors are asked for."""


@dataclass(frozen=True)
class FleetRecording:
    """One file and what is true about it."""

    path: Path
    equipment: str
    recorded_at: datetime
    condition: Condition
    n_samples: int
    failure: str | None = None
    """The reason with which the pipeline must fail it (`csv_error`, `insufficient_data`); None: it completes."""


@dataclass(frozen=True)
class FleetTruth:
    """Everything that was written: the motors by equipment name, and the recordings in the order of their files."""

    fs: float
    motors: dict[str, Motor]
    recordings: tuple[FleetRecording, ...]
    developing: str
    """The equipment whose inter-turn fault grows over the day."""


def write_fleet(
    folder: Path,
    *,
    motors: int = 3,
    hours: int = 24,
    recordings: int = 10,
    seconds: float = 10.0,
    fs: float = 6400.0,
    seed: int = 0,
    start: datetime = START,
) -> FleetTruth:
    """Write a day of a small fleet below `folder`, and say what is true about it.

    Each motor gets `recordings` files of `seconds` at `fs` Hz, spread evenly over `hours` from `start`; its load
    follows the day. The second motor (or the only one) develops an inter-turn fault, the third has a cracked rotor
    bar all day. Two more files fail: one with text in cells, one shorter than half a second. The same arguments
    write the same bytes. Raises `ValueError` when there is nothing to write, `OSError` when it cannot be written.
    """
    if motors < 1 or recordings < 1 or hours <= 0:
        raise ValueError(f"{motors=}, {recordings=} and {hours=} must all be at least 1")
    fleet = {_name(i): FLEET[i % len(FLEET)][1] for i in range(motors)}
    names = tuple(fleet)
    developing = names[min(1, motors - 1)]
    written = []
    for i, (name, motor) in enumerate(fleet.items()):
        for k in range(recordings):
            at = start + timedelta(hours=hours) * k / recordings
            condition = _condition_at(i, at, progress=k / max(1, recordings - 1), faulty=name == developing)
            samples = simulate(motor, condition, fs=fs, seconds=seconds, seed=hash_seed(seed, i, k))
            path = write_recording(folder / name, at, csv_bytes(samples))
            written.append(FleetRecording(path, name, at, condition, samples.shape[1]))
    written += _failing(folder, names, fleet, fs=fs, seconds=seconds, seed=seed, at=start + timedelta(hours=hours))
    return FleetTruth(fs=fs, motors=fleet, recordings=tuple(written), developing=developing)


def write_many_signals(
    folder: Path, count: int, *, seconds: float = 1.5, fs: float = 1000.0, motors: int = 10, seed: int = 0
) -> tuple[Path, ...]:
    """Write `count` short recordings with different content, a minute apart, spread over `motors` equipments.

    For load tests: cheap to write, and cheap to process. All are valid as long as `seconds` holds a window.
    """
    # one simulation, then per file another gain and another rotation of it: distinct, and 100 times cheaper
    base = simulate(Motor(), Condition(), fs=fs, seconds=seconds, seed=seed)
    rng = np.random.default_rng(seed)
    paths = []
    for k in range(count):
        gain, shift = rng.uniform(0.5, 1.5), int(rng.integers(base.shape[1]))
        samples = np.roll(base, shift, axis=1) * np.float32(gain)
        at = START + timedelta(minutes=k)
        paths.append(write_recording(folder / f"motor-{k % motors:03d}", at, csv_bytes(samples)))
    return tuple(paths)


def csv_bytes(samples: NDArray[np.float32]) -> bytes:
    """The CSV text of (3, n) currents in amperes, to the milliampere as a recorder would write it."""
    import pyarrow as pa
    from pyarrow import csv

    columns = np.round(samples, 3)
    table = pa.table(dict(zip(HEADER, columns, strict=True)))
    buffer = BytesIO(",".join(HEADER).encode() + b"\n")
    buffer.seek(0, SEEK_END)
    csv.write_csv(table, buffer, csv.WriteOptions(include_header=False))  # pyarrow would quote the names
    return buffer.getvalue()


def hash_seed(*parts: int) -> int:
    """One seed out of several numbers, so that no two recordings share their noise."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _name(i: int) -> str:
    kind = FLEET[i % len(FLEET)][0].partition("-")[0]
    return f"{kind}-{i + 1}"


def _condition_at(i: int, at: datetime, *, progress: float, faulty: bool) -> Condition:
    """Load by the time of day, highest in the early afternoon; and the motor's fault, if it has one."""
    hour = at.hour + at.minute / 60
    condition = Condition(load=0.65 + 0.2 * math.cos(2 * math.pi * (hour - 14) / 24) + 0.02 * i, noise=0.002)
    if faulty:
        # nothing until a third of the day has passed, then up to a 35 % short
        return replace(condition, interturn=0.35 * max(0.0, (progress - 1 / 3) * 1.5), interturn_phase=2)
    return replace(condition, broken_bar_dbc=-40.0) if i % len(FLEET) == 2 else condition


def _failing(
    folder: Path, names: tuple[str, ...], fleet: dict[str, Motor], *, fs: float, seconds: float, seed: int, at: datetime
) -> list[FleetRecording]:
    """The two files that must fail, each with its own reason."""
    name, motor, condition = names[0], fleet[names[0]], Condition()
    samples = simulate(motor, condition, fs=fs, seconds=min(seconds, 2.0), seed=hash_seed(seed, 101))
    rows = csv_bytes(samples).split(b"\n")
    for row, column, text in ((12, 0, b"n/a"), (13, 2, b"ERR"), (len(rows) // 2, 1, b"overrange")):
        cells = rows[row].split(b",")
        cells[column] = text
        rows[row] = b",".join(cells)
    bad_path = write_recording(folder / name, at, b"\n".join(rows))
    bad = FleetRecording(bad_path, name, at, condition, samples.shape[1], failure="csv_error")

    at += timedelta(minutes=1)
    samples = simulate(motor, condition, fs=fs, seconds=0.4, seed=hash_seed(seed, 102))
    short_path = write_recording(folder / name, at, csv_bytes(samples))
    return [bad, FleetRecording(short_path, name, at, condition, samples.shape[1], failure="insufficient_data")]


def write_recording(folder: Path, at: datetime, content: bytes) -> Path:
    """Write one CSV file into `folder`, named after its time; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{at:%Y-%m-%dT%H-%M-%SZ}.csv"
    path.write_bytes(content)
    return path
