"""A Redis, a Dagster daemon and Celery workers on the files of `deploy/celery`, all real. Not here: tests."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from signal_pipeline_tests.programs import program

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "celery"
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

    def worker(self, name: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
        """As `deploy/celery/README.md` starts one, with one slot."""
        command = ("dagster-celery", "worker", "start", "-A", "dagster_celery.app", "-y", str(DEPLOY / "worker.yaml"))
        return self.running(name, str(BIN / command[0]), *command[1:], "-n", name, "--", "--concurrency=1")

    def daemon(self) -> AbstractContextManager["subprocess.Popen[bytes]"]:
        workspace = str(ROOT / "workspace.yaml")
        return self.running("daemon", str(BIN / "dagster-daemon"), "run", "-w", workspace)

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


@contextmanager
def site(folder: Path, *, database_url: str, dagster_url: str, poll_seconds: int, **environment: str) -> Iterator[Site]:
    """A Redis on a unix socket, and Dagster's home with the deployment's `dagster.yaml`, polled more often."""
    socket = folder / "redis.sock"
    home = folder / "dagster_home"
    home.mkdir()
    configuration = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    configuration["run_monitoring"]["poll_interval_seconds"] = poll_seconds
    (home / "dagster.yaml").write_text(yaml.safe_dump(configuration))
    variables = os.environ | {
        "DATABASE_URL": database_url,
        "DAGSTER_DATABASE_URL": dagster_url,
        "DAGSTER_HOME": str(home),
        "MODELS_DIR": str(folder / "models"),
        "CELERY_BROKER_URL": f"redis+socket://{socket}",
        "CELERY_RESULT_BACKEND": f"redis+socket://{socket}",
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        **environment,
    }
    made = Site(folder, variables)
    redis = program("redis-server")
    options = ("--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", str(folder))
    with made.running("redis", str(redis), *options):
        made.wait_until(socket.exists, "Redis listens")
        yield made
