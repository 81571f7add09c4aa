"""The README's commands that end only by Ctrl-C do what it says beside them, and leave nothing behind.

The very lines of the page are typed. Where somebody already listens on the page's port, the remedy is typed too that
the page gives for it. Its sessions, which end by themselves, are run by `test_readme`.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from signal_pipeline_tests.cli.conftest import write_csv
from signal_pipeline_tests.db.rows import add_signals
from signal_pipeline_tests.docs.terminal import Terminal, line_of, wait_until
from signal_pipeline_tests.orchestration.serving import free_port
from signal_pipeline_tests.signals import value

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
FAMILY = re.compile(r"^\| `(signal_pipeline_\w+)` \| (\w+) \|", re.MULTILINE)
NOT_YET = {
    "signal_pipeline_last_success_timestamp_seconds",
    "signal_pipeline_dagster_daemon_last_heartbeat_timestamp_seconds",
}
"""Families that the runbook says are absent where nothing was completed, and no daemon ever ran."""

DAEMONS = """
query Daemons { instance { daemonHealth { allDaemonStatuses { daemonType required healthy lastHeartbeatTime } } } }
"""


def fetch(url: str, body: bytes | None = None) -> str | None:
    """What the loopback answers with 200; None while nobody does."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} if body else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  our own loopback
            return str(answer.read().decode())
    except OSError:
        return None


def address(terminal: Terminal) -> str:
    """The loopback address that it says it serves."""
    found = re.search(r"http://127\.0\.0\.1:\d+", terminal.shown())
    assert found, terminal.shown()
    return found[0]


def type_until_it_serves(line: str, remedy: tuple[str, Mapping[str, str]], **where: Any) -> Terminal:
    """A terminal in which `line` serves; the `remedy` (words behind it, variables before it) if its port is taken."""
    terminal = Terminal(line, **where)
    wait_until(lambda: "http://127.0.0.1" in terminal.shown() or terminal.process.poll() is not None, line)
    if terminal.process.poll() is None:
        return terminal
    shown = terminal.shown()
    assert "is taken" in shown or "Address already in use" in shown, shown
    words, variables = remedy
    terminal = Terminal(re.sub(r"(  #|$)", f" {words}\\1", line, count=1), **where | {"environment": variables})
    wait_until(lambda: "http://127.0.0.1" in terminal.shown(), terminal.line, terminal)
    return terminal


@pytest.mark.processes
def test_metrics_answers_where_the_readme_says_with_what_the_runbook_names_until_ctrl_c(
    tmp_path: Path, engine: Engine, database_url: str, empty_database_url: str
) -> None:
    line = line_of(README, "signal-pipeline metrics")
    (promised,) = re.findall(r"http://\S+?(?=,)", line)
    add_signals(engine, 3)
    environment = {"DATABASE_URL": database_url, "DAGSTER_DATABASE_URL": empty_database_url}
    port = str(free_port())
    remedy = ("", environment | {"METRICS_PORT": port})
    with type_until_it_serves(line, remedy, folder=tmp_path, environment=environment) as terminal:
        assert f"metrics on {promised}" in terminal.shown() or f":{port}/metrics" in terminal.shown()
        url = f"{address(terminal)}/metrics"

        def page() -> str:
            return fetch(url) or ""

        wait_until(lambda: 'signal_pipeline_signals{status="pending"} 3.0' in page(), "three are pending", terminal)
        named = dict(FAMILY.findall((ROOT / "docs" / "operations.md").read_text(encoding="utf-8")))
        served = dict(re.findall(r"^# TYPE (signal_pipeline_\w+) (\w+)$", page(), re.MULTILINE))
        assert len(named) > 25
        assert {name: kind for name, kind in named.items() if name not in served and name not in NOT_YET} == {}
        assert {name: kind for name, kind in served.items() if named.get(name) != kind} == {}
        # the values are the database's, not those of the exporter's start
        add_signals(engine, 2)
        wait_until(lambda: 'signal_pipeline_signals{status="pending"} 5.0' in page(), "five are pending", terminal)
        assert terminal.press_ctrl_c() == 0, terminal.shown()
        assert "Traceback" not in terminal.shown()
        wait_until(lambda: terminal.left() == [], "nothing is left")
    assert fetch(url) is None
    assert value(engine, "SELECT count(*) FROM raw_signals") == 5


def ended(command: str, folder: Path, environment: Mapping[str, str]) -> str:
    """What a command that ends by itself prints, typed into another terminal; it must succeed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | environment | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


@pytest.mark.dagster
def test_dev_serves_the_ui_and_processes_whatever_arrives_until_ctrl_c(tmp_path: Path) -> None:
    """On the embedded database that a person without DATABASE_URL has, which must end with it, too."""
    environment: dict[str, str] = {}
    remedy = (f"--port {free_port()}", environment)
    line = line_of(README, "signal-pipeline dev")
    with type_until_it_serves(line, remedy, folder=tmp_path, environment=environment) as terminal:
        graphql = f"{address(terminal)}/graphql"
        health = json.dumps({"query": DAEMONS}).encode()

        def daemons() -> list[dict[str, Any]]:
            answer = json.loads(fetch(graphql, health) or "{}")
            found = answer.get("data", {}).get("instance", {}).get("daemonHealth", {})
            return [one for one in found.get("allDaemonStatuses", []) if one["required"]]

        wait_until(
            lambda: {"SENSOR", "SCHEDULER"} <= {one["daemonType"] for one in daemons() if one["healthy"]},
            "the daemons beat",
            terminal,
        )
        write_csv(tmp_path / "recordings" / "pump-1" / "2025-08-25T12-00-00Z.csv", rows=3000)
        loaded = ended("signal-pipeline ingest recordings --sample-rate 1000", tmp_path, environment)
        assert "1 new, 0 known, 0 failed" in loaded

        def is_completed() -> bool:
            found = json.loads(ended("signal-pipeline status --json", tmp_path, environment))
            return bool(found["signals"]["completed"] == 1)

        wait_until(is_completed, "what arrived is completed", terminal)
        assert "ok   daemon" in ended("signal-pipeline health", tmp_path, environment)
        assert terminal.press_ctrl_c() == 0, terminal.shown()
        assert terminal.shown().rstrip().endswith("stopped")
        assert "Traceback" not in terminal.shown()
        assert "signal.completed" in terminal.shown()
        # neither advice that is meant for others, nor a line every few seconds that nothing happened
        assert [line for line in terminal.shown().splitlines() if re.search("supersed|SensorDaemon", line)] == []
        wait_until(lambda: terminal.left() == [], "nothing is left")
    assert fetch(graphql, health) is None
