"""Three-phase stator current of an induction motor, as a sum of lines whose frequencies physics gives.

Here: the motor, its condition, the truth that follows from both, and the samples. Not here: files.
A line is a positive, negative or zero sequence component at a multiple of the line frequency, so that a drifting
supply moves all of them together. Frequencies: Thomson and Fenger, IEEE Industry Applications Magazine 7(4), 2001.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 16
"""Samples computed at once; bounds the memory of the cosines, not the result."""

NO_LOAD_CURRENT = 0.35
"""Magnetising current as a share of the rated one: what a motor draws without load."""

INTERTURN_GAIN = 0.6
"""I2/I1 made by shorting all turns of a phase; a 40 % short then reads 24 %, as small machines do."""


@dataclass(frozen=True)
class Motor:
    """Nameplate of an induction motor; rms amperes, hertz, revolutions per minute."""

    pole_pairs: int = 2
    rated_speed_rpm: float = 1455.0
    line_freq_hz: float = 50.0
    rated_current_a: float = 10.0
    rotor_bars: int = 28

    def __post_init__(self) -> None:
        if self.pole_pairs < 1 or self.rotor_bars < 1:
            raise ValueError(f"{self.pole_pairs=} and {self.rotor_bars=} must be at least 1")
        if self.line_freq_hz <= 0 or self.rated_current_a <= 0:
            raise ValueError(f"{self.line_freq_hz=} and {self.rated_current_a=} must be above 0")
        if not 0 < self.rated_speed_rpm < self.sync_speed_rpm:
            raise ValueError(f"{self.rated_speed_rpm=} must lie between 0 and {self.sync_speed_rpm} rpm")

    @property
    def sync_speed_rpm(self) -> float:
        return 60 * self.line_freq_hz / self.pole_pairs

    @property
    def rated_slip(self) -> float:
        return 1 - self.rated_speed_rpm / self.sync_speed_rpm


@dataclass(frozen=True)
class Condition:
    """What the motor does during a recording. Levels in dBc are relative to the phase's fundamental; None: absent."""

    load: float = 0.7
    """Share of the rated torque."""
    slip: float | None = None
    """Per unit; None: rated slip times load."""
    line_freq_hz: float | None = None
    """True supply frequency at the start; None: the motor's."""
    line_drift_hz_per_s: float = 0.0
    broken_bar_dbc: float | None = None
    """Level of both sidebands line * (1 +- 2*slip); those at 4*slip are 15 dB lower."""
    eccentricity_dbc: float | None = -62.0
    """Level of line +- rotor frequency; every real motor has a little of it."""
    slot_harmonics_dbc: float | None = -50.0
    """Level of the two principal rotor slot harmonics."""
    interturn: float = 0.0
    """Share of shorted turns in `interturn_phase`; adds I2 (and as much I1) along that phase."""
    interturn_phase: int = 0
    unbalance: float = 0.01
    """I2/I1 that supply and winding make without any fault."""
    harmonics: tuple[tuple[int, float], ...] = ((5, 0.02), (7, 0.012), (11, 0.005), (13, 0.003))
    """(order, share of the fundamental)."""
    noise: float = 0.001
    """White noise, rms, as a share of the rated current."""
    dc_offset_a: float = 0.0
    clock_jitter_s: float = 0.0
    """Standard deviation of each sample's instant."""
    start_up_s: float = 0.0
    """The recording begins with the start, which takes about this long."""
    load_oscillation: float = 0.0
    """A load that pulsates (compressor, pump, belt) swings the current's amplitude by this share of it."""
    load_oscillation_hz: float = 2.0
    off: bool = False
    """No current but the offset and the noise."""

    def __post_init__(self) -> None:
        if self.load < 0 or not 0 <= self.interturn < 1 or self.interturn_phase not in (0, 1, 2):
            raise ValueError(f"{self.load=} >= 0, 0 <= {self.interturn=} < 1, {self.interturn_phase=} in 0, 1, 2")
        if self.slip is not None and not 0 <= self.slip < 1:
            raise ValueError(f"{self.slip=} must lie in [0, 1)")
        if not 0 <= self.load_oscillation < 1 or self.load_oscillation_hz <= 0:
            raise ValueError(f"0 <= {self.load_oscillation=} < 1 and {self.load_oscillation_hz=} > 0")


class Truth(NamedTuple):
    """What an analysis of a noiseless, endless recording would find."""

    line_freq_hz: float
    slip: float
    rotor_freq_hz: float
    current_a: float
    """rms of the positive sequence fundamental."""
    i2_i1_max: float
    """|I2|/|I1| when supply and fault unbalance point the same way."""
    thd: float


class _Line(NamedTuple):
    ratio: float  # of the line frequency
    share: float  # of the fundamental's amplitude
    angle: float  # rad, at t = 0 in phase R
    sequence: int  # +1 R-S-T, -1 R-T-S, 0 all alike


def known_truth(motor: Motor, condition: Condition) -> Truth:
    """The numbers that `simulate` builds its samples from."""
    line_freq = condition.line_freq_hz or motor.line_freq_hz
    slip = motor.rated_slip * condition.load if condition.slip is None else condition.slip
    current = motor.rated_current_a * math.hypot(NO_LOAD_CURRENT, math.sqrt(1 - NO_LOAD_CURRENT**2) * condition.load)
    fault = INTERTURN_GAIN * condition.interturn / (1 - INTERTURN_GAIN * condition.interturn)
    return Truth(
        line_freq_hz=line_freq,
        slip=slip,
        rotor_freq_hz=line_freq * (1 - slip) / motor.pole_pairs,
        current_a=0.0 if condition.off else current * (1 + fault),
        i2_i1_max=(fault + condition.unbalance) / (1 + fault),
        thd=math.hypot(*(share for _, share in condition.harmonics)) / (1 + fault),
    )


def simulate(motor: Motor, condition: Condition, *, fs: float, seconds: float, seed: int) -> NDArray[np.float32]:
    """Phase currents R, S, T in amperes.

    Parameters: fs in Hz, seconds of recording, seed of the noise and of all phase angles.
    Returns float32 of shape (3, round(fs * seconds)); the same arguments give the same samples.
    Raises `ValueError` for a rate or length that gives no sample. Lines above fs / 2 alias, as they would
    in a recorder without a filter, so they are left out.
    """
    n_samples = round(fs * seconds)
    if n_samples < 1:
        raise ValueError(f"{fs=} Hz for {seconds=} s gives {n_samples} samples; at least 1 is needed")
    rng = np.random.default_rng(seed)
    truth = known_truth(motor, condition)
    lines = [line for line in _lines(motor, condition, truth, rng) if line.ratio * truth.line_freq_hz < fs / 2]
    out = rng.standard_normal((3, n_samples), dtype=np.float32)
    out *= np.float32(condition.noise * motor.rated_current_a)
    out += np.float32(condition.dc_offset_a)
    if not condition.off:
        amplitude = math.sqrt(2) * truth.current_a / _interturn_i1(condition)
        _add_lines(out, lines, condition, amplitude=amplitude, line_freq=truth.line_freq_hz, fs=fs, rng=rng)
    return out


def _interturn_i1(condition: Condition) -> float:
    """Factor by which the fault raises I1: the extra current is half of each sequence."""
    fault = INTERTURN_GAIN * condition.interturn
    return 1 + fault / (1 - fault)


def _lines(motor: Motor, condition: Condition, truth: Truth, rng: np.random.Generator) -> list[_Line]:
    """Every line of the current, the fundamental first. Angles are drawn in a fixed order."""
    slip, pole_pairs = truth.slip, motor.pole_pairs
    first = rng.uniform(0, 2 * math.pi)
    fault = _interturn_i1(condition) - 1
    lines = [_Line(1, 1 + fault, first, 1), _Line(1, condition.unbalance, rng.uniform(0, 2 * math.pi), -1)]
    # in the shorted phase k both sequences point the same way: first - 2*pi*k/3 = angle + 2*pi*k/3
    lines.append(_Line(1, fault, first - 4 * math.pi * condition.interturn_phase / 3, -1))
    lines += [
        # order 5 turns backwards, 7 forwards, 3 not at all
        _Line(order, share, order * first + rng.uniform(0, 2 * math.pi), (order + 1) % 3 - 1)
        for order, share in condition.harmonics
    ]
    rotor, slots = (1 - slip) / pole_pairs, motor.rotor_bars * (1 - slip) / pole_pairs
    for level, ratios in (
        (condition.broken_bar_dbc, (1 - 2 * slip, 1 + 2 * slip)),
        (None if condition.broken_bar_dbc is None else condition.broken_bar_dbc - 15, (1 - 4 * slip, 1 + 4 * slip)),
        (condition.eccentricity_dbc, (1 - rotor, 1 + rotor)),
        (condition.slot_harmonics_dbc, (slots - 1, slots + 1)),
    ):
        angles = rng.uniform(0, 2 * math.pi, len(ratios))
        if level is not None:
            share = 10 ** (level / 20) * (1 + fault)
            lines += [_Line(ratio, share, float(angle), 1) for ratio, angle in zip(ratios, angles, strict=True)]
    return [line for line in lines if line.share > 0 and line.ratio > 0]


def _add_lines(
    out: NDArray[np.float32],
    lines: list[_Line],
    condition: Condition,
    *,
    amplitude: float,
    line_freq: float,
    fs: float,
    rng: np.random.Generator,
) -> None:
    """Add all lines to `out` in place: one matrix product of (3, 2 * lines) and (2 * lines, samples) a chunk."""
    ratio = np.array([line.ratio for line in lines])[:, None]
    share = amplitude * np.array([line.share for line in lines])
    # phase k lags by k thirds of a turn in the positive sequence and leads in the negative
    turn = np.array([line.sequence for line in lines]) * 2 * math.pi / 3
    angle = np.array([line.angle for line in lines]) - np.arange(3)[:, None] * turn
    weights = np.hstack([share * np.cos(angle), -share * np.sin(angle)])
    # drawn only if there is one, so that all other conditions keep their samples
    beat = rng.uniform(0, 2 * math.pi) if condition.load_oscillation else 0.0
    for start in range(0, out.shape[1], CHUNK):
        chunk = out[:, start : start + CHUNK]
        t = np.arange(start, start + chunk.shape[1]) / fs
        if condition.clock_jitter_s:
            t += rng.normal(0, condition.clock_jitter_s, t.size)
        turns = line_freq * t + condition.line_drift_hz_per_s * t**2 / 2
        theta = 2 * math.pi * ratio * turns
        current = weights @ np.vstack([np.cos(theta), np.sin(theta)])
        if condition.start_up_s:
            # about six times the running current, then the breakdown torque is passed and it falls quickly
            current *= 1 + 5 / (1 + np.exp(10 * (t / condition.start_up_s - 1)))
        if condition.load_oscillation:
            swing = np.cos(2 * math.pi * condition.load_oscillation_hz * t + beat)
            current *= 1 + condition.load_oscillation * swing
        chunk += current.astype(np.float32)
