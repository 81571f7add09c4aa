"""`ingest` and `simulate`, as a person and as a program see them."""

import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from signal_pipeline_tests.cli.conftest import COMMAND, Run, write_csv
from signal_pipeline_tests.signals import count


def test_a_folder_is_loaded_and_its_name_is_the_equipment(
    tmp_path: Path, as_json: Callable[..., Any], run: Run
) -> None:
    write_csv(tmp_path / "pump-7" / "2025-08-25T12-00-00Z.csv")
    loaded = as_json("ingest", str(tmp_path / "pump-7"), "--sample-rate", "1000")
    assert (loaded["new"], loaded["known"], loaded["failed"], loaded["rejected"]) == (1, 0, 0, 0)
    assert loaded["files"][0]["n_rows"] == 2000
    assert as_json("status")["signals"] == {"pending": 1, "processing": 0, "completed": 0, "failed": 0}


def test_a_file_that_is_known_adds_nothing_even_renamed(tmp_path: Path, as_json: Callable[..., Any]) -> None:
    first = write_csv(tmp_path / "a.csv")
    as_json("ingest", str(first), "--sample-rate", "1000")
    first.rename(tmp_path / "b.csv")
    again = as_json("ingest", str(tmp_path / "b.csv"), "--sample-rate", "1000")
    assert (again["new"], again["known"]) == (0, 1)
    assert "a.csv" in again["files"][0]["message"]


def test_bad_content_becomes_a_failed_signal_and_the_exit_code_is_0(
    tmp_path: Path, as_json: Callable[..., Any]
) -> None:
    (tmp_path / "bad.csv").write_text("current_R,current_S,current_T\n1,2,3\n1,oops,3\n")
    write_csv(tmp_path / "good.csv")
    loaded = as_json("ingest", str(tmp_path), "--sample-rate", "1000")
    assert (loaded["new"], loaded["failed"]) == (1, 1)
    message = next(f["message"] for f in loaded["files"] if f["outcome"] == "failed")
    for part in ("bad.csv", "row 2", "current_S", "oops"):
        assert part in message
    assert as_json("status")["failures"] == {"csv_error": 1}


def test_a_file_that_cannot_be_read_is_rejected_and_the_exit_code_is_1(
    tmp_path: Path, as_json: Callable[..., Any]
) -> None:
    good = write_csv(tmp_path / "good.csv")
    loaded = as_json("ingest", str(tmp_path / "absent.csv"), str(good), "--sample-rate", "1000", code=1)
    assert (loaded["new"], loaded["rejected"]) == (1, 1)
    assert {f["reason"] for f in loaded["files"]} == {None, "not_found"}


def test_headerless_files_and_other_column_names_are_read_on_request(
    tmp_path: Path, as_json: Callable[..., Any]
) -> None:
    bare = write_csv(tmp_path / "bare.csv", header="", seed=1)
    named = write_csv(tmp_path / "named.csv", header="ia,ib,ic", seed=2)
    assert as_json("ingest", str(bare), "--sample-rate", "1000", "--no-header")["new"] == 1
    assert as_json("ingest", str(named), "--sample-rate", "1000", "--columns", "R=ia,S=ib,T=ic")["new"] == 1


def test_of_many_known_files_the_first_ten_have_a_line_and_the_others_a_number(tmp_path: Path, run: Run) -> None:
    for i in range(13):
        write_csv(tmp_path / f"{i:02}.csv", rows=1000, seed=i)
    run("ingest", str(tmp_path), "--sample-rate", "1000")
    for name in ("bad-1.csv", "bad-2.csv"):  # after the known ones, and each with a line of its own
        (tmp_path / name).write_text("current_R,current_S,current_T\n1,oops,3\n")
    (tmp_path / "x.csv").symlink_to(tmp_path / "absent.csv")
    again = run("ingest", str(tmp_path), "--sample-rate", "1000", code=1)
    lines = again.stderr.splitlines()
    assert len([line for line in lines if line.startswith("known ")]) == 10
    assert "… and 3 more known files (--json lists them all)" in lines
    assert len([line for line in lines if line.startswith("failed bad-")]) == 2
    assert len([line for line in lines if line.startswith("rejected ")]) == 1
    assert "13 known, 2 failed, 1 rejected" in again.stdout


def test_of_many_files_with_the_same_mistake_three_have_a_line_and_the_others_a_number_with_the_words(
    tmp_path: Path, run: Run
) -> None:
    for i in range(6):
        write_csv(tmp_path / f"{i}.csv", rows=1000, seed=i)
    (tmp_path / "other.csv").write_text("ia,ib,ic\n1,2,3\n")
    lines = run("ingest", str(tmp_path)).stderr.splitlines()
    same = "no sample rate; give it with --sample-rate, in Hz"
    assert [line for line in lines if same in line and line.startswith("failed ")] == [
        f"failed {i}.csv: {same}" for i in range(3)
    ]
    assert f"… and 4 more failed files (--json lists them all): {same}" in lines


def test_a_single_file_is_told_in_the_singular(tmp_path: Path, run: Run) -> None:
    write_csv(tmp_path / "a" / "one.csv", rows=1500)
    loaded = run("ingest", str(tmp_path), "--sample-rate", "1000")
    assert "1 of them says nowhere when it was recorded" in loaded.stderr
    worked = run("process")
    assert "1 signal done" in worked.stderr
    assert "1 signal went through this process" in worked.stdout
    assert "a: 2 windows are too few to learn from" in run("train", code=1).stderr
    assert "a: no forecast of rms_a, rms_b, rms_c: 1 hour since" in run("forecast").stdout


def test_a_wrong_option_names_itself(tmp_path: Path, run: Run) -> None:
    file = write_csv(tmp_path / "a.csv")
    assert "--recorded-at" in run("ingest", str(file), "--recorded-at", "yesterday", code=1).stderr
    assert "--columns" in run("ingest", str(file), "--columns", "X=1", code=1).stderr


def test_a_simulated_fleet_loads_with_one_file_failed(tmp_path: Path, run: Run, as_json: Callable[..., Any]) -> None:
    run("simulate", str(tmp_path / "fleet"), "--recordings", "2", "--seconds", "1.5", "--sample-rate", "2000")
    loaded = as_json("ingest", str(tmp_path / "fleet"), "--sample-rate", "2000")
    assert (loaded["new"], loaded["failed"], loaded["rejected"]) == (7, 1, 0)


def test_a_message_stands_on_one_line_and_names_its_file_once(tmp_path: Path, run: Run) -> None:
    (tmp_path / "bad.csv").write_text("current_R,current_S,current_T\n" + "1,oops,3\n" * 9)
    (line,) = run("ingest", str(tmp_path), "--sample-rate", "1000").stderr.splitlines()
    assert line.startswith("failed bad.csv: 9 cells")
    assert line.endswith("missing.")


def test_a_folder_without_csv_files_says_so_and_what_lies_there_instead(tmp_path: Path, run: Run) -> None:
    assert run("ingest", str(tmp_path)).stderr.splitlines()[-1].endswith(str(tmp_path))
    for name in ("a.txt", "b.txt", "c.csv.gz"):
        (tmp_path / name).write_text("1,2,3\n")
    (tmp_path / "saw").mkdir()
    (tmp_path / "saw" / "d.txt").write_text("1,2,3\n")
    line = run("ingest", str(tmp_path)).stderr
    assert ".csv" in line
    assert "3 .txt, 1 .gz" in line


def test_decimal_commas_are_read_on_request(tmp_path: Path, as_json: Callable[..., Any]) -> None:
    (tmp_path / "a.csv").write_text("current_R;current_S;current_T\n" + "1,5;-2,25;0\n" * 2000)
    loaded = as_json("ingest", str(tmp_path), "--sample-rate", "1000")
    assert "--decimal-comma" in loaded["files"][0]["message"]
    loaded = as_json("ingest", str(tmp_path), "--sample-rate", "1000", "--decimal-comma")
    assert (loaded["new"], loaded["files"][0]["n_rows"]) == (1, 2000)
    # the file is read again the same way when its samples are needed again
    assert as_json("process")["signals"]["completed"] == 1


def test_a_wrong_sample_rate_is_put_right_with_replace(
    tmp_path: Path, engine: Engine, run: Run, as_json: Callable[..., Any]
) -> None:
    write_csv(tmp_path / "pump" / "a.csv", rows=4000)
    run("ingest", str(tmp_path), "--sample-rate", "500")
    assert as_json("process")["features_total"] == 15
    again = run("ingest", str(tmp_path), "--sample-rate", "1000", "--replace")
    assert "replaces 1 signal, loaded as a.csv for pump" in again.stderr
    assert "rescore --equipment" in again.stderr
    found = as_json("process")
    assert (found["signals"]["completed"], found["processed"]) == (1, 1)
    assert count(engine, "features") == 7


def test_files_that_do_not_say_when_they_were_recorded_are_counted_once(tmp_path: Path, run: Run) -> None:
    for name in ("a.csv", "b.csv", "2025-08-25T12-00-00Z.csv"):
        write_csv(tmp_path / name, seed=len(name) + ord(name[0]))
    (line,) = run("ingest", str(tmp_path), "--sample-rate", "1000").stderr.splitlines()
    assert line.startswith("warning: 2 of them say nowhere when they were recorded")
    assert "warning" not in run("ingest", str(tmp_path), "--sample-rate", "1000").stderr


@pytest.mark.parametrize("rate", ["0", "-5", "nan", "inf"])
def test_a_sample_rate_that_is_none_stops_before_any_file_is_loaded(
    tmp_path: Path, run: Run, as_json: Callable[..., Any], rate: str
) -> None:
    write_csv(tmp_path / "a.csv")
    assert "--sample-rate" in run("ingest", str(tmp_path), "--sample-rate", rate, code=1).stderr
    assert sum(as_json("status")["signals"].values()) == 0


def test_a_fleet_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("")
    (line,) = run("simulate", str(tmp_path / "file"), code=1).stderr.splitlines()
    assert "cannot be written" in line


def test_an_empty_path_is_no_way_to_say_this_folder(
    tmp_path: Path, run: Run, as_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ingest "$FOLDER"` with the variable unset loaded whatever lay there."""
    write_csv(tmp_path / "here" / "a.csv")
    monkeypatch.chdir(tmp_path / "here")
    assert "empty path" in run("ingest", "", "--sample-rate", "1000", code=1).stderr
    assert "empty path" in run("ingest", ".", "", "--sample-rate", "1000", code=1).stderr
    assert sum(as_json("status")["signals"].values()) == 0


def test_entries_of_the_list_of_times_that_no_file_has_are_told(tmp_path: Path, run: Run) -> None:
    write_csv(tmp_path / "data" / "a.csv")
    listed = "".join(f"absent-{k:02}.csv,2025-08-25T12:00:00\n" for k in range(12))
    (tmp_path / "times.txt").write_text(f"file_name,recorded_at\na.csv,2025-08-25T12:00:00\n{listed}")
    arguments = ("ingest", str(tmp_path / "data"), "--sample-rate", "1000", "--times", str(tmp_path / "times.txt"))
    for _ in range(2):  # a known file has its entry, too
        (line,) = (line for line in run(*arguments).stderr.splitlines() if "--times" in line)
        assert "--times names 12 that were not among the files: absent-00.csv, absent-01.csv" in line
        assert line.endswith("absent-09.csv, and 2 more")


@pytest.mark.parametrize("time", ["9999-12-31T23-59-59Z", "0000-01-01T00-00-00Z", "2025-13-01T00-00-00"])
def test_a_time_in_a_name_that_cannot_be_is_named(tmp_path: Path, run: Run, time: str) -> None:
    write_csv(tmp_path / f"{time}.csv")
    write_csv(tmp_path / "serial-99999999999999.csv", seed=2)
    said = run("ingest", str(tmp_path), "--sample-rate", "1000").stderr
    assert f"none from 1970 to 2199: {time}.csv ({time})\n" in said


@pytest.mark.parametrize(
    "arguments", [("--seconds", "inf"), ("--seconds", "1e9"), ("--sample-rate", "1e300"), ("--sample-rate", "inf")]
)
def test_a_recording_without_end_is_not_simulated(tmp_path: Path, run: Run, arguments: tuple[str, str]) -> None:
    (line,) = run("simulate", str(tmp_path / "fleet"), *arguments, code=1).stderr.splitlines()
    assert "at most 20000000 samples" in line
    assert not (tmp_path / "fleet").exists()


def test_standard_output_on_a_full_disk_is_an_error_in_one_line(tmp_path: Path) -> None:
    """Nothing may be written here: the process has no room for a single byte of a file."""

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    with (tmp_path / "out").open("w") as out:
        done = subprocess.run([COMMAND, "--help"], stdout=out, stderr=subprocess.PIPE, preexec_fn=full, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == "error: standard output cannot be written: File too large\n"
