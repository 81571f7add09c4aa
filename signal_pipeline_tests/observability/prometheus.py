"""A real exporter and a real Prometheus for tests: two processes on loopback, waited for by asking them."""

import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from signal_pipeline_tests.programs import program

T = TypeVar("T")

DEADLINE = 120.0
"""Seconds after which something counts as hung, on a machine that is busy with other things."""

HASTE = {"scrape_interval": "2s", "scrape_timeout": "2s"}


def wait_for(look: Callable[[], T | None], what: str) -> T:
    """The first answer that is not None or empty; polls."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {DEADLINE:g} s")


def fetch(url: str) -> str | None:
    """The body of an answer of 200; None while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310  loopback only
            return str(answer.read().decode())
    except OSError:
        return None


@contextmanager
def exporter(database_url: str, home: Path, **settings: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`signal-pipeline metrics` as a process; its address (host:port) and itself."""
    environment = os.environ | {"DATABASE_URL": database_url, "SIGNAL_PIPELINE_HOME": str(home)}
    environment |= {"METRICS_CACHE_SECONDS": "0", "METRICS_TIMEOUT_SECONDS": "60", "COLUMNS": "200"} | settings
    command = [str(Path(sys.executable).with_name("signal-pipeline")), "metrics", "--port", "0"]
    log = home / "exporter.log"
    home.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, text=True, cwd=home)
    try:
        line = wait_for(
            lambda: next((one for one in log.read_text().splitlines() if "metrics on http://" in one), None),
            "the exporter listens",
        )
        yield line.split("http://")[1].split("/")[0], process
    finally:
        process.terminate()
        process.wait(DEADLINE)


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    address: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector that `expression` is now. Raises `AssertionError` with Prometheus's own words."""
        body = fetch(f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        assert body is not None, f"Prometheus refuses {expression}"
        found: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return found

    def value(self, expression: str) -> float:
        """The value of an expression that gives exactly one."""
        (one,) = self.query(expression)
        return float(one["value"][1])


@contextmanager
def prometheus(folder: Path, targets: list[str], pace: Mapping[str, str] = HASTE) -> Iterator[Prometheus]:
    """Prometheus scraping `targets`, ready; `pace` is the `global` part of its configuration."""
    binary = program("prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    scrape = {"job_name": "signal_pipeline", "static_configs": [{"targets": targets}]}
    configuration = {"global": dict(pace), "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [
        str(binary),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        "--web.listen-address=127.0.0.1:0",
    ]
    log = folder / "prometheus.log"
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream)
    try:
        address = wait_for(lambda: _address(log), "Prometheus listens")
        wait_for(lambda: fetch(f"http://{address}/-/ready"), "Prometheus is ready")
        yield Prometheus(address)
    finally:
        process.terminate()
        process.wait(DEADLINE)


def _address(log: Path) -> str | None:
    for line in log.read_text().splitlines():
        if "Listening on" in line and "address=" in line:
            return line.split("address=")[1].split()[0]
    return None
