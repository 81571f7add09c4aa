"""`deploy/kubernetes` without a cluster: the Job that the launcher posts, and the manifests, as Kubernetes' own models.

The launcher is Dagster's, with the values of the chart, up to the HTTP request; nothing after that has been tried.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance, DagsterRun
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.test_utils import instance_for_test
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import deserialize_value
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes.client import ApiClient, V1Deployment, V1Job

from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline_tests.deploy.kubernetes_api import kubernetes_api

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "kubernetes"
HOME = "/opt/dagster/dagster_home"
IMAGE = "registry.example.internal/signal-pipeline:0.1.0"
BY_NAME = ("envConfigMaps", "envSecrets")


def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "values.yaml").read_text())
    return loaded


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def launcher_config(kubeconfig: Path) -> dict[str, Any]:
    """The chart's values as it writes them into `dagster.yaml`; only where the API is differs."""
    said = values()["runLauncher"]["config"]["k8sRunLauncher"]
    config = {snake(name): value for name, value in said.items()}
    config |= {snake(name): [entry["name"] for entry in said[name]] for name in BY_NAME}
    config["run_k8s_config"] = {snake(name): value for name, value in said["runK8sConfig"].items()}
    return config | {
        "load_incluster_config": False,
        "kubeconfig_file": str(kubeconfig),
        "job_namespace": "motors",
        "service_account_name": "dagster",
        "dagster_home": HOME,
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": values()["global"]["postgresqlSecretName"],
    }


def launch(instance: DagsterInstance) -> DagsterRun:
    """A run of our job, as the daemon hands it to the launcher: the code server said which image it runs in."""
    pointer = ModuleCodePointer("signal_pipeline.definitions", "defs", None)
    repository = RepositoryPythonOrigin("/app/.venv/bin/python", pointer, IMAGE, None, None)
    run = DagsterRun(job_name=PROCESS_SIGNALS, job_code_origin=JobPythonOrigin(PROCESS_SIGNALS, repository))
    instance.add_run(run)
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    return run


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DagsterRun, str, dict[str, Any]]]:
    """The run, and path and body of what was posted."""
    with kubernetes_api() as api:
        launcher = {
            "module": "dagster_k8s",
            "class": values()["runLauncher"]["type"],
            "config": launcher_config(api.kubeconfig(tmp_path_factory.mktemp("kube"))),
        }
        with instance_for_test(overrides={"run_launcher": launcher}) as instance:
            run = launch(instance)
            ((path, body),) = api.posted
            yield run, path, body


Launched = tuple[DagsterRun, str, dict[str, Any]]


def pod(launched: Launched) -> dict[str, Any]:
    found: dict[str, Any] = launched[2]["spec"]["template"]["spec"]
    return found


def container(launched: Launched) -> dict[str, Any]:
    (only,) = pod(launched)["containers"]
    assert isinstance(only, dict)
    return only


def test_a_run_is_one_job_that_kubernetes_own_models_accept(launched: Launched) -> None:
    run, path, body = launched
    assert path == "/apis/batch/v1/namespaces/motors/jobs"
    model = k8s_model_from_dict(V1Job, k8s_snake_case_dict(V1Job, body))
    assert ApiClient().sanitize_for_serialization(model) == body
    assert model.metadata.name == f"dagster-run-{run.run_id}"


def test_the_pod_executes_the_run_in_our_image(launched: Launched) -> None:
    run = launched[0]
    assert container(launched)["image"] == IMAGE
    assert container(launched)["imagePullPolicy"] == "IfNotPresent"
    *command, packed = container(launched)["args"]
    assert command == ["/app/.venv/bin/python", "-m", "dagster", "api", "execute_run"]
    arguments = deserialize_value(packed, ExecuteRunArgs)
    assert arguments.run_id == run.run_id
    assert arguments.set_exit_code_on_failure is True


def test_passwords_reach_the_pod_from_secrets(launched: Launched) -> None:
    assert {"secretRef": {"name": "signal-pipeline"}} in container(launched)["envFrom"]
    environment = {entry["name"]: entry for entry in container(launched)["env"]}
    secret = environment["DAGSTER_PG_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "signal-pipeline-dagster-postgresql", "key": "postgresql-password"}
    assert "DATABASE_URL" not in environment
    assert environment["DAGSTER_HOME"]["value"] == HOME
    assert environment["MODELS_DIR"]["value"] == "/models"


def test_the_pod_runs_as_nobody_special_and_may_gain_nothing(launched: Launched) -> None:
    assert pod(launched)["securityContext"]["runAsNonRoot"] is True
    assert pod(launched)["securityContext"]["runAsUser"] != 0
    assert container(launched)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_pod_has_its_share_of_the_machine_and_its_folders(launched: Launched) -> None:
    resources = container(launched)["resources"]
    assert resources == values()["runLauncher"]["config"]["k8sRunLauncher"]["resources"]
    mounts = {mount["mountPath"]: mount for mount in container(launched)["volumeMounts"]}
    assert mounts.keys() == {"/models", "/tmp"}  # noqa: S108  of the pod
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in pod(launched)["volumes"]}
    assert not mounts["/models"].get("readOnly"), "train_model publishes there"


def test_a_pod_is_never_started_twice_and_ends_some_day(launched: Launched) -> None:
    spec = launched[2]["spec"]
    assert pod(launched)["restartPolicy"] == "Never"
    assert spec["backoffLimit"] == 0
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["ttlSecondsAfterFinished"] > 0


def test_labels_say_which_run_and_job_a_pod_is_of(launched: Launched) -> None:
    run, _, body = launched
    for labels in (body["metadata"]["labels"], body["spec"]["template"]["metadata"]["labels"]):
        assert labels["dagster/run-id"] == run.run_id
        assert labels["dagster/job"] == PROCESS_SIGNALS
        assert labels["app.kubernetes.io/part-of"] == "signal-pipeline"


def extras() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "extras.yaml").read_text()))


@pytest.mark.parametrize("manifest", extras(), ids=lambda manifest: str(manifest["kind"]))
def test_the_other_manifests_are_what_kubernetes_own_models_accept_and_run_as_nobody(manifest: dict[str, Any]) -> None:
    kind = {"Job": V1Job, "Deployment": V1Deployment}[manifest["kind"]]
    model = k8s_model_from_dict(kind, k8s_snake_case_dict(kind, manifest))
    assert ApiClient().sanitize_for_serialization(model) == manifest
    assert model.spec.template.spec.security_context.run_as_non_root is True
    (only,) = model.spec.template.spec.containers
    assert only.security_context.allow_privilege_escalation is False
    assert only.image == IMAGE


def test_all_images_of_the_values_are_one_and_none_is_called_latest() -> None:
    said = values()
    (deployment,) = said["dagster-user-deployments"]["deployments"]
    images = [said["dagsterWebserver"]["image"], said["dagsterDaemon"]["image"], deployment["image"]]
    assert {f"{image['repository']}:{image['tag']}" for image in images} == {IMAGE}
    assert deployment["dagsterApiGrpcArgs"] == ["--module-name", "signal_pipeline.definitions"]
