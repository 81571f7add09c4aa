"""What is no measurement is refused by name, and what is gets a summary that JSON can hold."""

import json

import numpy as np
import pytest

from signal_pipeline.dsp.gaps import gap_lengths, max_gap_samples
from signal_pipeline.dsp.validation import ValidationSummary, validate_record
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline.errors import InsufficientData, ValidationFailed
from signal_pipeline_tests.dsp.signals import Phases, motor

GRID = WindowGrid(1000.0, 1000, 500)
ALL = (True, True, True)


def check(
    phases: Phases,
    *,
    fs: float = 1000.0,
    present: tuple[bool, bool, bool] = ALL,
    record_rows: int | None = None,
    whole: bool = True,
) -> ValidationSummary:
    rows = phases.shape[1] if record_rows is None else record_rows
    return validate_record(phases, fs=fs, present=present, record_rows=rows, grid=GRID, max_gap_samples=1, whole=whole)


def test_a_clean_record_is_summarized_in_json() -> None:
    summary = json.loads(json.dumps(check(motor(2000, fs=1000)).as_dict(), allow_nan=False))
    assert summary["samples"] == 2000
    assert summary["sample_rate_hz"] == 1000.0
    assert summary["max_gap_samples"] == 1
    assert summary["windows_skipped"] == 0
    assert summary["phases"]["b"]["missing"] == 0
    assert summary["phases"]["b"]["max"] == pytest.approx(10.25, abs=0.25)


def test_gaps_are_counted_and_the_longest_is_named() -> None:
    phases = motor(2000, fs=1000)
    phases[1, :3] = phases[1, 10] = phases[1, 1990:] = np.nan
    phase = check(phases).as_dict()["phases"]["b"]
    assert (phase["missing"], phase["gaps"], phase["longest_gap"]) == (14, 3, 10)
    assert phase["min"] is not None


def test_skipped_windows_are_counted_and_the_first_are_named() -> None:
    summary = check(motor(2000, fs=1000)).with_skipped(dict.fromkeys(range(100, 0, -1), "gap_too_long")).as_dict()
    assert summary["windows_skipped"] == 100
    assert next(iter(summary["windows_skipped_first"].items())) == ("1", "gap_too_long")
    assert len(summary["windows_skipped_first"]) == 20


@pytest.mark.parametrize("fs", [0.0, -1000.0, float("nan"), float("inf"), 0.001, 1e12])
def test_a_sample_rate_that_nobody_measures_with_is_refused(fs: float) -> None:
    with pytest.raises(ValidationFailed, match="sample rate"):
        check(motor(2000, fs=1000), fs=fs)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused_with_phase_and_sample(value: float) -> None:
    phases = motor(2000, fs=1000)
    phases[2, 1234] = value
    phases[2, 7] = np.nan
    with pytest.raises(ValidationFailed, match=r"phase c \(T\), sample 1234"):
        check(phases)


def test_a_finite_number_that_is_no_current_is_refused() -> None:
    phases = motor(2000, fs=1000)
    phases[0, 42] = 3e38
    with pytest.raises(ValidationFailed, match=r"phase a \(R\), sample 42"):
        check(phases)


def test_a_recorded_phase_without_a_sample_is_refused_in_a_whole_record() -> None:
    phases = motor(2000, fs=1000)
    phases[1] = np.nan
    with pytest.raises(ValidationFailed, match=r"phase b \(S\).*2000"):
        check(phases)


def test_a_batch_may_be_one_long_gap() -> None:
    phases = motor(2000, fs=1000)
    phases[1] = np.nan
    assert check(phases, whole=False).as_dict()["phases"]["b"]["longest_gap"] == 2000


def test_a_phase_that_was_not_recorded_is_allowed() -> None:
    phases = motor(2000, fs=1000)
    phases[1] = np.nan
    summary = check(phases, present=(True, False, True)).as_dict()
    assert summary["phases"]["b"] == {
        "present": False, "missing": 2000, "gaps": 0, "longest_gap": 0, "min": None, "max": None
    }  # fmt: skip


def test_a_record_without_any_phase_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="no phase"):
        check(np.full((3, 2000), np.nan, np.float32), present=(False, False, False))


@pytest.mark.parametrize("shape", [(2, 2000), (3,), (2000, 3)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValidationFailed, match="float32"):
        validate_record(
            np.zeros(shape, np.float32),
            fs=1000.0,
            present=ALL,
            record_rows=2000,
            grid=GRID,
            max_gap_samples=1,
            whole=True,
        )


@pytest.mark.parametrize("rows", [0, 1, 999])
def test_a_record_shorter_than_a_window_is_insufficient(rows: int) -> None:
    with pytest.raises(InsufficientData, match=rf"{rows} samples.*1000"):
        check(motor(rows, fs=1000))


def test_the_last_batch_of_a_long_record_may_be_short() -> None:
    assert check(motor(10, fs=1000), record_rows=5000, whole=False).samples == 10


def test_gap_lengths_come_in_order() -> None:
    samples = np.array([np.nan, 1, np.nan, np.nan, 2, np.nan], np.float32)
    assert gap_lengths(samples).tolist() == [1, 2, 1]
    assert gap_lengths(np.ones(3, np.float32)).tolist() == []


@pytest.mark.parametrize(("fs", "ms", "samples"), [(25_600, 1.0, 25), (1000, 1.0, 1), (100, 1.0, 1), (1000, 0.0, 0)])
def test_the_longest_gap_is_at_least_a_sample_unless_it_is_zero(fs: float, ms: float, samples: int) -> None:
    assert max_gap_samples(fs, ms) == samples
