"""`equipment`: plates from CSV and YAML, refused whole when one value cannot be; and how the motors are."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from signal_pipeline_tests.cli.conftest import Run

CSV = "equipment,pole_pairs,rated_speed_rpm,line_freq_hz,rated_current_a\npump,2,1455,50,10\nfan,1,,50,\n"
YAML = "pump:\n  pole_pairs: 2\n  rated_current_a: 12.5\n"


def plates(engine: Engine) -> dict[str, tuple[Any, ...]]:
    with engine.connect() as conn:
        rows = conn.execute(text("SELECT name, pole_pairs, rated_current_a FROM equipment"))
        return {row.name: (row.pole_pairs, row.rated_current_a) for row in rows}


def test_plates_are_loaded_and_loading_again_updates_them(
    engine: Engine, as_json: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "motors.csv").write_text(CSV)
    assert as_json("equipment", "import", str(tmp_path / "motors.csv")) == {"new": 2, "updated": 0}
    assert plates(engine) == {"pump": (2, 10.0), "fan": (1, None)}
    (tmp_path / "motors.yaml").write_text(YAML)
    assert as_json("equipment", "import", str(tmp_path / "motors.yaml")) == {"new": 0, "updated": 1}
    assert plates(engine)["pump"] == (2, 12.5)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_plates_may_be_delimited_like_recordings(engine: Engine, run: Run, tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "motors.csv").write_text(CSV.replace(",", delimiter))
    assert "2 new" in run("equipment", "import", str(tmp_path / "motors.csv")).stdout
    assert plates(engine) == {"pump": (2, 10.0), "fan": (1, None)}


def test_a_name_in_yaml_is_what_was_written(engine: Engine, run: Run, tmp_path: Path) -> None:
    (tmp_path / "motors.yaml").write_text("010: {pole_pairs: 2}\non: {pole_pairs: ~}\n1.10: {rated_current_a: 3}\n")
    run("equipment", "import", str(tmp_path / "motors.yaml"))
    assert plates(engine) == {"010": (2, None), "on": (None, None), "1.10": (None, 3.0)}


def test_plates_in_a_pipe_a_device_or_a_folder_are_refused_without_waiting(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "motors.csv")
    os.mkfifo(tmp_path / "motors.yaml")
    for place in (tmp_path / "motors.csv", tmp_path / "motors.yaml", Path("/dev/zero")):
        assert "a pipe or device" in run("equipment", "import", str(place), code=1).stderr
    assert "a folder" in run("equipment", "import", str(tmp_path), code=1).stderr


def test_plates_that_are_not_there_are_an_error_in_words(run: Run, tmp_path: Path) -> None:
    said = run("equipment", "import", str(tmp_path / "none.csv"), code=1).stderr
    assert "cannot be read: No such file or directory" in said


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (("a.csv", "equipment,pole_pairs\npump,2\nfan,many\n"), ["row 2", "pole_pairs", "many"]),
        (("a.csv", "equipment,colour\npump,red\n"), ["colour"]),
        (("a.csv", "equipment,pole_pairs,rated_speed_rpm,line_freq_hz\npump,2,1700,50\n"), ["rated_speed_rpm", "1700"]),
        (("a.csv", "motor,pole_pairs\npump,2\n"), ["column equipment: is missing"]),
        (("a.csv", ""), ["no motor"]),
        (("a.csv", "equipment,pole_pairs\n"), ["no motor"]),
        (("a.yaml", "pump: 3\n"), ["mapping"]),
        (("a.yaml", "{["), ["not YAML"]),
        (("a.yaml", "[" * 20_000), ["nested too deeply"]),
        (("a.yaml", "pump: {rated_current_a: 2025-13-45}\n"), ["rated_current_a", "2025-13-45"]),
        (("a.yaml", f"pump: {{pole_pairs: {'9' * 5000}}}\n"), ["pole_pairs", "not a whole number"]),
        (("a.yaml", '"a\\0b": {pole_pairs: 2}\n'), ["row 1", "printable"]),
        (("a.yaml", '"a\\ud800b": {pole_pairs: 2}\n'), ["row 1", "printable"]),
        (("a.yaml", "- equipment: {a: 1}\n"), ["row 1", "column equipment", "one value"]),
        (("a.yaml", "- equipment: [a]\n"), ["row 1", "column equipment", "one value"]),
        (("a.yaml", "- &a {equipment: pump}\n- *a\n"), ["aliases"]),
        (("a.yaml", "pump: {pole_pairs: 2}\npump: {pole_pairs: 3}\n"), ["more than once"]),
        (("a.yaml", "#" * 2**20 + "\n"), ["no list of motors"]),
        (("a.csv", "equipment,pole_pairs\n" + "x" * 200_000 + ",2\n"), ["row 1 is not CSV"]),
        (("a.csv", 'equipment,pole_pairs\n"pump,2\nfan,2\n'), ["row 1 is not CSV"]),
        (("a.csv", "equipment,pole_pairs\na\0b,2\n"), ["row 1", "printable"]),
        (("a.csv", "equipment,pole_pairs\nok,2\n\x1b[2J,2\n"), ["row 2", "printable"]),
        (("a.csv", f"equipment,pole_pairs\n{'x' * 5000},2\n"), ["row 1", "1 to 120"]),
        (("a.csv", f"equipment,pole_pairs\npump,{'9' * 5000}\n"), ["row 1", "not a whole number"]),
        (("a.csv", "equipment,pole_pairs,pole_pairs\npump,2,3\n"), ["pole_pairs stands more than once"]),
    ],
)
def test_a_bad_table_is_refused_whole_and_says_where(
    engine: Engine, run: Run, tmp_path: Path, file: tuple[str, str], said: list[str]
) -> None:
    name, content = file
    (tmp_path / name).write_text(content)
    message = " ".join(run("equipment", "import", str(tmp_path / name), code=1).stderr.split())
    for part in said:
        assert part in message
    assert plates(engine) == {}


def anomaly_of(engine: Engine, name: str) -> None:
    with engine.begin() as conn:
        conn.execute(
            text("""
                INSERT INTO anomaly_events (equipment_id, model_kind, model_version, started_at, ended_at, raised_at,
                                            peak_score, peak_at, threshold, windows, is_open, features)
                SELECT id, 'stream', 'v', t, t, t, 9, t, 3, 5, true, '{}'
                FROM equipment, (SELECT timestamptz '2025-08-25 12:00+00' AS t) AS at WHERE name = :name
            """),
            {"name": name},
        )


def severity_of(engine: Engine, name: str, severity: str | None, at: str) -> None:
    with engine.begin() as conn:
        conn.execute(
            text("""
                WITH signal AS (
                    INSERT INTO raw_signals (equipment_id, recorded_at)
                    SELECT id, CAST(:at AS timestamptz) FROM equipment WHERE name = :name
                    RETURNING id, equipment_id, recorded_at
                )
                INSERT INTO signal_diagnostics
                    (raw_id, equipment_id, recorded_at, severity, analysed_seconds, findings, motor, diagnosis_version)
                SELECT id, equipment_id, recorded_at, :severity, 10, '[]', '{}', 'v' FROM signal
            """),
            {"name": name, "severity": severity, "at": at},
        )


def test_the_list_says_how_every_motor_is_the_most_urgent_first(
    engine: Engine, run: Run, as_json: Callable[..., Any], tmp_path: Path
) -> None:
    assert "no motor yet" in run("equipment", "list").stdout
    (tmp_path / "motors.yaml").write_text(
        "a-quiet: {}\nb-odd: {}\nc-new: {}\n"
        "d-ill: {pole_pairs: 2, rated_speed_rpm: 1440, line_freq_hz: 50, rated_current_a: 9, rotor_bars: 28}\n"
        "e-better: {pole_pairs: 2}\n"
    )
    run("equipment", "import", str(tmp_path / "motors.yaml"))
    for name, severity, hour in [
        ("a-quiet", "healthy", 1),
        ("b-odd", "healthy", 1),
        ("d-ill", "moderate", 1),
        ("d-ill", None, 2),  # could not be judged, which is no recovery
        ("e-better", "severe", 1),
        ("e-better", "healthy", 2),
    ]:
        severity_of(engine, name, severity, f"2025-08-25 0{hour}:00+00")
    anomaly_of(engine, "b-odd")
    lines = run("equipment", "list").stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["d-ill", "moderate", "-", "2025-08-25", "02:00", "known"],
        ["b-odd", "anomalous", "2025-08-25", "12:00", "2025-08-25", "01:00", "none"],
        ["a-quiet", "healthy", "-", "2025-08-25", "01:00", "none"],
        ["e-better", "healthy", "-", "2025-08-25", "02:00", "partly"],
        ["c-new", "not", "judged", "-", "-", "none"],
    ]
    first = as_json("equipment", "list")[0]
    assert (first["name"], first["severity"], first["plate_fields_missing"]) == ("d-ill", "moderate", 0)
    assert first["judged_at"].startswith("2025-08-25 01:00")
