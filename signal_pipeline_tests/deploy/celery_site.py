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
def redis(site: Site) -> Iterator[None]:
    """A Redis on a unix socket, which keeps its tasks over a restart, as the README advises."""
    options = ("--port", "0", "--unixsocket", str(socket_of(site.folder)), "--save", "", "--appendonly", "yes")
    with site.running("redis", str(program("redis-server")), *options, "--dir", str(site.folder)):
        site.wait_until(socket_of(site.folder).exists, "Redis listens")
        yield
    socket_of(site.folder).unlink(missing_ok=True)


def socket_of(folder: Path) -> Path:
    return folder / "redis.sock"


def make_site(folder: Path, *, database_url: str, dagster_url: str, poll_seconds: int, **environment: str) -> Site:
    """Dagster's home with the deployment's `dagster.yaml`, polled more often; nothing runs yet."""
    home = folder / "dagster_home"
    home.mkdir()
    configuration = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    configuration["run_monitoring"]["poll_interval_seconds"] = poll_seconds
    (home / "dagster.yaml").write_text(yaml.safe_dump(configuration))
    variables = {
        "DATABASE_URL": database_url,
        "DAGSTER_DATABASE_URL": dagster_url,
        "DAGSTER_HOME": str(home),
        "MODELS_DIR": str(folder / "models"),
        "CELERY_BROKER_URL": f"redis+socket://{socket_of(folder)}",
        "CELERY_RESULT_BACKEND": f"redis+socket://{socket_of(folder)}",
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }
    return Site(folder, os.environ | variables | environment)
