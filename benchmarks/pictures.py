"""What pictures cost: one Dagster run over the same signals with and without them.

    python -m benchmarks.pictures [--signals 400] [--seconds 10] [--fs 25600] [--pictures 2] [--pairs 2]

In one process, on an embedded server, in turns; a first small run imports and compiles. `share_cpu` and `share_wall`
are what pictures add to the median run without them. matplotlib is imported once a process, and so once in each run of
the daemon: that is measured by itself and counted in.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from dagster import DagsterInstance
from sqlalchemy import Engine, insert

from signal_pipeline.db import migrate
from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.db.engine import create_engine
from signal_pipeline.db.models import Equipment, RawSignal
from signal_pipeline.ingest import codec
from signal_pipeline.orchestration.build import build_definitions
from signal_pipeline.orchestration.drain import QUIET
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.orchestration.partitions import PARTITIONS_NAME, RANGE_END, RANGE_START
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings, ViewSettings
from signal_pipeline.synthetic.motor import Condition, Motor, simulate

IMPORT = """
import time
import signal_pipeline.orchestration.plots
began = time.process_time()
import signal_pipeline.pictures.recordings, signal_pipeline.pictures.series
print(time.process_time() - began)
"""


def add_signals(engine: Engine, n: int, *, seconds: float, fs: float) -> list[UUID]:
    """`n` pending signals of one new motor, all with the same samples."""
    samples = simulate(Motor(), Condition(), fs=fs, seconds=seconds, seed=1)
    blobs = [codec.encode(row) for row in samples]
    equipment, ids = uuid4(), [uuid4() for _ in range(n)]
    columns: dict[str, Any] = {f"phase_{p}": blob for p, blob in zip("abc", blobs, strict=True)}
    columns |= {f"crc32_{p}": codec.checksum(blob) for p, blob in zip("abc", blobs, strict=True)}
    with engine.begin() as conn:
        conn.execute(insert(Equipment), {"id": equipment, "name": str(equipment)})
        for signal_id in ids:
            row = {"id": signal_id, "equipment_id": equipment, "sample_rate_hz": fs, "samples_count": samples.shape[1]}
            conn.execute(insert(RawSignal), row | columns)
    return ids


def run(engine: Engine, ids: list[UUID], *, pictures: int) -> tuple[float, float]:
    """CPU and wall seconds of one run over `ids`, as a person would start it."""
    settings = Settings(view=ViewSettings(pictures_per_run=pictures))
    worker = Worker(engine, settings, "benchmark")
    job = build_definitions(settings, make_worker=lambda _: worker).resolve_job_def(PROCESS_SIGNALS)
    keys = [str(i) for i in ids]
    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(PARTITIONS_NAME, keys)
        wall, cpu = time.perf_counter(), time.process_time()
        tags = {RANGE_START: keys[0], RANGE_END: keys[-1]}
        done = job.execute_in_process(run_config=QUIET, instance=instance, tags=tags)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if not done.success:
        raise RuntimeError("the run failed")
    return cpu, wall


def measure(options: argparse.Namespace) -> dict[str, Any]:
    imported = float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True, text=True).stdout)
    found: dict[int, list[tuple[float, float]]] = {0: [], options.pictures: []}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with embedded_server(Path(folder) / "home", fsync=False) as url:
            migrate.upgrade(url)
            engine = create_engine(url, Settings().database)
            run(engine, add_signals(engine, 2, seconds=options.seconds, fs=options.fs), pictures=2)
            for _ in range(options.pairs):
                for pictures, results in found.items():
                    ids = add_signals(engine, options.signals, seconds=options.seconds, fs=options.fs)
                    results.append(run(engine, ids, pictures=pictures))
            engine.dispose()
    without, with_them = ([statistics.median(x) for x in zip(*r, strict=True)] for r in found.values())
    return {
        "signals": options.signals,
        "seconds": options.seconds,
        "fs": options.fs,
        "pictures_per_run": options.pictures,
        "cpu_without": round(without[0], 2),
        "cpu_with": round(with_them[0] + imported, 2),
        "wall_without": round(without[1], 2),
        "wall_with": round(with_them[1] + imported, 2),
        "import_seconds": round(imported, 2),
        "share_cpu": round((with_them[0] + imported) / without[0] - 1, 4),
        "share_wall": round((with_them[1] + imported) / without[1] - 1, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--fs", type=float, default=25600)
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=2)
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
