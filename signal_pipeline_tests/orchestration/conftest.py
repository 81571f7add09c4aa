"""A real, ephemeral Dagster instance, and our definitions on the test's own database."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import structlog
from dagster import AssetKey, DagsterInstance, Definitions, ExecuteInProcessResult
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from signal_pipeline.orchestration.build import build_definitions
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.partitions import PARTITIONS_NAME, RANGE_END, RANGE_START
from signal_pipeline.orchestration.sensors import tick
from signal_pipeline.orchestration.storage import shared_engine
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings, ViewSettings

DAGSTER_YAML = Path(__file__).parents[2] / "dagster.yaml"

Materialize = Callable[..., ExecuteInProcessResult]
SensorRuns = Callable[[], list[ExecuteInProcessResult]]


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[structlog.typing.EventDict]]:
    """What was logged, as data. Nothing is rendered: a traceback with its locals would take seconds."""
    with structlog.testing.capture_logs() as events:
        yield events


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def dagster_url(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a database for Dagster's storage; the environment names it, and batching is not set from outside."""
    url = make_url(empty_database_url).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    monkeypatch.setenv("DAGSTER_DATABASE_URL", url)
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "")
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE")
    return url


@pytest.fixture
def stored(dagster_url: str, tmp_path: Path) -> Iterator[DagsterInstance]:
    """The instance that `dagster.yaml` describes."""
    shutil.copyfile(DAGSTER_YAML, tmp_path / "dagster.yaml")
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance
    shared_engine(dagster_url).dispose()


@pytest.fixture
def settings() -> Settings:
    """Without pictures, which cost more than all the rest of such small runs; `test_plots` has its own."""
    return Settings(view=ViewSettings(pictures_per_run=0))


@pytest.fixture
def worker(engine: Engine, settings: Settings) -> Worker:
    return Worker(engine, settings, "instance/test-host")


@pytest.fixture
def definitions(engine: Engine, settings: Settings) -> Definitions:
    return build_definitions(settings, make_worker=lambda name: Worker(engine, settings, name))


@pytest.fixture
def materialize(definitions: Definitions, instance: DagsterInstance) -> Materialize:
    """As a person does in the UI: some assets (default: all) of a range of partitions."""

    def run(keys: Sequence[str], *, assets: Sequence[str] | None = None) -> ExecuteInProcessResult:
        instance.add_dynamic_partitions(PARTITIONS_NAME, list(keys))
        return definitions.resolve_job_def(PROCESS_SIGNALS).execute_in_process(
            instance=instance,
            asset_selection=None if assets is None else [AssetKey(name) for name in assets],
            tags={RANGE_START: keys[0], RANGE_END: keys[-1]},
            raise_on_error=False,
        )

    return run


@pytest.fixture
def sensor_runs(definitions: Definitions, instance: DagsterInstance, worker: Worker) -> SensorRuns:
    """As the daemon does: a tick, and then the runs that it asked for, one after the other."""
    job = definitions.resolve_job_def(PROCESS_SIGNALS)

    def run() -> list[ExecuteInProcessResult]:
        return [
            job.execute_in_process(instance=instance, tags=request.tags, raise_on_error=False)
            for request in tick(instance, worker)
        ]

    return run


def materialized(instance: DagsterInstance, asset: str | AssetKey) -> set[str]:
    """The partitions of an asset that are materialized."""
    return set(instance.get_materialized_partitions(AssetKey(asset) if isinstance(asset, str) else asset))


def complaint(result: ExecuteInProcessResult) -> str:
    """What the failed step of a run says to a person."""
    (event,) = result.get_step_failure_events()
    error = event.step_failure_data.error
    return "" if error is None else "\n".join(str(e) for e in (event.step_failure_data.user_failure_data, error))
