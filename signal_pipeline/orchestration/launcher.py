"""Dagster's own run launcher, which also says when a run's process is gone together with the server that started it.

A code server fails the runs whose processes die while it lives. When it dies, too (a machine that loses its power, a
`dagster dev` that is killed), nobody would: the runs would stand as started and hold their slots until
`max_runtime_seconds`, and with every slot held nothing would start. The daemon's run monitoring asks here instead, and
fails such runs. Their signals do not hang on it: leases bring those back. Not here: other launchers, which have their
own ways to know.
"""

import json
import socket
from typing import Any

from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

ANSWER_SECONDS = 10
ALIVE = CheckRunHealthResult(WorkerStatus.RUNNING)


class WatchfulRunLauncher(DefaultRunLauncher):
    """`DefaultRunLauncher` with a health check. In doubt a run counts as alive."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a started run may still be there.

        A server on a unix socket is a child of `dagster dev` on this machine: gone if nobody listens there. (Whether it
        knows the run says nothing: once its code is reloaded it does not.) A server on a port outlives its container,
        so it is asked; while it does not answer, nothing is known.
        """
        server: dict[str, Any] = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
        if "socket" in server:
            return ALIVE if _listens(server["socket"]) else _gone("nobody listens at the socket of its code server")
        if "port" in server and _is_forgotten(server, run.run_id):
            return _gone("its code server was started anew, and does not know it")
        return ALIVE


def _gone(why: str) -> CheckRunHealthResult:
    return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process is gone: {why}; its signals are taken over")


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(ANSWER_SECONDS)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # slow, or not for us to see
            return True
    return True


def _is_forgotten(server: dict[str, Any], run_id: str) -> bool:
    client = DagsterGrpcClient(host=server["host"], port=server["port"], use_ssl=bool(server.get("use_ssl")))
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id), timeout=ANSWER_SECONDS)
    except DagsterUserCodeUnreachableError:
        return False
    return not deserialize_value(answer, CanCancelExecutionResult).can_cancel
