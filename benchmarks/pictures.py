"""What pictures cost: the same runs with pictures of one signal in each, and without.

    python -m benchmarks.pictures [--signals 400] [--seconds 10] [--fs 25600] [--pairs 5]

In one process, as `signal-pipeline process` works, on an embedded server, in turns; a first small run imports and
compiles. What pictures cost is the median of the differences within the pairs, so that a machine that is busy with
other things slows both sides; in CPU seconds, and in wall seconds. matplotlib is imported once a process, and so once
in each run of the daemon: that is the median of so many fresh processes, and counted in. `share_if_drawn_cpu` is what
one signal's pictures add to a run of so many signals; `share_cpu` and `share_wall` what the pipeline spends on average,
because it draws only in as many runs as it can afford (`orchestration.plots.how_many`): the limit is 0.05.
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
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.orchestration import plots
from signal_pipeline.orchestration.build import build_definitions
from signal_pipeline.orchestration.drain import drain
from signal_pipeline.orchestration.jobs import PROCESS_SIGNALS
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings, ViewSettings, load_settings
from signal_pipeline.synthetic.motor import Condition, Motor, simulate

Cost = tuple[float, float]
"""CPU and wall seconds."""

IMPORT = """
import time
import signal_pipeline.orchestration.plots
cpu, wall = time.process_time(), time.perf_counter()
import signal_pipeline.pictures.recordings, signal_pipeline.pictures.series
print(time.process_time() - cpu, time.perf_counter() - wall)
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


def run(here: Surroundings, *, pictures: int) -> Cost:
    """CPU and wall seconds of working off what is pending, with pictures of so many signals in each run."""
    settings = Settings(view=ViewSettings(pictures_per_run=pictures, pictures_thrifty=False))
    worker = Worker(here.engine, settings, "benchmark")
    job = build_definitions(settings, make_worker=lambda _: worker).resolve_job_def(PROCESS_SIGNALS)
    with dagster_instance(here) as instance:
        wall, cpu = time.perf_counter(), time.process_time()
        drain(job, instance, worker)
        return time.process_time() - cpu, time.perf_counter() - wall


def imported() -> Cost:
    """CPU and wall seconds of importing what draws, in a process that has imported the rest."""
    ran = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True, text=True)
    cpu, wall = ran.stdout.split()
    return float(cpu), float(wall)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    imports = [imported() for _ in range(options.pairs)]
    found: dict[int, list[Cost]] = {0: [], 1: []}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        os.environ |= {"SIGNAL_PIPELINE_HOME": folder}
        os.environ.pop("DATABASE_URL", None)
        configure_logging(load_settings().app, default_level="ERROR")
        with surroundings(load_settings()) as here:
            add_signals(here.engine, 2, seconds=options.seconds, fs=options.fs)
            run(here, pictures=1)
            for pair in range(options.pairs):
                for pictures in sorted(found, reverse=bool(pair % 2)):
                    add_signals(here.engine, options.signals, seconds=options.seconds, fs=options.fs)
                    found[pictures].append(run(here, pictures=pictures))
    return results(options, found[0], found[1], imports)


def results(
    options: argparse.Namespace, without: list[Cost], with_pictures: list[Cost], imports: list[Cost]
) -> dict[str, Any]:
    samples = options.signals * options.seconds * options.fs
    drawn = min(1.0, plots.SHARE * samples / plots.SIGNAL_IN_SAMPLES)
    told: dict[str, Any] = {"signals": options.signals, "seconds": options.seconds, "fs": options.fs}
    told["pairs"] = options.pairs
    for place, clock in enumerate(("cpu", "wall")):
        bare = statistics.median(cost[place] for cost in without)
        differences = [a[place] - b[place] for a, b in zip(with_pictures, without, strict=True)]
        drawing, importing = statistics.median(differences), statistics.median(cost[place] for cost in imports)
        share = (max(0.0, drawing) + importing) / bare
        told |= {
            f"{clock}_without": round(bare, 2),
            f"{clock}_of_pictures": round(drawing, 2),
            f"{clock}_of_import": round(importing, 2),
            f"share_if_drawn_{clock}": round(share, 4),
            f"share_{clock}": round(drawn * share, 4),
        }
        if clock == "cpu":
            told["signal_in_samples"] = round(share * samples)
    return told | {"limit": plots.SHARE}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--fs", type=float, default=25600)
    parser.add_argument("--pairs", type=int, default=5)
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
