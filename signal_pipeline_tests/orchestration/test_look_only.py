"""Looking at the definitions where nothing is configured: `dg` in the project's folder, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef

from signal_pipeline.cli.environment import PROJECT_ROOT
from signal_pipeline.errors import SettingsError
from signal_pipeline.orchestration.look_only import LookOnlyRunStorage
from signal_pipeline_tests.orchestration.test_assets import LINEAGE

DG = str(Path(sys.executable).with_name("dg"))
VARIABLES = ("DAGSTER_HOME", "DAGSTER_DATABASE_URL", "DATABASE_URL")


def dg(*arguments: str) -> str:
    """What `dg` prints in the project's folder, where nothing is configured."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment["VIRTUAL_ENV"] = sys.prefix
    done = subprocess.run(
        [DG, *arguments], cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + ("" if "--json" in arguments else done.stderr)


@pytest.mark.dagster
def test_dg_checks_the_definitions_in_the_projects_folder() -> None:
    assert "All definitions loaded successfully" in dg("check", "defs")


@pytest.mark.dagster
def test_dg_lists_the_definitions_in_the_projects_folder() -> None:
    printed = dg("list", "defs", "--json")
    found: dict[str, list[dict[str, Any]]] = json.loads(printed[printed.index("{") :])
    assert {one["asset_key"] for one in found["assets"]} == set(LINEAGE)
    assert {one["name"] for one in found["sensors"]} == {"claim_pending_signals"}
    assert {"process_signals", "check_data", "train_model"} <= {one["name"] for one in found["jobs"]}


@pytest.fixture
def nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nothing_configured")
def test_an_instance_without_a_database_takes_no_run_and_no_daemon(tmp_path: Path) -> None:
    with DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path), config_dir=str(PROJECT_ROOT))) as instance:
        storage = instance.run_storage
        assert isinstance(storage, LookOnlyRunStorage)
        assert instance.get_runs() == []
        with pytest.raises(SettingsError, match="signal-pipeline dev"):
            storage.add_daemon_heartbeat(None)
        with pytest.raises(SettingsError, match="DAGSTER_DATABASE_URL"):
            storage.add_run(None)


@pytest.mark.usefixtures("nothing_configured")
def test_a_home_without_a_database_is_an_error_that_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match="DAGSTER_DATABASE_URL is not set"):
        DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path), config_dir=str(PROJECT_ROOT)))
