"""Dagster's UI behind the nginx example: nobody without a login, live updates with one; and no password in it."""

import base64
import json
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from signal_pipeline_tests.hostile import tls, ui_site
from signal_pipeline_tests.hostile.ui_site import DAGSTER_SECRET, SECRET
from signal_pipeline_tests.orchestration.serving import LOCATION, database, free_port
from signal_pipeline_tests.programs import program

pytestmark = [pytest.mark.dagster, pytest.mark.programs]

LOGIN = "Basic " + base64.b64encode(b"ann:correct horse").decode()
WRONG_LOGIN = "Basic " + base64.b64encode(b"ann:battery staple").decode()

SHOWN = """
{ instance { info runLauncher { name } executablePath daemonHealth { allDaemonStatuses { daemonType } } }
  workspaceOrError { ... on Workspace { locationEntries { name displayMetadata { key value }
    locationOrLoadError { __typename ... on PythonError { message } } } } } }
"""
RESOURCES = """
query Resources($at: RepositorySelector!) {
  allTopLevelResourceDetailsOrError(repositorySelector: $at) { __typename
    ... on ResourceDetailsList { results { name description configuredValues { key value } } } } }
"""
ADD_KEY = """
mutation Add($at: RepositorySelector!) {
  addDynamicPartition(repositorySelector: $at, partitionsDefName: "signals", partitionKey: "x") { __typename }
}
"""


@dataclass(frozen=True)
class Site:
    """The web server itself, and nginx before it by TLS."""

    dagster_port: int
    port: int
    trust: ssl.SSLContext
    dagster_log: Path

    def get(self, path: str, *, login: str | None = None, body: object = None) -> tuple[int, str]:
        """Status and body of an answer that came through nginx."""
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}")
        if login:
            request.add_header("Authorization", login)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=200, context=self.trust) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def upgrade(self, login: str | None) -> str:
        """The first line of the answer to a browser that asks for a WebSocket, and then for subscriptions."""
        lines = [
            "GET /graphql HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Protocol: graphql-ws",
            *([f"Authorization: {login}"] if login else []),
        ]
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=200) as plain,
            self.trust.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            return connection.recv(4096).decode(errors="replace").splitlines()[0]


@pytest.fixture(scope="module")
def site(server_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    executable = program("nginx")
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("nginx")
    authority = tls.authority(folder, "site")
    (folder / "htpasswd").write_text("ann:{PLAIN}correct horse\n")
    port = free_port()
    with (
        database(server_url, template_database) as url,
        database(server_url) as dagster_url,
        ui_site.web_server(url, dagster_url, home) as (dagster_port, log),
    ):
        changes = {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "pipeline.example.org;": "127.0.0.1;",
            "/etc/nginx/signal_pipeline.crt;": f"{authority.served};",
            "/etc/nginx/signal_pipeline.key;": f"{authority.served};",
            "/etc/nginx/signal_pipeline.htpasswd;": f"{folder}/htpasswd;",
            "http://127.0.0.1:3000;": f"http://127.0.0.1:{dagster_port};",
        }
        with ui_site.nginx(executable, changes, folder):
            found = Site(dagster_port, port, ssl.create_default_context(cafile=authority.certificate), log)
            wait_until_up(found, folder / "error.log")
            yield found


def wait_until_up(site: Site, log: Path) -> None:
    deadline = time.monotonic() + ui_site.PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            site.get("/")
        except urllib.error.URLError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(log.read_text())


@pytest.mark.parametrize("path", ["/", "/server_info", "/graphql", "/runs", "/locations"])
@pytest.mark.parametrize("login", [None, WRONG_LOGIN, "Bearer ann", "Basic !"])
def test_nobody_comes_in_without_a_login(site: Site, path: str, login: str | None) -> None:
    status, body = site.get(path, login=login)
    assert status == 401
    assert "dagster" not in body.lower()


def test_with_a_login_the_ui_and_its_api_answer(site: Site) -> None:
    assert "Dagster" in site.get("/", login=LOGIN)[1]
    status, body = site.get("/graphql", login=LOGIN, body={"query": "{ version }"})
    assert (status, "version" in json.loads(body)["data"]) == (200, True)


def test_live_updates_pass_with_a_login_and_not_without(site: Site) -> None:
    assert " 101 " in site.upgrade(LOGIN)
    assert " 401 " in site.upgrade(None)


def test_a_web_server_that_is_read_only_changes_nothing(site: Site) -> None:
    _, body = site.get("/graphql", login=LOGIN, body={"query": ADD_KEY, "variables": {"at": LOCATION}})
    assert "UnauthorizedError" in body


def test_no_password_stands_anywhere_in_the_ui(site: Site) -> None:
    pages = [
        site.get("/graphql", login=LOGIN, body={"query": q, "variables": {"at": LOCATION}}) for q in (SHOWN, RESOURCES)
    ]
    assert [status for status, _ in pages] == [200, 200], pages
    told = "".join(body for _, body in pages)
    assert "event_log_storage: BatchingEventLogStorage" in told
    assert "worker" in told
    for secret in (SECRET, DAGSTER_SECRET):
        assert secret not in told
        assert secret not in site.dagster_log.read_text()
