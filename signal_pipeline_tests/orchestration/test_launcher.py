"""Whether a run's process may still be there: asked of sockets and servers that are there, and of some that are not.

That a run of a Dagster which was killed whole is failed, and its slot free, `faults/test_dagster_killed.py` shows.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient

from signal_pipeline.orchestration.launcher import WatchfulRunLauncher
from signal_pipeline_tests.orchestration.serving import free_port

PATIENCE_SECONDS = 300

LITTLE_CODE = "from dagster import Definitions\ndefs = Definitions()\n"


def status(server: dict[str, Any] | None) -> WorkerStatus:
    tags = {} if server is None else {GRPC_INFO_TAG: json.dumps(server)}
    return WatchfulRunLauncher().check_run_worker_health(DagsterRun(job_name="any", tags=tags)).status


def test_a_run_is_gone_when_nobody_listens_at_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    where = {"host": "localhost", "socket": str(path)}
    assert status(where) is WorkerStatus.NOT_FOUND
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert status(where) is WorkerStatus.NOT_FOUND
        server.listen()
        assert status(where) is WorkerStatus.RUNNING
    assert path.exists(), "as a server that was killed leaves it"
    assert status(where) is WorkerStatus.NOT_FOUND


def test_nothing_is_known_of_a_run_that_no_code_server_started() -> None:
    assert status(None) is WorkerStatus.RUNNING


@contextmanager
def code_server(folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """As a container of `deploy/compose.yaml` runs it, on a port."""
    (folder / "little.py").write_text(LITTLE_CODE)
    command = [sys.executable, "-m", "dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {"DAGSTER_HOME": ""}
    with subprocess.Popen([*command, "-f", "little.py"], cwd=folder, env=environment) as process:
        client, deadline = DagsterGrpcClient(host="127.0.0.1", port=port), time.monotonic() + PATIENCE_SECONDS
        while not answers(client):
            assert process.poll() is None
            assert time.monotonic() < deadline
        yield process
        process.send_signal(signal.SIGKILL)


def answers(client: DagsterGrpcClient) -> bool:
    try:
        client.ping("")
    except DagsterUserCodeUnreachableError:
        time.sleep(0.2)
        return False
    return True


@pytest.mark.dagster
def test_a_run_is_gone_when_the_server_at_its_port_does_not_know_it_and_may_be_there_while_none_answers(
    tmp_path: Path,
) -> None:
    """A container that is started anew answers at the same port; a network that is away for a moment, not at all."""
    port = free_port()
    where = {"host": "127.0.0.1", "port": port}
    with code_server(tmp_path, port):
        assert status(where) is WorkerStatus.NOT_FOUND
    assert status(where) is WorkerStatus.RUNNING


def test_the_projects_instance_watches_its_runs(stored: DagsterInstance) -> None:
    assert isinstance(stored.run_launcher, WatchfulRunLauncher)
    assert stored.run_launcher.supports_check_run_worker_health
    assert stored.run_monitoring_enabled
