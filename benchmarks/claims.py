"""S1 against S2: how fast workers empty a queue, and how often they try in vain.

    python benchmarks/claims.py [--signals 1000] [--finished 20000] [--workers 1,2,4,8] [--batch 20]

Each worker is a process that claims (`db.claims.claim_pending`) and completes at once, until nothing is pending; the
table holds `--finished` rows that are final besides. Both strategies run in the same run, interleaved, on one embedded
server. Last line: one JSON object with claims a second, the p99 of a fetch, and wasted fetches (they came back empty
although signals were pending), by strategy and number of workers.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from signal_pipeline.db import migrate
from signal_pipeline.db.claims import claim_pending, complete
from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.db.engine import create_engine
from signal_pipeline.settings import ClaimSettings, ClaimStrategy, DatabaseSettings

FINISHED = text("""
    INSERT INTO raw_signals (equipment_id, processing_status) SELECT id, 'failed'
    FROM equipment, generate_series(1, :n) WHERE name = 'M1'
""")
PENDING = text(
    "INSERT INTO raw_signals (equipment_id) SELECT id FROM equipment, generate_series(1, :n) WHERE name = 'M1'"
)

Fetches = list[tuple[float, int]]
"""Seconds of each fetch, and how many signals it brought."""


def work(url: str, strategy: ClaimStrategy, batch: int, barrier: Barrier, results: Any) -> None:
    """Claim and complete until the queue is empty three times in a row."""
    engine = create_engine(url, DatabaseSettings())
    settings = ClaimSettings(claim_strategy=strategy, claim_batch_size=batch)
    fetches: Fetches = []
    empty = 0
    barrier.wait()
    while empty < 3:
        began = time.perf_counter()
        claims = claim_pending(engine, settings=settings, claimed_by="benchmark").claims
        fetches.append((time.perf_counter() - began, sum(len(claim.signal_ids) for claim in claims)))
        empty = 0 if claims else empty + 1
        for claim in claims:
            with engine.begin() as conn:
                complete(conn, claim.token, claim.signal_ids)
    results.put(fetches)
    engine.dispose()


def measure(
    engine: Engine, url: str, strategy: ClaimStrategy, *, workers: int, signals: int, batch: int
) -> dict[str, Any]:
    """One race of `workers` processes over `signals` pending rows."""
    with engine.begin() as conn:
        conn.execute(text("DELETE FROM raw_signals WHERE processing_status = 'completed'"))
        conn.execute(PENDING, {"n": signals})
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(workers + 1), spawn.SimpleQueue()
    arguments = (url, strategy, batch, barrier, results)
    processes = [spawn.Process(target=work, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    barrier.wait()
    began = time.perf_counter()
    fetches = [fetch for _ in processes for fetch in results.get()]
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    claimed = sum(n for _, n in fetches)
    if claimed != signals:
        raise RuntimeError(f"{strategy}: {claimed} claims of {signals} signals")
    # each worker's last three fetches found the queue empty; more of them were in vain
    return {
        "claims_per_second": round(signals / seconds),
        "fetch_p99_ms": round(1000 * float(np.quantile([s for s, n in fetches if n], 0.99)), 2),
        "wasted_fetches": sum(1 for _, n in fetches if not n) - 3 * workers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=1000)
    parser.add_argument("--finished", type=int, default=20_000)
    parser.add_argument("--workers", default="1,2,4,8")
    parser.add_argument("--batch", type=int, default=20)
    arguments = parser.parse_args()
    found: dict[str, dict[str, Any]] = {strategy.value: {} for strategy in ClaimStrategy}
    with tempfile.TemporaryDirectory(prefix="signal_pipeline-claims-") as folder:
        Path(folder).chmod(0o711)
        with embedded_server(Path(folder) / "home") as url:
            migrate.upgrade(url)
            engine = create_engine(url, DatabaseSettings())
            with engine.begin() as conn:
                conn.execute(text("INSERT INTO equipment (name) VALUES ('M1')"))
                conn.execute(FINISHED, {"n": arguments.finished})
            for workers in (int(n) for n in arguments.workers.split(",")):
                for strategy in ClaimStrategy:
                    one = measure(
                        engine, url, strategy, workers=workers, signals=arguments.signals, batch=arguments.batch
                    )
                    print(f"{strategy.value}, {workers} workers: {one}")
                    found[strategy.value][str(workers)] = one
            engine.dispose()
    ratio = {
        n: round(found["s2"][n]["claims_per_second"] / found["s1"][n]["claims_per_second"], 2) for n in found["s1"]
    }
    print(json.dumps({"s2_to_s1": ratio, **found, "signals": arguments.signals, "finished": arguments.finished}))


if __name__ == "__main__":
    main()
