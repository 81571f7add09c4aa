"""The diagnosis on real motor currents: healthy is healthy, and a short circuit between turns is found."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from signal_pipeline.dsp.diagnosis import Diagnosis, FindingStatus, MotorData, Quantity, Severity, diagnose

pytestmark = pytest.mark.shared_data

FS = 1000.0
PLATE = MotorData(line_freq_hz=60)


@pytest.fixture(scope="module")
def recordings() -> dict[str, NDArray[np.float32]]:
    """By file name: three phases (3, n), 5 s at 1 kHz."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("SIGNAL_PIPELINE_SHARED_DATA", default)) / "itsc"
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}; set SIGNAL_PIPELINE_SHARED_DATA")
    return {path.stem: np.loadtxt(path, delimiter=",", dtype=np.float32).T for path in sorted(folder.glob("*.csv"))}


@pytest.fixture(scope="module")
def diagnoses(recordings: dict[str, NDArray[np.float32]]) -> dict[str, Diagnosis]:
    return {name: diagnose(phases, fs=FS, motor=PLATE) for name, phases in recordings.items()}


def test_the_healthy_recordings_are_healthy(diagnoses: dict[str, Diagnosis]) -> None:
    healthy = [diagnosis[Quantity.INTERTURN] for name, diagnosis in diagnoses.items() if "HLT" in name]
    assert len(healthy) == 3
    assert {finding.severity for finding in healthy} == {Severity.HEALTHY}
    assert all(2 < (finding.value or 0) < 5 for finding in healthy)


def test_the_unequal_sensors_of_the_healthy_recordings_are_no_unbalance(diagnoses: dict[str, Diagnosis]) -> None:
    healthy = [diagnosis[Quantity.UNBALANCE] for name, diagnosis in diagnoses.items() if "HLT" in name]
    assert {finding.severity for finding in healthy} == {Severity.HEALTHY}
    assert all("I0/I1" in finding.detail for finding in healthy)


def test_every_short_circuit_is_found_and_the_large_ones_are_severe(diagnoses: dict[str, Diagnosis]) -> None:
    faults = {name: diagnosis[Quantity.INTERTURN] for name, diagnosis in diagnoses.items() if "HLT" not in name}
    assert len(faults) == 36
    missed = [name for name, finding in faults.items() if finding.severity in (None, Severity.HEALTHY)]
    assert missed == []
    large = [finding.severity for name, finding in faults.items() if "4" in name]
    assert set(large) == {Severity.SEVERE}
    in_c = [finding.value for name, finding in faults.items() if "C4" in name]
    assert all(value is not None and 20 < value < 40 for value in in_c)


def test_the_rotor_is_not_judged_without_its_poles(diagnoses: dict[str, Diagnosis]) -> None:
    for diagnosis in diagnoses.values():
        assert diagnosis[Quantity.BROKEN_BAR].status is FindingStatus.NO_MOTOR_DATA
        assert diagnosis[Quantity.LINE_FREQUENCY].value == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize("pole_pairs", [1, 2, 3])
def test_no_recording_is_called_broken_whatever_the_poles_may_be(
    recordings: dict[str, NDArray[np.float32]], pole_pairs: int
) -> None:
    plate = MotorData(pole_pairs=pole_pairs, line_freq_hz=60)
    for name in (*sorted(recordings)[-3:], "SC_A0_B0_C1_001"):
        finding = diagnose(recordings[name], fs=FS, motor=plate)[Quantity.BROKEN_BAR]
        assert finding.severity in (None, Severity.HEALTHY), (name, finding)
