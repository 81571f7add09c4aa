"""A Redis, and daemon and workers on the files of `deploy/celery`, all real. Not here: tests."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import yaml

from signal_pipeline_tests.deploy.processes import BIN, ROOT, Site
from signal_pipeline_tests.programs import program

DEPLOY = ROOT / "deploy" / "celery"

Running = AbstractContextManager["subprocess.Popen[bytes]"]


def worker(site: Site, name: str) -> Running:
    """As `deploy/celery/README.md` starts one, with one slot."""
    command = ("dagster-celery", "worker", "start", "-A", "dagster_celery.app", "-y", str(DEPLOY / "worker.yaml"))
    return site.running(name, str(BIN / command[0]), *command[1:], "-n", name, "--", "--concurrency=1")


def daemon(site: Site) -> Running:
    return site.running("daemon", str(BIN / "dagster-daemon"), "run", "-w", str(ROOT / "workspace.yaml"))


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
