"""What a claim costs: S1 and S2 beside procrastinate and pgqueuer, with few and many workers and short and long tables.

    python -m benchmarks.claims [--rows 1000,100000,1000000] [--workers 1,2,4,8,16] [--pending 1000] [--batch 50]

A database for each number of rows on one embedded server: `--pending` jobs wait, the rest is finished. Two measures.
*Races*: workers take all that waits, `--batch` a fetch (procrastinate: one); claims a second, the p99 of a fetch, and
wasted attempts (fetches that came back empty before the end, and rows that another had just taken). *Cost*: one worker
takes a batch from each table in turn, again and again, so that whatever else the machine does meets all sizes
alike; the median of a fetch, `growth_1k_to_1m` (the largest table's over the smallest's, the median over the turns),
and what Postgres itself touches for one claim of ours. Claims only: nothing is completed. Last line: one JSON object.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.engine import make_url

from benchmarks.measuring import connect
from benchmarks.queues import TABLES, install, open_queue, refill
from benchmarks.racing import Race, Result, Workers
from signal_pipeline.db import claim_sql
from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.db.engine import create_engine
from signal_pipeline.settings import DatabaseSettings

OURS = ("s1", "s2")
PEERS = ("procrastinate", "pgqueuer")


def build(url: str, rows: int, pending: int) -> str:
    """A database whose tables hold `rows` jobs each, `pending` of them pending; returns its URL."""
    name = f"claims_{rows}"
    with connect(url, "postgres") as conn:
        conn.execute(f"CREATE DATABASE {name}")
    own = make_url(url).set(database=name).render_as_string(hide_password=False)
    began = time.perf_counter()
    install(own, max(0, rows - pending))
    print(f"{rows} rows in each table: made in {time.perf_counter() - began:.0f} s", flush=True)
    return own


def summary(results: list[Result], jobs: int) -> dict[str, Any]:
    """Of the races of one kind: the median of claims a second, the p99 of all fetches, wasted attempts a race."""
    fetches = [fetch for result in results for fetch in result.fetches]
    refused = sum(result.refused for result in results) + sum(1 for _, n in fetches if not n)
    return {
        "claims_per_second": round(median(jobs / result.seconds for result in results)),
        "fetch_p99_ms": round(1000 * float(np.quantile([s for s, n in fetches if n], 0.99)), 2),
        "wasted_attempts": round(refused / len(results), 1),
    }


def cost(urls: dict[int, str], name: str, *, pending: int, batch: int, rounds: int) -> tuple[dict[int, float], float]:
    """Median milliseconds of a fetch of `batch`, by rows in the table, and how it grows from the least to the most."""
    queues = {rows: open_queue(name, url) for rows, url in urls.items()}
    seconds: dict[int, list[float]] = {rows: [] for rows in urls}
    for queue in queues.values():
        queue.warm_up()
    left = 0
    for turn in range(rounds):
        if left < 2 * batch:
            for url in urls.values():
                refill(url, name, pending)
            left = pending
        for rows in sorted(urls, reverse=bool(turn % 2)):
            began = time.perf_counter()
            queues[rows].fetch(batch)
            seconds[rows].append(time.perf_counter() - began)
        left -= batch
    for queue in queues.values():
        queue.close()
    pairs = zip(seconds[min(urls)], seconds[max(urls)], strict=True)
    growth = median(large / small for small, large in pairs)
    return {rows: round(1000 * median(values), 3) for rows, values in seconds.items()}, round(growth, 2)


def touched(url: str, batch: int) -> dict[str, float]:
    """What Postgres says of one fetch by S2, for each signal: 8-kB pages looked at, and bytes of WAL."""
    engine = create_engine(url, DatabaseSettings())
    given = {"claimed_by": "w", "lease_seconds": 60.0, "max_attempts": 3, "token": os.urandom(16).hex(), "n": batch}
    with engine.connect() as conn:
        statement = text(f"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) {claim_sql.CLAIM_BATCH.text}")
        plan = conn.execute(statement, given).scalar_one()[0]["Plan"]
        conn.rollback()
    engine.dispose()
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return {"pages": round(pages / batch, 1), "wal_bytes": round(plan["WAL Bytes"] / batch)}


def run(url: str, given: argparse.Namespace) -> dict[str, Any]:
    sizes = [int(n) for n in given.rows.split(",")]
    counts = [int(n) for n in given.workers.split(",")]
    with Workers(max(counts)) as workers:
        urls = {rows: build(url, rows, given.pending) for rows in sizes}
        races: dict[str, dict[str, Any]] = {name: {str(rows): {} for rows in sizes} for name in TABLES}
        for rows, own in urls.items():
            for n in counts:
                results: dict[str, list[Result]] = {name: [] for name in TABLES}
                for turn in range(given.repeats):
                    for name in ("s2", "pgqueuer") if turn else TABLES:  # the others commit each job: long, and steady
                        refill(own, name, given.pending)
                        results[name].append(workers.race(Race(name, own, given.batch, given.pending), n))
                for name, found_here in results.items():
                    races[name][str(rows)][str(n)] = summary(found_here, given.pending)
                    print(f"{rows} rows, {n} workers, {name}: {races[name][str(rows)][str(n)]}", flush=True)
    found: dict[str, Any] = {}
    for name in TABLES:
        batches = {"single": 1} if name == "procrastinate" else {"batch": given.batch, "single": 1}
        found[name] = {"races": races[name]}
        for label, batch in batches.items():
            rounds = given.rounds // 3 if name == "s1" and batch > 1 else given.rounds  # a commit a signal
            costs, growth = cost(urls, name, pending=given.pending, batch=batch, rounds=rounds)
            found[name][label] = {"fetch_ms": costs, "growth": growth}
            print(f"{name}, a fetch of {batch}: {found[name][label]}", flush=True)
    for rows, own in urls.items():
        refill(own, "s2", given.pending)
        found["s2"].setdefault("touched_a_claim", {})[rows] = touched(own, given.batch)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000,100000,1000000", help="in each table")
    parser.add_argument("--workers", default="1,2,4,8,16")
    parser.add_argument("--pending", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5, help="of the races of S2 and pgqueuer, in turn")
    parser.add_argument("--rounds", type=int, default=150, help="fetches from each table for its cost")
    given = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="signal_pipeline-claims-") as folder:
        Path(folder).chmod(0o711)
        with embedded_server(Path(folder) / "home") as url:
            found = run(url, given)
    print(
        json.dumps(
            {
                "growth_1k_to_1m": found["s2"]["batch"]["growth"],
                "ours": {name: found[name] for name in OURS},
                "peers": {name: found[name] for name in PEERS},
                "rows": given.rows,
                "pending": given.pending,
                "batch": given.batch,
                "seconds": round(time.perf_counter() - began),
                "load": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main()
