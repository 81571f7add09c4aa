"""Whether the UI answers after many signals: what an asset's page asks, before and after partition keys are pruned.

    python -m benchmarks.asset_page [--signals 50000] [--kept 20000] [--asset features]

Fifty thousand signals as the pipeline leaves them: rows, partition keys, a run a thousand with its planned events and
materializations of all five assets, written by the real storage; then a real web server, asked over HTTP. `first` is
the first answer after the keys changed, as on a system that takes signals in (Dagster's cache is of no use then);
`again` the median of the next ones; `cpu` what the first answer took of all processes and the server, which other
work on the machine moves less. Last line: one JSON object, seconds.
"""

import argparse
import json
import os
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import psutil
from dagster import AssetKey, AssetMaterialization, DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.dagster_run import DagsterRun
from sqlalchemy import Engine, text

from benchmarks.measuring import cpu_seconds, postmaster
from signal_pipeline.cli.environment import prepare_dagster, surroundings
from signal_pipeline.cli.server import dagster_server
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.ops import PER_SIGNAL
from signal_pipeline.orchestration.partitions import PARTITIONS_NAME, RANGE_END, RANGE_START
from signal_pipeline.orchestration.retention import prune_keys
from signal_pipeline.settings import load_settings

A_RUN = 1000
AGAIN = 3

SIGNALS = text("""
    INSERT INTO raw_signals (equipment_id, processing_status, finalized_at)
    SELECT id, 'completed', now() FROM equipment, generate_series(1, :n) RETURNING id
""")

# What the page of an asset and the lineage around it ask, cut down to what depends on the number of partitions.
QUERIES = {
    "page": """query Page($asset: AssetKeyInput!) { assetOrError(assetKey: $asset) { ... on Asset { id
        assetMaterializations(limit: 1) { timestamp runId partition metadataEntries { label } }
        definition { id groupName partitionKeysByDimension { name } owners { __typename } } } } }""",
    "partitions": """query Partitions($asset: AssetKeyInput!) { assetNodeOrError(assetKey: $asset) { ... on AssetNode {
        id partitionKeysByDimension { name type partitionKeys }
        assetPartitionStatuses { ... on DefaultPartitionStatuses {
            materializedPartitions materializingPartitions failedPartitions } } } } }""",
    "lineage": """query Lineage($assets: [AssetKeyInput!]!) {
        assetNodes(assetKeys: $assets, loadMaterializations: true) { id
            assetMaterializations(limit: 1) { timestamp runId stepKey }
            partitionStats { numMaterialized numMaterializing numPartitions numFailed } } }""",
    "events": """query Events($asset: AssetKeyInput!) { assetOrError(assetKey: $asset) { ... on Asset { id
        assetEventHistory(limit: 100, eventTypeSelectors: [MATERIALIZATION, OBSERVATION, FAILED_TO_MATERIALIZE]) {
            results { ... on MaterializationEvent { runId timestamp partition } } } } } }""",
    "one_partition": """query One($asset: AssetKeyInput!, $key: String!) { assetOrError(assetKey: $asset) {
        ... on Asset { id definition { id latestRunForPartition(partition: $key) { id status } }
        assetEventHistory(partitions: [$key], limit: 1000, eventTypeSelectors: [MATERIALIZATION, OBSERVATION]) {
            results { ... on MaterializationEvent { runId timestamp } } } } } }""",
}


def fill(instance: DagsterInstance, engine: Engine, n: int) -> list[str]:
    """`n` completed signals, and what Dagster knows of them; returns their keys, oldest first."""
    with engine.begin() as conn:
        conn.execute(text("SET LOCAL session_replication_role = replica"))  # born completed
        conn.execute(text("INSERT INTO equipment (name) VALUES ('M1')"))
        keys = [str(i) for i in conn.execute(SIGNALS, {"n": n}).scalars()]
    for start in range(0, n, A_RUN):
        add_run(instance, keys[start : start + A_RUN])
        print(f"{min(n, start + A_RUN)} of {n} signals", flush=True)
    return keys


def add_run(instance: DagsterInstance, keys: Sequence[str]) -> None:
    """Keys, a run that succeeded, and its events, in batches as the storage gets them."""
    instance.add_dynamic_partitions(PARTITIONS_NAME, list(keys))
    run_id, now = str(uuid4()), time.time()
    tags = {RANGE_START: keys[0], RANGE_END: keys[-1]}
    instance.run_storage.add_run(
        DagsterRun(job_name=PROCESS_SIGNALS, run_id=run_id, status=DagsterRunStatus.SUCCESS, tags=tags)
    )
    entry: Any = EventLogEntry
    entries = [entry(None, 20, "", run_id, now, dagster_event=one) for one in events_of(keys)]
    for start in range(0, len(entries), A_RUN):
        instance.event_log_storage.store_event_batch(entries[start : start + A_RUN])


def events_of(keys: Sequence[str]) -> Iterator[DagsterEvent]:
    for asset in PER_SIGNAL:
        for key in keys:
            planned = AssetMaterializationPlannedData(asset_key=asset, partition=key)
            yield event(DagsterEventType.ASSET_MATERIALIZATION_PLANNED, planned)
    for asset in PER_SIGNAL:
        for key in keys:
            made = AssetMaterialization(asset_key=asset, partition=key, metadata={"windows": 19, "equipment": "M1"})
            yield event(DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(made))


def event(kind: DagsterEventType, data: Any) -> DagsterEvent:
    return DagsterEvent(event_type_value=kind.value, job_name=PROCESS_SIGNALS, event_specific_data=data)


def ask(url: str, query: str, variables: dict[str, Any]) -> float:
    """Seconds of one answer. Raises `RuntimeError` with what Dagster complains of."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310  our own loopback
        answer = json.load(response)
    seconds = time.perf_counter() - began
    if answer.get("errors") or None in answer["data"].values():
        raise RuntimeError(json.dumps(answer)[:2000])
    return seconds


def page(
    url: str, asset: AssetKey, key: str, cpu: Callable[[], float], changed: Callable[[], None] = lambda: None
) -> dict[str, dict[str, float]]:
    """Each query of the page: the first answer after `changed`, and the next ones. `cpu`: seconds so far."""
    variables: dict[str, Any] = {
        "asset": {"path": asset.path},
        "assets": [{"path": one.path} for one in PER_SIGNAL],
        "key": key,
    }
    found = {}
    for name, query in QUERIES.items():
        used = {n: v for n, v in variables.items() if f"${n}:" in query}
        changed()
        before = cpu()
        first, taken = ask(url, query, used), cpu() - before
        again = median(ask(url, query, used) for _ in range(AGAIN))
        found[name] = {"first": round(first, 3), "cpu": round(taken, 2), "again": round(again, 3)}
    return found


def measure(home: Path, given: argparse.Namespace) -> dict[str, Any]:
    os.environ.update(SIGNAL_PIPELINE_HOME=str(home), PARTITION_KEYS_KEPT=str(10 * given.signals))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    asset = AssetKey(given.asset)
    with surroundings(load_settings()) as here:
        prepare_dagster(here)
        os.environ.update(here.environment())
        with DagsterInstance.from_config(str(here.dagster_home)) as instance:
            keys = fill(instance, here.engine, given.signals)
            with dagster_server(here, port=port, quiet=True) as server:
                server.wait_until_ready()
                ask(server.url, QUERIES["page"], {"asset": {"path": asset.path}})  # the server loads its definitions
                roots = (psutil.Process(server.process.pid), postmaster(here.dagster_url))

                def cpu() -> float:
                    return sum(cpu_seconds(root) for root in roots)

                found: dict[str, Any] = {"before": page(server.url, asset, keys[-1], cpu)}
                began = time.perf_counter()
                pruned = prune_keys(instance, here.engine, kept=given.kept)
                found |= {"prune_seconds": round(time.perf_counter() - began, 1), "keys_pruned": pruned.keys}
                found["after"] = page(server.url, asset, keys[-1], cpu)

                def more() -> None:
                    add_run(instance, [str(uuid4()) for _ in range(100)])

                found["after_more"] = page(server.url, asset, keys[-1], cpu, more)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=50_000)
    parser.add_argument("--kept", type=int, default=20_000)
    parser.add_argument("--asset", default="features")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="asset-page-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        found = measure(home, given)
    for moment in ("before", "after", "after_more"):
        print(f"{moment}: {found[moment]}")
    print(json.dumps({**vars(given), **found, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
