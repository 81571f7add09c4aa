"""Recordings in which the motor does not run all the time, or the sensors or the supply are not what the plate says."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from signal_pipeline.dsp.diagnosis import Diagnosis, FindingStatus, MotorData, Quantity, Severity, diagnose
from signal_pipeline.synthetic import Condition, Motor, simulate

FS = 2000.0
PLATE = MotorData(pole_pairs=2, rated_speed_rpm=1455, line_freq_hz=50, rated_current_a=10, rotor_bars=28)
CURRENT = (Quantity.LOAD, Quantity.UNBALANCE, Quantity.INTERTURN)
ROTOR = (Quantity.SLIP, Quantity.BROKEN_BAR, Quantity.ECCENTRICITY)


def running(
    condition: Condition | None = None,
    *,
    share: NDArray[np.floating[Any]] | None = None,
    seconds: float = 12.0,
    seed: int = 1,
) -> NDArray[np.float32]:
    """A healthy motor, its current multiplied by `share` (sample,); the noise stays when there is no current."""
    condition = condition or Condition(slip=0.03)
    current = simulate(Motor(), condition, fs=FS, seconds=seconds, seed=seed)
    if share is None:
        return current
    noise = np.random.default_rng(seed).standard_normal(current.shape) * 0.005
    return (current * share + noise).astype(np.float32)


def time(seconds: float = 12.0) -> NDArray[np.float64]:
    return np.arange(round(FS * seconds)) / FS


def converter(hz: NDArray[np.float64]) -> NDArray[np.float32]:
    """Currents of 10 A peak at a frequency (sample,) that a converter sets."""
    turns = np.cumsum(hz) / FS
    return np.stack([10 * np.cos(2 * np.pi * (turns - k / 3)) for k in range(3)]).astype(np.float32)


def look(phases: NDArray[np.float32], plate: MotorData | None = PLATE, **options: Any) -> Diagnosis:
    return diagnose(phases, fs=FS, motor=plate, **options)


def statuses(diagnosis: Diagnosis, quantities: tuple[Quantity, ...]) -> set[FindingStatus]:
    return {diagnosis[quantity].status for quantity in quantities}


t = time()
PARTLY_OFF = {
    "off for 3 s, then a soft start": np.clip((t - 3) / 0.5, 0, 1),
    "off for 8 s": (t > 8) * 1.0,
    "a dropout of 1 s": 1.0 - ((t > 5) & (t < 6)),
    "a dropout of 0.1 s": 1.0 - ((t > 5) & (t < 5.1)),
    "stopped at 70 %": (t < 8.4) * 1.0,
    "stopped at 80 %": (t < 9.6) * 1.0,
    "on and off each second": (t % 2 < 1) * 1.0,
}


@pytest.mark.parametrize("when", PARTLY_OFF)
@pytest.mark.parametrize("plate", [PLATE, None], ids=["plate", "no plate"])
def test_a_healthy_motor_that_is_off_part_of_the_time_is_never_called_ill(when: str, plate: MotorData | None) -> None:
    diagnosis = look(running(share=PARTLY_OFF[when]), plate)
    assert diagnosis.severity in (None, Severity.HEALTHY), list(diagnosis)
    assert diagnosis[Quantity.INTERTURN].severity is Severity.HEALTHY  # where it ran it could be judged
    assert diagnosis[Quantity.LINE_FREQUENCY].value == pytest.approx(50, abs=0.001)


@pytest.mark.parametrize("when", ["stopped at 70 %", "off for 8 s", "a dropout of 1 s"])
def test_the_load_is_that_of_the_running_motor(when: str) -> None:
    whole, partly = (look(running(share=share))[Quantity.LOAD] for share in (None, PARTLY_OFF[when]))
    assert partly.value == pytest.approx(whole.value, rel=0.002)
    assert "while it ran" in partly.detail


@pytest.mark.parametrize("when", PARTLY_OFF)
def test_the_rotor_of_a_motor_that_was_off_meanwhile_is_not_judged(when: str) -> None:
    # half a block without current does not empty it, but smears the carrier
    found = statuses(look(running(share=PARTLY_OFF[when])), ROTOR)
    assert found == {FindingStatus.CLOCK_QUALITY if "0.1 s" in when else FindingStatus.UNSTEADY}


def test_an_interturn_fault_of_a_motor_that_stops_is_still_found() -> None:
    faulty = running(Condition(interturn=0.4), share=PARTLY_OFF["stopped at 70 %"])
    assert look(faulty)[Quantity.INTERTURN].severity is Severity.SEVERE


def test_too_little_current_for_the_sequences_is_refused() -> None:
    diagnosis = look(running(share=((t > 5) & (t < 5.6)) * 1.0))
    assert statuses(diagnosis, (Quantity.UNBALANCE, Quantity.INTERTURN)) == {FindingStatus.UNSTEADY}


def test_a_converters_ramp_is_no_interturn_fault() -> None:
    diagnosis = look(converter(np.clip(5 + 45 * t / 4, 5, 50)))
    assert diagnosis.severity in (None, Severity.HEALTHY)
    assert diagnosis[Quantity.LINE_FREQUENCY].value == pytest.approx(50, abs=0.001)


def test_a_stop_is_no_start() -> None:
    for when in ("stopped at 70 %", "stopped at 80 %"):
        assert FindingStatus.START_UP not in statuses(look(running(share=PARTLY_OFF[when])), tuple(Quantity))


def test_a_start_within_the_recording_is_one_even_if_the_motor_stops_again() -> None:
    share = ((t > 1) & (t < 11)) * (1 + 5 * np.exp(-np.clip(t - 1, 0, None) / 0.3))
    assert statuses(look(running(share=share)), CURRENT + ROTOR) == {FindingStatus.START_UP}


def test_a_surge_of_a_running_motor_is_no_start() -> None:
    diagnosis = look(running(share=1 + 2.0 * ((t > 6) & (t < 7))))
    assert statuses(diagnosis, CURRENT) == {FindingStatus.OK}
    assert statuses(diagnosis, ROTOR) == {FindingStatus.UNSTEADY}


@pytest.mark.parametrize("gain", [0.0, 0.4, -1.0], ids=["dead", "wrong range", "reversed"])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_sensor_that_lies_is_no_fault_of_the_motor(gain: float, channel: int) -> None:
    x = running()
    x[channel] *= np.float32(gain)
    diagnosis = look(x)
    assert statuses(diagnosis, (Quantity.UNBALANCE, Quantity.INTERTURN)) == {FindingStatus.SENSORS}
    assert "sensor" in diagnosis[Quantity.INTERTURN].detail
    assert diagnosis.severity in (None, Severity.HEALTHY)


def test_a_lost_phase_of_the_supply_is_severe_but_no_interturn_fault() -> None:
    wave = 14 * np.cos(2 * np.pi * 50 * t)
    x = np.stack([wave, -wave, 0 * wave]) + 0.01 * np.random.default_rng(0).standard_normal((3, t.size))
    diagnosis = look(x.astype(np.float32))
    assert diagnosis[Quantity.UNBALANCE].severity is Severity.SEVERE
    assert diagnosis[Quantity.INTERTURN].status is FindingStatus.SENSORS
    assert "phase" in diagnosis[Quantity.INTERTURN].detail


@pytest.mark.parametrize("hz", [37.0, 60.0])
def test_another_supply_than_the_plates_is_named_and_measured(hz: float) -> None:
    condition = Condition(line_freq_hz=hz, slip=0.03)
    diagnosis = look(running(condition))
    line = diagnosis[Quantity.LINE_FREQUENCY]
    assert line.value == pytest.approx(hz, abs=0.001)
    assert line.severity is None
    assert "plate" in line.detail
    assert statuses(diagnosis, CURRENT) == {FindingStatus.OK}
    assert diagnosis[Quantity.SLIP].value == pytest.approx(0.03, abs=5e-4)
    assert diagnosis.severity is Severity.HEALTHY


def test_where_no_line_carries_the_current_the_strongest_is_named_as_it_is() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([4 * np.cos(2 * np.pi * 37 * t)] * 3) + 6 * rng.standard_normal((3, t.size))
    finding = look(x.astype(np.float32))[Quantity.LINE_FREQUENCY]
    assert finding.status is FindingStatus.NO_LINE
    assert "37.0" in finding.detail
    assert "18 %" in finding.detail


@pytest.mark.parametrize("level", [0.75, 0.85, 0.92])
@pytest.mark.parametrize("rate", [2000.0, 25600.0])
def test_a_clipped_recording_says_so_and_measures_the_line_only(level: float, rate: float) -> None:
    x = simulate(
        Motor(), Condition(slip=0.01, eccentricity_dbc=None, slot_harmonics_dbc=None), fs=rate, seconds=6, seed=3
    )
    limit = np.float32(level * x.max())
    diagnosis = diagnose(np.clip(x, -limit, limit), fs=rate, motor=PLATE)
    assert statuses(diagnosis, CURRENT + ROTOR) == {FindingStatus.CLIPPED}
    assert diagnosis[Quantity.LINE_FREQUENCY].value == pytest.approx(50, abs=0.001)


@pytest.mark.parametrize("step", [0.02, 0.5], ids=["fine", "coarse"])
@pytest.mark.parametrize("rate", [900.0, 1000.0, 2000.0, 25600.0])
@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_a_quantised_recording_is_not_taken_for_a_clipped_one(step: float, rate: float, noise: float) -> None:
    x = simulate(Motor(), Condition(noise=noise, harmonics=()), fs=rate, seconds=6, seed=3)
    quantised = (np.round(x / step) * step).astype(np.float32)
    diagnosis = diagnose(quantised, fs=rate, motor=PLATE)
    assert FindingStatus.CLIPPED not in statuses(diagnosis, tuple(Quantity))
