"""Dagster's UI, daemon and code server as children of this command: started, awaited, and ended without remains."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

import psutil
import structlog

from signal_pipeline.cli.environment import PROJECT_ROOT, Surroundings, prepare_dagster
from signal_pipeline.errors import SettingsError, SignalPipelineError

log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
START_SECONDS = 300
STOP_SECONDS = 20
SUPERSEDED = "ignore:Function `dev_command` is superseded"
"""Advice of Dagster's to whoever types its command; our reader has typed ours."""
PR_SET_PDEATHSIG = 1
"""From Linux' <sys/prctl.h>."""


class Stopped(Exception):
    """SIGINT or SIGTERM arrived."""


class DagsterServer:
    """A running `dagster dev`."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log_file: Path | None) -> None:
        self.process = process
        self.url = f"http://{HOST}:{port}"
        self._log_file = log_file

    def wait_until_ready(self) -> None:
        """Until the UI answers. Raises `SignalPipelineError` with the end of the log if it does not."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(f"{self.url}/server_info", timeout=2):  # noqa: S310  our own loopback
                    return
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.3)
        raise SignalPipelineError(
            f"Dagster's UI did not answer at {self.url} within {START_SECONDS} s.{self._log_end()}"
        )

    def check(self) -> None:
        """Raise `SignalPipelineError` if Dagster has ended by itself."""
        code = self.process.poll()
        if code is not None:
            raise SignalPipelineError(f"Dagster ended by itself (exit code {code}).{self._log_end()}")

    def _log_end(self) -> str:
        if self._log_file is None:
            return ""
        lines = self._log_file.read_text(errors="replace").splitlines()[-20:]
        return f" The end of {self._log_file}:\n  " + "\n  ".join(lines)


@contextmanager
def dagster_server(here: Surroundings, *, port: int, quiet: bool) -> Iterator[DagsterServer]:
    """UI and daemon on `port`; `quiet` sends their output to a file in Dagster's home. Gone when the block ends."""
    _require_free(port)
    prepare_dagster(here)
    log_file = here.dagster_home / "dagster.log" if quiet else None
    command = [sys.executable, "-W", SUPERSEDED, "-m", "dagster", "dev", "-w", str(PROJECT_ROOT / "workspace.yaml")]
    # at INFO each of its daemons has a line every few seconds that nothing happened
    command += ["-h", HOST, "-p", str(port), "--code-server-log-level", "warning", "--log-level", "warning"]
    command += ["--log-format", "json" if here.settings.app.log_format == "json" else "colored"]
    with _output(log_file) as output:
        process = subprocess.Popen(  # noqa: S603  our own command
            command,
            # In the person's folder: its `.env` and relative paths must mean the same to Dagster as to us.
            env=here.environment(),
            stdout=output,
            stderr=subprocess.STDOUT if quiet else None,
            stdin=subprocess.DEVNULL,
            # Ctrl-C in the terminal is for us; we end the children in order.
            start_new_session=True,
            # A launcher in the background ignores SIGINT, and children inherit that: Dagster would never stop.
            preexec_fn=_child_starts,  # noqa: PLW1509  before any thread of ours
        )
        with _reaper(process.pid):  # until the end of the orderly end: whoever has pressed Ctrl-C may lose patience
            try:
                yield DagsterServer(process, port, log_file)
            finally:
                _end(process)


@contextmanager
def _reaper(group: int) -> Iterator[None]:
    """For the case that we are killed: SIGTERM reaches Dagster then (`_child_starts`), but its daemon may wait for a
    code server that has gone, and nobody would end it. A shell reads a pipe that only we hold open."""
    wait = f"read _; sleep {STOP_SECONDS}; kill -KILL -{group} 2>/dev/null"
    with subprocess.Popen(["/bin/sh", "-c", wait], stdin=subprocess.PIPE, start_new_session=True) as reaper:  # noqa: S603
        try:
            yield
        finally:
            reaper.kill()


@contextmanager
def _output(log_file: Path | None) -> Iterator[IO[bytes] | None]:
    if log_file is None:
        yield None
        return
    with log_file.open("wb") as output:
        yield output


def _child_starts() -> None:
    """In the child, before Dagster: default signals, and on Linux SIGTERM should we die without ending it ourselves."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SettingsError(
                f"port {port} on {HOST} is taken ({error.strerror}): choose another with --port"
            ) from None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, patience, and then whatever is left of the whole family is killed."""
    family = _family(process)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("dagster.slow_to_stop", seconds=STOP_SECONDS)
    _, alive = psutil.wait_procs(family, timeout=5)
    for member in alive:
        member.kill()
    psutil.wait_procs(alive, timeout=5)
    process.poll()  # reaped behind its back: it would take itself for still running


def _family(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The process and its children's children, and orphans of its session."""
    try:
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    known = {member.pid for member in family}
    return family + [p for p in psutil.process_iter() if p.pid not in known and _session(p.pid) == process.pid]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Stopped` in the block, once; a second one is ignored while we clean up."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
