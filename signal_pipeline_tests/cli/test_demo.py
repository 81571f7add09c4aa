"""`signal-pipeline demo` as a newcomer runs it: real server, daemon and sensor, and nothing left behind."""

import os
import re
import signal
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, text

from signal_pipeline.cli.environment import PROJECT_ROOT
from signal_pipeline_tests.cli.conftest import COMMAND, write_csv
from signal_pipeline_tests.signals import count, statuses

pytestmark = pytest.mark.dagster


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def leftovers(home: Path) -> list[str]:
    """Processes that still carry this home in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SIGNAL_PIPELINE_HOME") == str(home) and process.pid != os.getpid():
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_a_demo_of_own_files_completes_them_and_a_second_one_adds_nothing(
    pipeline_environment: dict[str, str], engine: Engine, tmp_path: Path
) -> None:
    for i in range(4):
        write_csv(tmp_path / "data" / f"{i}.csv", seed=i, rows=2000 if i else 400)
    # of the folder where the person stands: loading and Dagster must both go by it
    (tmp_path / ".env").write_text("WINDOW_MS=500\n")
    command = [COMMAND, "demo", "--once", "--data", str(tmp_path / "data"), "--sample-rate", "1000"]
    # the failed file is loaded afresh: its row is replaced, and fails again
    for expected in ("4 new, 0 known", "1 new, 3 known"):
        finished = subprocess.run(
            [*command, "--port", str(free_port())],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert expected in finished.stdout
        assert sorted(statuses(engine).values()) == ["completed", "completed", "completed", "failed"]
        assert count(engine, "features") == 21
        # the UI shows what the checks found at once, not only after the next full hour
        assert "asset checks: 7 of 8 passed; not passed: few_signals_fail" in finished.stdout
    assert "insufficient_data" in finished.stdout
    assert "one as a page: signal-pipeline report --equipment data\n" in finished.stdout
    assert "lineage, partitions and runs" not in finished.stdout  # of a UI that has ended
    assert leftovers(Path(pipeline_environment["SIGNAL_PIPELINE_HOME"])) == []


def shape(printed: str) -> list[str]:
    """The lines of a summary by how they begin: a table's label, a heading with its colon, or two words."""
    lines = [re.split(r"\s{2,}|(?<=:) ", line.rstrip())[0] for line in printed.splitlines()]
    return [" ".join(line.split()[:2]) for line in lines if line]


def in_the_readme() -> str:
    """What the README says that the demo prints in the end."""
    found = re.search(
        r"^```text\n(4 done\n.*?)^```$", (PROJECT_ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert found
    return found[1]


def test_a_demo_of_simulated_motors_finds_the_fault_it_simulated_and_a_second_one_adds_nothing(
    pipeline_environment: dict[str, str], engine: Engine, tmp_path: Path
) -> None:
    home = Path(pipeline_environment["SIGNAL_PIPELINE_HOME"])
    for loaded in (
        ("31 new, 0 known, 1 failed", "288 new, 0 known"),
        ("1 new, 30 known, 1 failed", "0 new, 288 known"),
    ):
        finished = subprocess.run(
            [COMMAND, "demo", "--once", "--port", str(free_port())],
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "100"},  # as wide as the README's
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert shape(finished.stdout[finished.stdout.index("4 done") :]) == shape(in_the_readme())
        for part in (
            *loaded,
            "blower-4 is anomalous since 2025-08-2",
            "Forecast: up to ",
            "asset checks: 8 of 8 passed",
            f"report: {home}/report-blower-4",
        ):
            assert part in finished.stdout
        tables = ("raw_signals", "features", "anomaly_scores", "anomaly_events", "forecasts")
        assert [count(engine, table) for table in tables] == [320, 858, 288, 1, 72]
        assert sorted(statuses(engine).values()).count("completed") == 318
        assert len(list((home / "demo-models" / "anomaly_detection").glob("2*"))) == 1
    with engine.connect() as conn:
        event = conn.execute(text("SELECT started_at, is_open FROM anomaly_events")).one()
    assert event.is_open
    assert datetime(2025, 8, 24, 12, tzinfo=UTC) <= event.started_at < datetime(2025, 8, 25, 12, tzinfo=UTC)
    assert "Anomaly scores" in (home / "report-blower-4.html").read_text()
    # the person's own recordings are not scored by a model of simulated motors
    assert not Path(pipeline_environment["MODELS_DIR"]).exists()
    assert leftovers(home) == []


# SIGKILL too: nothing of ours can clean up then, so the children must notice by themselves; and one that cannot, is
# killed. Also by somebody who has pressed Ctrl-C and then lost patience.
@pytest.mark.parametrize(
    ("numbers", "stuck"),
    [
        ([signal.SIGINT], False),
        ([signal.SIGKILL], False),
        ([signal.SIGKILL], True),
        ([signal.SIGINT, signal.SIGKILL], True),
    ],
)
def test_a_demo_that_is_stopped_leaves_no_process_behind(
    pipeline_environment: dict[str, str], tmp_path: Path, numbers: list[signal.Signals], *, stuck: bool
) -> None:
    write_csv(tmp_path / "data" / "0.csv")
    command = [COMMAND, "demo", "--data", str(tmp_path / "data"), "--sample-rate", "1000", "--port", str(free_port())]
    with (tmp_path / "out").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 240
    while "lineage, partitions and runs" not in (tmp_path / "out").read_text():
        assert process.poll() is None, (tmp_path / "out").read_text()
        assert time.monotonic() < deadline, (tmp_path / "out").read_text()
        time.sleep(0.3)
    if stuck:
        family = psutil.Process(process.pid).children(recursive=True)
        (daemon,) = (child for child in family if "dagster._daemon" in child.cmdline())
        daemon.suspend()
    for number in numbers:
        process.send_signal(number)
        time.sleep(2)
    assert process.wait(60) == (0 if number == signal.SIGINT else -number)
    home = Path(pipeline_environment["SIGNAL_PIPELINE_HOME"])
    deadline = time.monotonic() + 60
    while leftovers(home) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert leftovers(home) == []
