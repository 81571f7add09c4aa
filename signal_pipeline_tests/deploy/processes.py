"""Programs that a deployment starts, as processes of a test: each with a session and a log of its own.

Not here: which programs (the tests), and how any deployment configures them.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 600
STOP_SECONDS = 60


@dataclass(frozen=True)
class Site:
    """Where everything lives; `environment` is what daemon and workers are started with."""

    folder: Path
    environment: dict[str, str]

    @contextmanager
    def running(self, name: str, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A process with a session of its own and a log; when the block ends, nothing of it is left."""
        with self.log(name).open("ab") as output:
            process = subprocess.Popen(
                command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            end(process)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Poll. Raises `TimeoutError` with the end of every log."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(
                    f"{p.name}: {p.read_text(errors='replace')[-3000:]}" for p in self.folder.glob("*.log")
                )
                raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS} s\n{logs}")
            time.sleep(0.2)


def family(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The process and all below it: of a worker the wrapper, Celery's main process and its pool."""
    try:
        head = psutil.Process(process.pid)
        return [head, *head.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to all of its session, patience, force."""
    members = family(process)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(members, timeout=STOP_SECONDS)
    for member in alive:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(STOP_SECONDS)
