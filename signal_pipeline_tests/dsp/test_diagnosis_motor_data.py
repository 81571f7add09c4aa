"""Nameplates: what is optional, what is impossible, and errors that say where."""

from typing import Any

import pytest

from signal_pipeline.dsp.diagnosis import MotorData, MotorDataError, motor_data_from_rows
from signal_pipeline.errors import SignalPipelineError

ROW = {
    "equipment": "pump-1",
    "pole_pairs": "2",
    "rated_speed_rpm": "1455",
    "line_freq_hz": "50",
    "rated_current_a": "10.5",
    "rotor_bars": "28",
}


def test_everything_on_a_plate_is_optional() -> None:
    empty = MotorData()
    assert empty.rated_slip is None
    assert empty.sync_speed_rpm is None


def test_slip_follows_from_speed_poles_and_line_frequency() -> None:
    plate = MotorData(pole_pairs=2, rated_speed_rpm=1455, line_freq_hz=50)
    assert plate.sync_speed_rpm == 1500
    assert plate.rated_slip == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"pole_pairs": 0}, "pole_pairs=0"),
        ({"pole_pairs": 2.5}, "pole_pairs=2.5"),
        ({"pole_pairs": True}, "pole_pairs=True"),
        ({"rated_current_a": -1.0}, "rated_current_a=-1.0"),
        ({"rated_current_a": float("nan")}, "rated_current_a=nan"),
        ({"line_freq_hz": float("inf")}, "line_freq_hz=inf"),
        ({"rotor_bars": 1}, "rotor_bars=1"),
        ({"rated_speed_rpm": 1500.0, "pole_pairs": 2, "line_freq_hz": 50.0}, "synchronous speed of 1500 rpm"),
        ({"rated_speed_rpm": 720.0, "pole_pairs": 2, "line_freq_hz": 50.0}, "poles instead of pairs"),
    ],
)
def test_a_plate_that_no_motor_can_have_names_field_and_value(values: dict[str, Any], told: str) -> None:
    with pytest.raises(MotorDataError, match=told):
        MotorData(**values)


def test_rows_become_plates_and_empty_cells_stay_unknown() -> None:
    rows: list[dict[str, Any]] = [
        ROW,
        {"equipment": " fan-2 ", "pole_pairs": "3.0", "rated_speed_rpm": "", "rotor_bars": None},
    ]
    plates = motor_data_from_rows(rows)
    assert plates == {
        "pump-1": MotorData(
            pole_pairs=2, rated_speed_rpm=1455.0, line_freq_hz=50.0, rated_current_a=10.5, rotor_bars=28
        ),
        "fan-2": MotorData(pole_pairs=3),
    }


def test_numbers_that_a_yaml_reader_has_made_already_are_taken_as_they_are() -> None:
    assert motor_data_from_rows([{"equipment": 7, "pole_pairs": 2, "line_freq_hz": 60}]) == {
        "7": MotorData(pole_pairs=2, line_freq_hz=60.0)
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pole_pairs": "two"}, "row 2, column pole_pairs: 'two' is not a whole number"),
        ({"pole_pairs": "2.5"}, "row 2, column pole_pairs: '2.5' is not a whole number"),
        ({"rated_current_a": "10,5"}, "row 2, column rated_current_a: '10,5' is not a number"),
        ({"line_freq_hz": "-50"}, "row 2, column line_freq_hz: line_freq_hz=-50.0 must lie in"),
        ({"rated_speed_rpm": "1500"}, "row 2, column rated_speed_rpm: rated_speed_rpm=1500.0 must lie below"),
        ({"equipment": " "}, "row 2, column equipment: is empty; it names the motor"),
        ({"equipment": "pump-1"}, "row 2, column equipment: 'pump-1' stands in an earlier row too"),
        ({"poles": "4"}, "row 2, column poles: unknown"),
    ],
)
def test_a_bad_cell_is_named_by_row_column_and_value(change: dict[str, str], told: str) -> None:
    with pytest.raises(MotorDataError) as error:
        motor_data_from_rows([ROW, {**ROW, "equipment": "fan-2", **change}])
    assert told in str(error.value)
    assert isinstance(error.value, SignalPipelineError)


def test_every_bad_cell_is_told_at_once_and_endless_lists_are_cut() -> None:
    rows = [{"equipment": f"m{i}", "pole_pairs": "x", "rotor_bars": "y"} for i in range(15)]
    with pytest.raises(MotorDataError) as error:
        motor_data_from_rows(rows)
    lines = str(error.value).splitlines()
    assert lines[0].startswith("row 1, column pole_pairs")
    assert lines[1].startswith("row 1, column rotor_bars")
    assert lines[-1] == "and 10 more"
