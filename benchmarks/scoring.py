"""What scoring costs the pipeline: the same pending signals worked off with a model and without one, in turns.

    python -m benchmarks.scoring [--signals 200] [--seconds 10] [--fs 25600] [--rounds 7]

One embedded server, one warm process without Dagster, a copy of one database for each run. The model is trained on the
same recordings beforehand. Cases: `none`, no model; `scores`, an anomaly model; `embedded`, what `train` leaves behind:
an anomaly model and an embedding. `share_of_throughput` is the median over rounds of `scores` : `none` in wall time,
less 1 (goal: at most .10); `shares` says the same of every case, and of CPU time with Postgres', which is steadier on a
busy machine. `stage_us` is a scored window's part of the scoring transactions, reading and writing included;
`model_us` is the model alone. Prints one JSON object as its last line.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from sqlalchemy import Engine

from benchmarks.measuring import cpu_seconds, postmaster
from benchmarks.skab import scoring_us
from benchmarks.staging import Stage, seed
from signal_pipeline.db import counters
from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.db.engine import create_engine
from signal_pipeline.dsp.warm_up import warm_up
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.training import train
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import AppSettings, ModelSettings, Settings

CASES = ("none", "scores", "embedded")


@dataclass(frozen=True, slots=True)
class Run:
    """One case in one round: wall and CPU seconds (ours and Postgres'), windows scored, seconds in `score`'s own
    transactions."""

    wall: float
    cpu: float
    scored: int
    scoring: float


def worker_on(engine: Engine, models_dir: Path) -> Worker:
    return Worker(engine, Settings(models=ModelSettings(models_dir=models_dir)), "benchmark")


def work_off(worker: Worker) -> None:
    while claims := claim_pending(worker.engine, settings=worker.settings.claims, claimed_by=worker.name).claims:
        for claim in claims:
            run_batch(worker, Batch(claim.token, claim.signal_ids))


def prepare(url: str, home: Path) -> dict[str, Path]:
    """A models folder for each case, trained on what is worked off here; pays for imports and compilation, too."""
    folders = {case: home / f"models-{case}" for case in CASES}
    stage = Stage(url, "training", home)
    engine = create_engine(stage.domain_url, Settings().database)
    worker = worker_on(engine, folders["embedded"])
    warm_up()
    stage.release()
    work_off(worker)
    train(worker)
    engine.dispose()
    stage.drop()
    shutil.copytree(folders["embedded"], folders["scores"], symlinks=True)
    shutil.rmtree(folders["scores"] / "embeddings")
    return folders


def run(url: str, home: Path, case: str, models_dir: Path) -> Run:
    """Work off a fresh copy. Raises `RuntimeError` if what came out is not what the case says."""
    stage = Stage(url, case, home)
    engine = create_engine(stage.domain_url, Settings().database)
    server, own = postmaster(url), psutil.Process()
    stage.release()
    cpu, wall = cpu_seconds(server) + _own_cpu(own), time.perf_counter()
    work_off(worker_on(engine, models_dir))
    wall, cpu = time.perf_counter() - wall, cpu_seconds(server) + _own_cpu(own) - cpu
    with closing(engine.connect()) as conn:
        scored = counters.totals(conn).get("windows_scored_total", 0)
        scoring = sum(row.microseconds for row in conn.execute(counters.DURATIONS) if row.what == "score") / 1e6
    engine.dispose()
    if scored != (0 if case == "none" else stage.results()["features"]):
        raise RuntimeError(f"{case}: {scored} windows scored, and {stage.results()}")
    stage.drop()
    return Run(wall, cpu, scored, scoring)


def _own_cpu(own: psutil.Process) -> float:
    """Ours without our children: the server may be one of them, and counts by itself."""
    times = own.cpu_times()
    return float(times.user + times.system)


def summary(rounds: list[dict[str, Run]]) -> dict[str, Any]:
    """Medians over rounds of what a case took more than `none` did in the same round."""

    def share(case: str, what: str) -> float:
        return round(float(median(getattr(r[case], what) / getattr(r["none"], what) for r in rounds)) - 1, 4)

    shares = {case: {what: share(case, what) for what in ("wall", "cpu")} for case in CASES[1:]}
    scores = [r["scores"] for r in rounds]
    return {
        "share_of_throughput": shares["scores"]["wall"],
        "shares": shares,
        "share_by_round": [round(r["scores"].wall / r["none"].wall - 1, 4) for r in rounds],
        "wall_seconds": {case: round(median(r[case].wall for r in rounds), 2) for case in CASES},
        "windows": scores[0].scored,
        "stage_us": round(1e6 * median(one.scoring / one.scored for one in scores), 1),
        "model_us": scoring_us(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=200, help="ten motors share them; 120 or more train fast")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each recording")
    parser.add_argument("--fs", type=float, default=25_600.0, help="Hz")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    configure_logging(AppSettings(), default_level="ERROR")
    load, rounds = [psutil.getloadavg()[0]], []
    with tempfile.TemporaryDirectory(prefix="scoring-") as folder:
        home = Path(folder)
        home.chmod(0o711)  # where root runs the server, its user has to pass
        with embedded_server(home) as url:
            seed(url, signals=options.signals, seconds=options.seconds, fs=options.fs)
            folders = prepare(url, home)
            for number in range(options.rounds):
                order = CASES[number % 3 :] + CASES[: number % 3]
                rounds.append({case: run(url, home, case, folders[case]) for case in order})
                load.append(psutil.getloadavg()[0])
                print(f"round {number}: {rounds[-1]}", flush=True)
    given = {"benchmark": "scoring", **vars(options), "cores": os.cpu_count(), "load": [round(x, 1) for x in load]}
    print(json.dumps(given | summary(rounds)))


if __name__ == "__main__":
    main()
