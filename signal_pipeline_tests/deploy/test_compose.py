"""`deploy/compose.yaml` and the Dockerfile, as far as a machine without a container engine can check them.

Here: that everything they name is there, that nothing listens where it should not, and that the services' own commands
work together (on loopback, without containers). Not tried: building the image, and starting it.
"""

import os
import re
import shutil
import subprocess
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from signal_pipeline.settings import Settings
from signal_pipeline_tests.deploy.processes import BIN, ROOT, Site
from signal_pipeline_tests.orchestration.serving import free_port
from signal_pipeline_tests.programs import program
from signal_pipeline_tests.signals import count, insert_signals, statuses, value

DEPLOY = ROOT / "deploy"
VARIABLE = re.compile(r"\$\{(\w+)(:?[-?])?([^}]*)\}")
WORKSPACE = "/etc/signal_pipeline/workspace.yaml"


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


SERVICES: dict[str, dict[str, Any]] = compose()["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def commands() -> dict[str, list[str]]:
    """Every command that our image runs, health checks included."""
    checks = {f"{n} health": s["healthcheck"]["test"][1:] for n, s in OURS.items() if "test" in s["healthcheck"]}
    pods = {f"{m['kind']} in kubernetes": container_of(m)["command"] for m in extras()}
    return {name: service["command"] for name, service in OURS.items()} | checks | pods


def extras() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / "extras.yaml").read_text()))


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


@cache
def help_of(command: tuple[str, ...]) -> str:
    environment = os.environ | {"COLUMNS": "200", "TERM": "dumb"}
    asked = [str(BIN / command[0]), *command[1:], "--help"]
    done = subprocess.run(asked, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "command"), commands().items(), ids=commands().keys())
def test_every_command_of_our_image_exists_with_its_options(name: str, command: list[str]) -> None:
    if command[0] == "python":
        assert command[1] == "-c"
        compile(command[2], name, "exec")
        return
    first_option = next((i for i, word in enumerate(command) if word.startswith("-")), len(command))
    said = help_of(tuple(command[:first_option]))
    for option in (word for word in command if word.startswith("-")):
        assert re.search(rf"{option}\b", said), f"{name}: {option} is no option of {command[:first_option]}"


def test_every_variable_has_a_default_or_is_explained() -> None:
    """And a secret has none: it must be set."""
    example = (DEPLOY / ".env.example").read_text()
    explained = set(re.findall(r"^#?(\w+)=", example, re.MULTILINE))
    used = VARIABLE.findall((DEPLOY / "compose.yaml").read_text())
    assert explained <= {name for name, _, _ in used}
    assert {name for name, _, _ in used} <= explained | settings()
    secrets = set(re.findall(r"^(\w+)=$", example, re.MULTILINE))
    assert {name for name, kind, _ in used if kind == ":?"} == secrets
    assert {name for name, kind, _ in used if not kind} <= secrets


def settings() -> set[str]:
    return {name.upper() for group in Settings.model_fields.values() for name in group.annotation.model_fields}  # type: ignore[union-attr]


def test_every_setting_of_the_services_is_one_of_ours() -> None:
    for service in OURS.values():
        assert service["environment"].keys() <= settings()


def test_a_setting_in_deploy_env_reaches_the_services_or_is_named_as_fixed() -> None:
    """None is silently ignored: an empty one would mean its default."""
    fixed = {"SIGNAL_PIPELINE_HOME", "MODELS_DIR", "METRICS_HOST", "METRICS_PORT"}  # by the image, volumes, a command
    for service in OURS.values():
        given = service["environment"]
        assert given.keys() | fixed == settings()
        forwarded = {name for name, value in given.items() if str(value).startswith(f"${{{name}:-")}
        said = (DEPLOY / ".env.example").read_text()
        assert all(re.search(rf"^# .*\b{name}\b", said, re.MULTILINE) for name in settings() - forwarded)


def test_every_file_that_is_mounted_exists_and_every_volume_is_declared() -> None:
    declared = compose()["volumes"].keys()
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source, target, *mode = re.sub(VARIABLE, lambda found: found[3], volume).split(":")
            assert target.startswith("/")
            if source.startswith("."):
                assert mode == ["ro"]
                assert (DEPLOY / source).exists() or "RECORDINGS" in volume, source
            else:
                assert source in declared


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert "ports" not in SERVICES["postgres"]
    assert not any("network_mode" in service or "privileged" in service for service in SERVICES.values())


def test_services_wait_for_services_that_can_say_that_they_are_ready() -> None:
    for service in SERVICES.values():
        for other, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"]
            else:
                assert wanted["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "no"


def test_our_services_may_gain_no_rights() -> None:
    for service in OURS.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.programs
def test_prometheus_takes_its_files_and_scrapes_the_port_and_job_of_the_metrics(tmp_path: Path) -> None:
    """In one folder, as they are mounted."""
    mounted = [volume.split(":") for volume in SERVICES["prometheus"]["volumes"] if volume.startswith("./")]
    for source, target, _ in mounted:
        shutil.copy(DEPLOY / source, tmp_path / Path(target).name)
    config = tmp_path / "prometheus.yml"
    promtool = program("promtool")
    done = subprocess.run([promtool, "check", "config", config], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = yaml.safe_load(config.read_text())["scrape_configs"]
    service, port = job["static_configs"][0]["targets"][0].split(":")
    assert SERVICES[service]["command"][-1] == port
    assert f'job="{job["job_name"]}"' in (tmp_path / "alerts.yml").read_text()


def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    done = subprocess.run([BIN / "hadolint", DEPLOY / "Dockerfile"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_the_user_that_kubernetes_expects_and_never_as_root() -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", dockerfile(), re.MULTILINE)
    values = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
    assert values["dagsterWebserver"]["podSecurityContext"]["runAsUser"] == int(user) != 0


def test_the_image_takes_the_same_uv_as_the_makefile_and_a_python_that_the_project_takes() -> None:
    (makefile,) = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"ARG UV_VERSION={makefile}\n" in dockerfile()
    (version,) = re.findall(r"^ARG PYTHON_VERSION=3\.(\d+)$", dockerfile(), re.MULTILINE)
    (never_run,) = re.findall(
        r"^- (.*) are resolved in the lock but were never run", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert 11 <= int(version) < 15
    assert version not in re.findall(r"3\.(\d+)", never_run), "the README says that this one was never run"


def test_the_image_gets_what_the_project_needs_and_no_secret() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in kept)
    assert kept >= {"pyproject.toml", "uv.lock", "README.md", "alembic.ini", "migrations", "signal_pipeline"}
    assert kept >= {"dagster.yaml", "workspace.yaml"}
    assert not any(fnmatch(secret, name) for name in kept for secret in (".env", "deploy/.env", "data", "models"))


@pytest.fixture
def site(tmp_path: Path, database_url: str, empty_database_url: str) -> Site:
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    dagster = make_url(empty_database_url).set(drivername="postgresql+psycopg2")
    return Site(
        tmp_path,
        os.environ
        | {
            "DATABASE_URL": database_url,
            "DAGSTER_DATABASE_URL": dagster.render_as_string(hide_password=False),
            "DAGSTER_HOME": str(home),
            "MODELS_DIR": str(tmp_path / "models"),
            "DATA_ROOTS": str(tmp_path),
            "APP_ENVIRONMENT": "production",
        },
    )


def workspace(folder: Path, port: int) -> Path:
    said = yaml.safe_load((DEPLOY / "compose" / "workspace.yaml").read_text())
    server = said["load_from"][0]["grpc_server"]
    assert server["host"] in SERVICES
    assert str(server["port"]) in SERVICES[server["host"]]["command"]
    server |= {"host": "127.0.0.1", "port": port}
    path = folder / "workspace.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


@pytest.mark.dagster
@pytest.mark.processes
@pytest.mark.timeout(900)
def test_code_server_and_daemon_process_what_is_pending_and_say_that_they_are_well(site: Site, engine: Engine) -> None:
    """Their own commands and health checks, on loopback and another port."""
    port = str(free_port())
    here = {"0.0.0.0": "127.0.0.1", "4000": port, WORKSPACE: str(workspace(site.folder, int(port)))}  # noqa: S104

    def command(name: str) -> list[str]:
        program, *arguments = (here.get(word, word) for word in commands()[name])
        return [str(BIN / program), *arguments]

    def is_well(name: str) -> bool:
        return subprocess.run(command(name), check=False, capture_output=True, env=site.environment).returncode == 0

    with site.running("code", *command("code")):
        site.wait_until(lambda: is_well("code health"), "the code server is well")
        with site.running("daemon", *command("daemon")):
            site.wait_until(lambda: is_well("daemon health"), "the daemon is well")
            insert_signals(engine, 10)
            finished = "SELECT bool_and(processing_status IN ('completed', 'failed')) FROM raw_signals"
            site.wait_until(lambda: bool(value(engine, finished)), "the signals are final")
    assert set(statuses(engine).values()) == {"completed"}
    assert count(engine, "features") == 30
