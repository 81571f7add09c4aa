"""What a claim costs: S1 and S2 beside procrastinate and pgqueuer, with few and many workers and short and long tables.

    python -m benchmarks.claims [--rows 1000,100000,1000000] [--workers 1,2,4,8,16] [--pending 10000] [--batch 50]
                                [--motors 1]

A database for each number of rows on one embedded server: some jobs wait, the rest is finished. Two measures.
*Races*: workers take all that waits: `--pending` jobs, `--batch` a fetch, or a tenth of them where they are taken one
by one (S1, and procrastinate, which has no batch), and never more than the table has rows. On connections that they
hold and have used since the table was analysed, and on new ones; claims a second, the p99 of a fetch,
and wasted attempts (fetches that came back empty, and rows that another had just taken).
*Cost*: one worker of each queue takes a batch from each table in turn, again and again in random order, so that
whatever else the machine does meets all alike; the median of a fetch, `growth_1k_to_1m` (the largest table's over the
smallest's, turn by turn), a peer's over ours, and what Postgres itself touches for one claim of ours. Claims only:
nothing is completed.
Last line: one JSON object.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.engine import make_url

from benchmarks.measuring import connect
from benchmarks.queues import TABLES, install, open_queue, refill
from benchmarks.racing import Race, Result, Workers
from signal_pipeline.db import claim_sql, counters
from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.db.engine import create_engine
from signal_pipeline.settings import DatabaseSettings

OURS = ("s1", "s2")
PEERS = ("procrastinate", "pgqueuer")
ONE_BY_ONE = ("s1", "procrastinate")
CHANCE = Random(0)


def build(url: str, rows: int, given: argparse.Namespace) -> str:
    """A database whose tables will hold `rows` jobs each, once some are pending; returns its URL."""
    name = f"claims_{rows}"
    with connect(url, "postgres") as conn:
        conn.execute(f"CREATE DATABASE {name}")
    own = make_url(url).set(database=name).render_as_string(hide_password=False)
    began = time.perf_counter()
    install(own, max(0, rows - given.pending), given.motors)
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


def costs(urls: dict[int, str], names: tuple[str, ...], given: argparse.Namespace, *, batch: int) -> dict[str, Any]:
    """A fetch of `batch` by each queue from each table, all in turn; milliseconds, growth, and S2 against the peers."""
    places = [(name, rows) for name in names for rows in urls]
    pending = min(given.pending, *urls)
    queues = {(name, rows): open_queue(name, urls[rows]) for name, rows in places}
    seconds: dict[tuple[str, int], list[float]] = {place: [] for place in places}
    for queue in queues.values():
        queue.warm_up()
    left = 0
    for _ in range(given.rounds):
        if left < 2 * batch:
            CHANCE.shuffle(places)  # whatever is filled last, or follows itself, finds its pages in the cache
            for name, rows in places:
                refill(urls[rows], name, pending)
            left = pending
        CHANCE.shuffle(places)
        for place in places:
            began = time.perf_counter()
            queues[place].fetch(batch)
            seconds[place].append(time.perf_counter() - began)
        left -= batch
    for queue in queues.values():
        queue.close()
    few, many = min(urls), max(urls)
    return {
        name: {
            "fetch_ms": {rows: round(1000 * median(seconds[name, rows]), 3) for rows in urls},
            "growth": paired(seconds[name, few], seconds[name, many]),
            **{f"{peer}_to_s2": paired(seconds["s2", many], seconds[peer, many]) for peer in PEERS if name == peer},
        }
        for name in names
    }


def paired(first: list[float], second: list[float]) -> float:
    """How many times as long the second took, turn by turn: the median."""
    return round(median(b / a for a, b in zip(first, second, strict=True)), 2)


def touched(url: str, batch: int) -> dict[str, float]:
    """What Postgres says of one fetch by S2, for each signal: 8-kB pages looked at, and bytes of WAL."""
    engine = create_engine(url, DatabaseSettings())
    given = {"claimed_by": "w", "lease_seconds": 60.0, "max_attempts": 3, "token": os.urandom(16).hex(), "n": batch}
    given["shards"] = counters.SHARDS
    with engine.connect() as conn:
        statement = text(f"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) {claim_sql.CLAIM_BATCH.text}")
        plan = conn.execute(statement, given).scalar_one()[0]["Plan"]
        conn.rollback()
    engine.dispose()
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return {"pages": round(pages / batch, 1), "wal_bytes": round(plan["WAL Bytes"] / batch)}


def races(workers: Workers, url: str, rows: int, counts: list[int], given: argparse.Namespace) -> dict[str, Any]:
    """Of each queue by the number of workers: `summary` on connections that were held, and on new ones."""
    jobs = {name: min(rows, given.pending // (10 if name in ONE_BY_ONE else 1)) for name in TABLES}

    def race(name: str, n: int, *, anew: bool) -> Result:
        refill(url, name, jobs[name])
        return workers.race(Race(name, url, given.batch, jobs[name], anew), n)

    for name in TABLES:
        race(name, max(counts), anew=False)  # each worker has its connection now, and has touched the server's memory
    found: dict[str, Any] = {name: {} for name in TABLES}
    for n in counts:
        results: dict[tuple[str, bool], list[Result]] = {(name, anew): [] for name in TABLES for anew in (False, True)}
        order = list(results)
        for _ in range(given.repeats):
            CHANCE.shuffle(order)  # what the one before leaves to be written meets all alike
            for name, anew in order:
                results[name, anew].append(race(name, n, anew=anew))
        for name in TABLES:
            held, new = (summary(results[name, anew], jobs[name]) for anew in (False, True))
            found[name][str(n)] = {**held, "on_new_connections": new}
            print(f"{rows} rows, {n} workers, {name}: {found[name][str(n)]}", flush=True)
    return found


def run(url: str, given: argparse.Namespace) -> dict[str, Any]:
    sizes = [int(n) for n in given.rows.split(",")]
    counts = [int(n) for n in given.workers.split(",") if n]
    with Workers(max(counts, default=0)) as workers:
        urls = {rows: build(url, rows, given) for rows in sizes}
        run_here = {rows: races(workers, own, rows, counts, given) if counts else {} for rows, own in urls.items()}
    found: dict[str, Any] = {
        name: {"races": {str(rows): by_queue.get(name, {}) for rows, by_queue in run_here.items()}} for name in TABLES
    }
    for label, names, batch in (
        ("batch", ("s2", "pgqueuer"), given.batch),
        ("single", ("s2", "s1", *PEERS), 1),
    ):
        for name, cost in costs(urls, names, given, batch=batch).items():
            found[name][label] = cost
            print(f"{name}, a fetch of {batch}: {cost}", flush=True)
    for rows, own in urls.items():
        refill(own, "s2", min(rows, given.pending))
        found["s2"].setdefault("touched_a_claim", {})[rows] = touched(own, given.batch)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000,100000,1000000", help="in each table")
    parser.add_argument("--workers", default="1,2,4,8,16", help="of the races; none: ''")
    parser.add_argument("--pending", type=int, default=10_000, help="jobs that wait before a race")
    parser.add_argument("--motors", type=int, default=1, help="whose signals ours are, one after the other in turn")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=6, help="of each queue's races, in random order")
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
                "motors": given.motors,
                "batch": given.batch,
                "seconds": round(time.perf_counter() - began),
                "load": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main()
