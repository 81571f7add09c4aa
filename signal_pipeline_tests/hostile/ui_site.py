"""Dagster's real web server, read-only, on databases whose URLs carry passwords; and the real nginx of `deploy/nginx`.

Not here: tests.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from sqlalchemy.engine import make_url

from signal_pipeline.cli.environment import PROJECT_ROOT, Surroundings, prepare_dagster
from signal_pipeline.db.engine import create_engine
from signal_pipeline.settings import AppSettings, DatabaseSettings, ModelSettings, Settings
from signal_pipeline_tests.orchestration.serving import free_port

SECRET: Final = "hunter2-of-the-domain"  # noqa: S105  what must never be shown
DAGSTER_SECRET: Final = "hunter3-of-dagster"  # noqa: S105
PATIENCE_SECONDS: Final = 500
EXAMPLE: Final = PROJECT_ROOT / "deploy" / "nginx" / "signal_pipeline.conf"


def with_password(url: str, password: str) -> str:
    """`url` with a password that the tests' server does not ask for."""
    return make_url(url).set(password=password).render_as_string(hide_password=False)


@contextmanager
def web_server(url: str, dagster_url: str, home: Path) -> Iterator[tuple[int, Path]]:
    """The port of `dagster-webserver --read-only`, and its log."""
    settings = Settings(
        app=AppSettings(signal_pipeline_home=home),
        database=DatabaseSettings(dagster_database_url=SecretStr(with_password(dagster_url, DAGSTER_SECRET))),
        models=ModelSettings(models_dir=home / "models"),
    )
    engine = create_engine(with_password(url, SECRET), settings.database)
    here = Surroundings(settings, with_password(url, SECRET), engine, embedded=False)
    prepare_dagster(here)
    engine.dispose()
    port, log = free_port(), home / "webserver.log"
    program = Path(sys.executable).with_name("dagster-webserver")
    command: list[str | Path] = [
        program,
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-m",
        "signal_pipeline.definitions",
        "--read-only",
    ]
    with running(command, log, here.environment()) as process:
        wait_for(f"http://127.0.0.1:{port}/server_info", process, log)
        yield port, log


@contextmanager
def nginx(program: Path, changes: Mapping[str, str], folder: Path) -> Iterator[None]:
    """The example as it stands, with `changes` to its lines marked CHANGE; each must be there exactly once."""
    example = EXAMPLE.read_text()
    for line, mine in changes.items():
        assert example.count(line) == 1, line
        example = example.replace(line, mine)
    (folder / "site.conf").write_text(example)
    user = "user root;\n" if os.geteuid() == 0 else ""  # pytest's folders are closed to everybody else
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{ access_log {folder}/access.log; {temporary} include {folder}/site.conf; }}\n"
    )
    command: list[str | Path] = [program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    with running(command, folder / "nginx.log", os.environ):
        yield


@contextmanager
def running(
    command: list[str | Path], log: Path, environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """The program in a session of its own, ended with all its children."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  our own loopback
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.3)
    raise TimeoutError(f"{url} does not answer: {log.read_text()[-2000:]}")
