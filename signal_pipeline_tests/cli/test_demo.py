"""`signal-pipeline demo` as a newcomer runs it: real server, daemon and sensor, and nothing left behind."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

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
    assert "insufficient_data" in finished.stdout
    assert leftovers(Path(pipeline_environment["SIGNAL_PIPELINE_HOME"])) == []


# SIGKILL too: nothing of ours can clean up then, so the children must notice by themselves.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_no_process_behind(
    pipeline_environment: dict[str, str], tmp_path: Path, number: signal.Signals
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
    process.send_signal(number)
    assert process.wait(60) == (0 if number == signal.SIGINT else -number)
    home = Path(pipeline_environment["SIGNAL_PIPELINE_HOME"])
    deadline = time.monotonic() + 60
    while leftovers(home) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert leftovers(home) == []
