"""What pictures cost: the same runs with pictures of one signal in each, and without.

    python -m benchmarks.pictures [--signals 400] [--seconds 10] [--fs 25600] [--pairs 3]

In one process, as `signal-pipeline process` works, on an embedded server, in turns; a first small run imports and
compiles. matplotlib is imported once a process, and so once in each run of the daemon: that is measured by itself and
counted in. `share_if_drawn` is what one signal's pictures add to a run of so many signals; `share` what the pipeline
spends on average, because it draws only in as many runs as it can afford (`orchestration.plots.how_many`).
`signal_in_samples` is that module's constant as it is on this machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, insert

from signal_pipeline.cli.dagster_work import dagster_instance
from signal_pipeline.cli.environment import Surroundings, surroundings
from signal_pipeline.db.models import Equipment, RawSignal
from signal_pipeline.ingest import codec
from signal_pipeline.orchestration import plots
from signal_pipeline.orchestration.build import build_definitions
from signal_pipeline.orchestration.drain import drain
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings, ViewSettings, load_settings
from signal_pipeline.synthetic.motor import Condition, Motor, simulate

IMPORT = """
import time
import signal_pipeline.orchestration.plots
began = time.process_time()
import signal_pipeline.pictures.recordings, signal_pipeline.pictures.series
print(time.process_time() - began)
"""


def add_signals(engine: Engine, n: int, *, seconds: float, fs: float) -> None:
    """`n` pending signals of one new motor, all with the same samples."""
    samples = simulate(Motor(), Condition(), fs=fs, seconds=seconds, seed=1)
    blobs = [codec.encode(row) for row in samples]
    equipment = uuid4()
    columns: dict[str, Any] = {f"phase_{p}": blob for p, blob in zip("abc", blobs, strict=True)}
    columns |= {f"crc32_{p}": codec.checksum(blob) for p, blob in zip("abc", blobs, strict=True)}
    with engine.begin() as conn:
        conn.execute(insert(Equipment), {"id": equipment, "name": str(equipment)})
        for _ in range(n):
            row = {"id": uuid4(), "equipment_id": equipment, "sample_rate_hz": fs, "samples_count": samples.shape[1]}
            conn.execute(insert(RawSignal), row | columns)


def run(here: Surroundings, *, pictures: int) -> tuple[float, float]:
    """CPU and wall seconds of working off what is pending, with pictures of so many signals in each run."""
    settings = Settings(view=ViewSettings(pictures_per_run=pictures, pictures_thrifty=False))
    worker = Worker(here.engine, settings, "benchmark")
    job = build_definitions(settings, make_worker=lambda _: worker).resolve_job_def(PROCESS_SIGNALS)
    with dagster_instance(here) as instance:
        wall, cpu = time.perf_counter(), time.process_time()
        drain(job, instance, worker)
        return time.process_time() - cpu, time.perf_counter() - wall


def measure(options: argparse.Namespace) -> dict[str, Any]:
    imported = float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True, text=True).stdout)
    found: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        os.environ |= {"SIGNAL_PIPELINE_HOME": folder}
        os.environ.pop("DATABASE_URL", None)
        with surroundings(load_settings()) as here:
            add_signals(here.engine, 2, seconds=options.seconds, fs=options.fs)
            run(here, pictures=1)
            for pair in range(options.pairs):
                for pictures in sorted(found, reverse=bool(pair % 2)):
                    add_signals(here.engine, options.signals, seconds=options.seconds, fs=options.fs)
                    found[pictures].append(run(here, pictures=pictures))
    return results(options, found, imported)


def results(
    options: argparse.Namespace, found: dict[int, list[tuple[float, float]]], imported: float
) -> dict[str, Any]:
    (cpu_without, wall_without), (cpu_with, wall_with) = (
        [statistics.median(x) for x in zip(*found[pictures], strict=True)] for pictures in (0, 1)
    )
    samples = options.signals * options.seconds * options.fs
    cost = max(0.0, cpu_with - cpu_without) + imported
    drawn = min(1.0, plots.SHARE * samples / plots.SIGNAL_IN_SAMPLES)
    return {
        "signals": options.signals,
        "seconds": options.seconds,
        "fs": options.fs,
        "cpu_without": round(cpu_without, 2),
        "wall_without": round(wall_without, 2),
        "cpu_of_pictures": round(cost - imported, 2),
        "wall_of_pictures": round(wall_with - wall_without, 2),
        "import_seconds": round(imported, 2),
        "share_if_drawn": round(cost / cpu_without, 4),
        "share": round(drawn * cost / cpu_without, 4),
        "signal_in_samples": round(cost / cpu_without * samples),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--fs", type=float, default=25600)
    parser.add_argument("--pairs", type=int, default=3)
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
