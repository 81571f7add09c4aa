"""A real `dagster dev` on databases of its own, and its GraphQL API as the UI uses it. Not here: tests."""

import json
import re
import socket
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.partitions import PARTITIONS_NAME

LOCATION = {"repositoryLocationName": "signal_pipeline.definitions", "repositoryName": "__repository__"}
SENSOR = {**LOCATION, "sensorName": "claim_pending_signals"}
PATIENCE_SECONDS = 600
TURN_SECONDS = 6
"""Longer than a turn of the daemon's loop over its sensors."""

# While a test holds the gate, runs come no further than to the start of their third or fourth signal: there they can be
# killed or stopped, however late the test is. Extraction has two threads; so a run needs four signals.
GATE = 12
GATED_START = f"""
    CREATE FUNCTION test_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (SELECT count(*) FROM raw_signals WHERE claim_token = NEW.claim_token AND attempts > 0) >= 2 THEN
            PERFORM pg_advisory_xact_lock_shared({GATE});
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER test_gate BEFORE UPDATE OF work_started_at ON raw_signals FOR EACH ROW
        WHEN (NEW.work_started_at IS NOT NULL) EXECUTE FUNCTION test_gate();
"""
AT_THE_GATE = text(f"""
    SELECT count(*) > 0 FROM pg_locks JOIN pg_database AS d ON d.oid = database
    WHERE locktype = 'advisory' AND objid = {GATE} AND NOT granted AND d.datname = current_database()
""")

PARTITIONS = """
query Partitions($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode { assetPartitionStatuses { ... on DefaultPartitionStatuses {
      materializedPartitions failedPartitions } } }
  }
}
"""
LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
BACKFILL = """
mutation Backfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
BACKFILL_STATE = """
query State($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status runs { runId status } } }
}
"""
RUN = "query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
ERRORS = """
query Errors($id: ID!) {
  logsForRun(runId: $id) { ... on EventConnection { events {
    ... on ExecutionStepFailureEvent { error { message causes { message } } }
    ... on RunFailureEvent { message error { message causes { message } } } } } }
}
"""
MESSAGES = """
query Messages($id: ID!) {
  logsForRun(runId: $id) { ... on EventConnection { events { ... on EngineEvent { message } } } }
}
"""
EXECUTE_AGAIN = """
mutation Again($params: ReexecutionParams!) {
  launchPipelineReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
ACTIVE = "query Active($tags: RunsFilter) { runsOrError(filter: $tags) { ... on Runs { results { runId status } } } }"
TERMINATE = "mutation Stop($id: String!) { terminateRun(runId: $id) { __typename } }"
ADD_KEY = """
mutation Add($location: RepositorySelector!, $name: String!, $key: String!) {
  addDynamicPartition(repositorySelector: $location, partitionsDefName: $name, partitionKey: $key) { __typename }
}
"""
SENSOR_STATE = """
query Sensor($s: SensorSelector!) {
  sensorOrError(sensorSelector: $s) { ... on Sensor { id sensorState { status ticks(limit: 1) { tickId status } } } }
}
"""
STOP_SENSOR = "mutation Stop($id: String!) { stopSensor(id: $id) { __typename } }"
START_SENSOR = "mutation Start($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }"


@dataclass(frozen=True)
class Ui:
    """What a person can do in the UI, and see there."""

    url: str
    engine: Engine

    def ask(self, query: str, **variables: Any) -> Any:
        """The one answer of a query or mutation. Raises `RuntimeError` with what went wrong."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310  our own loopback
            answer = json.load(response)
        if answer.get("errors"):
            raise RuntimeError(json.dumps(answer["errors"])[:4000])
        (value,) = answer["data"].values()
        if "Error" in value.get("__typename", ""):
            raise RuntimeError(json.dumps(value))
        return value

    def partitions(self, asset: str) -> tuple[set[str], set[str]]:
        """Materialized and failed partitions of an asset."""
        statuses = self.ask(PARTITIONS, key={"path": [asset]})["assetPartitionStatuses"]
        return set(statuses["materializedPartitions"]), set(statuses["failedPartitions"])

    def materialize(self, key: str, assets: Sequence[str], job: str = PROCESS_SIGNALS) -> str:
        """Launch a run of one partition; returns its id."""
        selection = [{"path": [asset]} for asset in assets]
        params = {
            "selector": {**LOCATION, "pipelineName": job, "assetSelection": selection, "assetCheckSelection": []},
            "mode": "default",
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": key}]},
        }
        return str(self.ask(LAUNCH, params=params)["run"]["runId"])

    def backfill(self, keys: Sequence[str], assets: Sequence[str]) -> str:
        selection = [{"path": [asset]} for asset in assets]
        params = {"assetSelection": selection, "partitionNames": list(keys), "fromFailure": False, "tags": []}
        return str(self.ask(BACKFILL, params=params)["backfillId"])

    def finished_backfill(self, backfill_id: str) -> tuple[str, list[str]]:
        """Wait for its end; its status, and the statuses of its runs."""
        state: dict[str, Any] = {}

        def over() -> bool:
            state.update(self.ask(BACKFILL_STATE, id=backfill_id))
            return str(state["status"]).startswith(("COMPLETED", "FAILED", "CANCELED"))

        wait_until(over)
        return state["status"], [run["status"] for run in state["runs"]]

    def finished(self, run_id: str) -> str:
        """Wait for a run's end; its status."""
        status = ""

        def over() -> bool:
            nonlocal status
            status = self.ask(RUN, id=run_id)["status"]
            return status in {"SUCCESS", "FAILURE", "CANCELED"}

        wait_until(over)
        return status

    def execute_again(self, run_id: str, strategy: str) -> str:
        """The buttons "Re-execute all" (ALL_STEPS) and "from failure" (FROM_FAILURE); returns the new run's id."""
        return str(self.ask(EXECUTE_AGAIN, params={"parentRunId": run_id, "strategy": strategy})["run"]["runId"])

    def errors(self, run_id: str) -> str:
        """What a failed run and its steps say."""
        return "\n".join(json.dumps(event) for event in self.ask(ERRORS, id=run_id)["events"] if event)

    def pid(self, run_id: str) -> int:
        """The process that a started run works in."""
        events = self.ask(MESSAGES, id=run_id)["events"]
        found = re.search(r"in process \(pid: (\d+)\)", json.dumps(events))
        if found is None:
            raise RuntimeError(f"run {run_id} does not say where it works: {events}")
        return int(found[1])

    def runs(self, *statuses: str) -> list[str]:
        found = self.ask(ACTIVE, tags={"statuses": statuses})["results"]
        return [run["runId"] for run in found]

    def terminate(self, run_id: str) -> None:
        self.ask(TERMINATE, id=run_id)

    def add_key(self, key: str) -> None:
        self.ask(ADD_KEY, location=LOCATION, name=PARTITIONS_NAME, key=key)

    @contextmanager
    def sensor_off(self) -> Iterator[None]:
        """Signals stay pending until a person asks for them.

        A tick that the daemon has begun, or is about to begin, claims after the stop, and may write the state that it
        began with over it. Hence again, until a whole turn has passed without a tick.
        """

        def is_quiet() -> bool:
            self.ask(STOP_SENSOR, id=self.ask(SENSOR_STATE, s=SENSOR)["id"])
            before = self.ask(SENSOR_STATE, s=SENSOR)["sensorState"]
            time.sleep(TURN_SECONDS)
            after = self.ask(SENSOR_STATE, s=SENSOR)["sensorState"]
            ticking = any(tick["status"] == "STARTED" for tick in after["ticks"])
            return bool(after == before and after["status"] == "STOPPED" and not ticking)

        wait_until(is_quiet)
        try:
            yield
        finally:
            self.ask(START_SENSOR, s=SENSOR)


@contextmanager
def gate_shut(engine: Engine) -> Iterator[Callable[[], bool]]:
    """Runs do not get through their work. Gives what tells whether one stands there. The database has GATED_START."""

    def is_reached() -> bool:
        with engine.connect() as conn:
            return bool(conn.execute(AT_THE_GATE).scalar_one())

    with engine.begin() as conn:
        conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        conn.execute(text("SELECT pg_advisory_xact_lock(:gate)"), {"gate": GATE})
        yield is_reached


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} did not come true within {PATIENCE_SECONDS} s")
        time.sleep(0.3)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def database(server_url: str, template: str | None = None) -> Iterator[str]:
    """The URL of a database that lives as long as the block, on the tests' server."""
    name = f"test_{uuid.uuid4().hex}"
    url = make_url(server_url)
    administrator = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(administrator, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    yield url.set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(administrator, autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
