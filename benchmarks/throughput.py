"""What Dagster costs: the same pending signals without it, through `signal-pipeline process`, and by daemon and sensor.

    python benchmarks/throughput.py [--signals 1000] [--seconds 10] [--fs 25600] [--cases bare,process,sensor]

One embedded server; each case gets a copy of one database whose signals were prepared beforehand and become claimable
at one moment. `bare` is timed in a warm process, from that moment; `process` is the whole command, its start included;
`sensor` is a warm daemon, from that moment until the last signal is final. Machine-independent are the ratios only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import numpy as np
import psutil
import yaml
from sqlalchemy.engine import make_url

from benchmarks.measuring import Family, connect, cpu_seconds, postmaster, sessions
from signal_pipeline.cli.environment import Surroundings, prepare_dagster, surroundings
from signal_pipeline.cli.server import dagster_server
from signal_pipeline.db import migrate
from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.ingest import codec
from signal_pipeline.settings import load_settings
from signal_pipeline.synthetic.motor import Condition, Motor, simulate

SEEDED = "throughput_seeded"
POLL_SECONDS = 0.2
DISTINCT = 8
"""Recordings that are really different; the rows repeat them, because simulating a thousand takes longer than all."""

# Minutes apart on ten motors, and lent out: the same moment makes all of them claimable (`Stage.release`).
SIGNALS_FROM_RECORDINGS = """
    INSERT INTO raw_signals (equipment_id, sample_rate_hz, recorded_at, samples_count,
                             phase_a, phase_b, phase_c, crc32_a, crc32_b, crc32_c,
                             claim_token, claimed_by, lease_expires_at)
    SELECT equipment.id, %(fs)s, '2025-01-01'::timestamptz + s * interval '1 minute', n, a, b, c, ca, cb, cc,
           %(token)s, 'benchmark', now() + interval '1 day'
    FROM generate_series(1, %(signals)s) AS s
    JOIN rec ON rec.i = s %% %(distinct)s
    JOIN equipment ON equipment.name = 'M' || (s %% 10 + 1)
"""

Result = tuple[float, Family, dict[str, Any]]
"""Seconds from release to the end, what the processes cost, and what else there is to say."""

Case = Callable[["Stage"], Result]


class Stage:
    """One case's own databases, and the moment at which its signals become claimable."""

    def __init__(self, url: str, name: str, home: Path) -> None:
        self.url, self.name, self.home = url, name, home
        self.domain_url = self._url(f"throughput_{name}", "postgresql+psycopg")
        self.dagster_url = self._url(f"throughput_{name}_dagster", "postgresql+psycopg2")
        with connect(url, "postgres") as conn:
            conn.execute(f"CREATE DATABASE throughput_{name} TEMPLATE {SEEDED} STRATEGY file_copy")
            conn.execute(f"CREATE DATABASE throughput_{name}_dagster")

    def _url(self, database: str, driver: str) -> str:
        return make_url(self.url).set(drivername=driver, database=database).render_as_string(hide_password=False)

    @property
    def databases(self) -> list[str]:
        return [f"throughput_{self.name}", f"throughput_{self.name}_dagster"]

    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.domain_url,
            "DAGSTER_DATABASE_URL": self.dagster_url,
            "SIGNAL_PIPELINE_HOME": str(self.home / self.name),
        }

    def release(self) -> None:
        """The signals were lent until now: from here on anybody may claim them."""
        with connect(self.domain_url) as conn:
            conn.execute("UPDATE raw_signals SET claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL")

    def wait_until_final(self) -> None:
        with connect(self.domain_url) as conn:
            while conn.execute("SELECT count(*) FROM raw_signals WHERE finalized_at IS NULL").fetchone() != (0,):
                time.sleep(POLL_SECONDS)

    def results(self) -> dict[str, int]:
        """What came out: the same in every case, or the comparison would be of nothing."""
        query = """
            SELECT count(*) FILTER (WHERE processing_status = 'completed'), (SELECT count(*) FROM features)
            FROM raw_signals
        """
        with connect(self.domain_url) as conn:
            row = conn.execute(query).fetchone() or (0, 0)
        return {"completed": row[0], "features": row[1]}

    def dagster_counts(self) -> tuple[int, int]:
        """Events and runs in Dagster's storage."""
        with connect(self.dagster_url) as conn:
            if conn.execute("SELECT to_regclass('event_logs')").fetchone() == (None,):
                return 0, 0
            row = conn.execute("SELECT (SELECT count(*) FROM event_logs), (SELECT count(*) FROM runs)").fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def timeline(self, released_at: float) -> dict[str, float]:
        """When things happened, in seconds after the release: first claim, first run, last signal, last run's end."""
        claimed = "SELECT extract(epoch FROM min(claimed_at))::float8, extract(epoch FROM max(finalized_at))::float8"
        runs = "SELECT min(extract(epoch FROM create_timestamp AT TIME ZONE 'UTC'))::float8, min(start_time)"
        with connect(self.domain_url) as conn, connect(self.dagster_url) as dagster:
            first_claim, last_final = conn.execute(f"{claimed} FROM raw_signals").fetchone() or (0, 0)
            created, started, ended = dagster.execute(f"{runs}, max(end_time) FROM runs").fetchone() or (0, 0, 0)
        moments = {
            "first_claim": first_claim,
            "first_run_created": created,
            "first_run_started": started,
            "last_signal_final": last_final,
            "last_run_ended": ended,
        }
        return {name: round(moment - released_at, 2) for name, moment in moments.items()}

    def drop(self) -> None:
        with connect(self.url, "postgres") as conn:
            for database in self.databases:
                conn.execute(f"DROP DATABASE {database} WITH (FORCE)")


def seed(url: str, *, signals: int, seconds: float, fs: float) -> None:
    """A migrated database with `signals` pending signals, all of them lent out for now."""
    with connect(url, "postgres") as conn:
        conn.execute(f"CREATE DATABASE {SEEDED}")
    seeded = make_url(url).set(database=SEEDED).render_as_string(hide_password=False)
    migrate.upgrade(seeded)
    with connect(seeded) as conn:
        conn.execute("INSERT INTO equipment (name) SELECT 'M' || i FROM generate_series(1, 10) AS i")
        conn.execute("CREATE TEMPORARY TABLE rec (i int, n int, a bytea, b bytea, c bytea, ca int8, cb int8, cc int8)")
        for i in range(DISTINCT):
            samples = simulate(Motor(), Condition(), fs=fs, seconds=seconds, seed=i)
            blobs = [codec.encode(np.ascontiguousarray(phase)) for phase in samples]
            row = (i, samples.shape[1], *blobs, *(codec.checksum(blob) for blob in blobs))
            conn.execute("INSERT INTO rec VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", row)
        given = {"fs": fs, "token": uuid4(), "signals": signals, "distinct": DISTINCT}
        conn.execute(SIGNALS_FROM_RECORDINGS, given)
        conn.execute("VACUUM ANALYZE raw_signals")


def run_bare() -> None:
    """The child of the case `bare`: claims and works without Dagster, timed by its parent."""
    from signal_pipeline.db.claims import claim_pending
    from signal_pipeline.db.engine import create_engine
    from signal_pipeline.dsp.warm_up import warm_up
    from signal_pipeline.observability.logs import configure_logging
    from signal_pipeline.processing.batch import Batch
    from signal_pipeline.processing.run import run_batch
    from signal_pipeline.processing.worker import Worker

    settings = load_settings()
    configure_logging(settings.app, default_level="ERROR")
    worker = Worker(create_engine(os.environ["DATABASE_URL"], settings.database), settings, "bare")
    warm_up()
    print("ready", flush=True)
    sys.stdin.readline()
    while claims := claim_pending(worker.engine, settings=settings.claims, claimed_by=worker.name).claims:
        for claim in claims:
            run_batch(worker, Batch(claim.token, claim.signal_ids))
    print("done", flush=True)
    sys.stdin.readline()


def bare(stage: Stage) -> Result:
    command = [sys.executable, __file__, "--bare-child"]
    environment = os.environ | stage.environment()
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("no pipes")
        _expect(child.stdout.readline(), "ready")
        with Family(child.pid) as family:
            stage.release()
            start = time.perf_counter()
            child.stdin.write("go\n")
            child.stdin.flush()
            _expect(child.stdout.readline(), "done")
            seconds = time.perf_counter() - start
        child.stdin.close()
    return seconds, family, {}


def _expect(line: str, word: str) -> None:
    if line.strip() != word:
        raise RuntimeError(f"the child said {line!r} instead of {word!r}; what went wrong stands above")


def process(stage: Stage) -> Result:
    stage.release()
    start = time.perf_counter()
    command = [str(Path(sys.executable).parent / "signal-pipeline"), "process", "--json"]
    environment = os.environ | stage.environment()
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as child,
        Family(child.pid) as family,
    ):
        if child.wait() != 0:
            raise RuntimeError(f"signal-pipeline process ended with {child.returncode}")
    return time.perf_counter() - start, family, {}


def sensor(stage: Stage) -> Result:
    with _environment(stage.environment()), surroundings(load_settings()) as here, _server(here) as pid:
        with Family(pid) as family:
            stage.release()
            start = time.perf_counter()
            released_at = time.time()
            stage.wait_until_final()
            seconds = time.perf_counter() - start
        _let_runs_end(stage)
    return seconds, family, {"timeline": stage.timeline(released_at)}


def sensor_stock(stage: Stage) -> Result:
    """The same with dagster-postgres as it comes, and Dagster's own intervals: what docs/decisions/0002 is about."""

    def prepare_stock(here: Surroundings) -> None:
        prepare_dagster(here)
        path = here.dagster_home / "dagster.yaml"
        instance = yaml.safe_load(path.read_text())
        instance["storage"] = {"postgres": {"postgres_url": {"env": "DAGSTER_DATABASE_URL"}}}
        del instance["run_coordinator"]["config"]
        path.write_text(yaml.safe_dump(instance))

    with (
        _environment({"DAGSTER_EVENT_BATCH_SIZE": "0"}),
        patch("signal_pipeline.cli.server.prepare_dagster", prepare_stock),
    ):
        return sensor(stage)


CASES: dict[str, Case] = {"bare": bare, "process": process, "sensor": sensor, "sensor_stock": sensor_stock}
USUAL = "bare,process,sensor"


@contextmanager
def _server(here: Surroundings) -> Iterator[int]:
    """A daemon that has looked at the (empty) queue at least once."""
    with dagster_server(here, port=3250, quiet=True) as server:
        server.wait_until_ready()
        with connect(here.dagster_url) as conn:
            deadline = time.monotonic() + 120
            while conn.execute("SELECT count(*) FROM job_ticks").fetchone() == (0,):
                if time.monotonic() > deadline:
                    raise RuntimeError("the sensor did not tick within two minutes")
                server.check()
                time.sleep(0.5)
        yield server.process.pid


def _let_runs_end(stage: Stage) -> None:
    """The last events are written after the last signal: count them, too."""
    with connect(stage.dagster_url) as conn:
        while conn.execute("SELECT count(*) FROM runs WHERE status NOT IN ('SUCCESS', 'FAILURE')").fetchone() != (0,):
            time.sleep(POLL_SECONDS)


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def measure(case: str, url: str, home: Path, signals: int) -> dict[str, Any]:
    """Run one case on databases of its own and say what it cost."""
    stage = Stage(url, case, home)
    server = postmaster(url)
    postgres_before, load = cpu_seconds(server), psutil.getloadavg()[0]
    seconds, family, more = CASES[case](stage)
    events, runs = stage.dagster_counts()
    postgres_cpu = cpu_seconds(server) - postgres_before
    found = {
        "seconds": round(seconds, 2),
        "signals_per_second": round(signals / seconds, 2),
        "cpu_seconds": {"python": round(family.cpu_seconds, 1), "postgres": round(postgres_cpu, 1)},
        "peak_mib": round(family.peak_bytes / 2**20),
        "dagster_runs": runs,
        "dagster_events_per_signal": round(events / signals, 2),
        "connections_per_signal": round(sessions(url, stage.databases) / signals, 3),
        "load_before": round(load, 1),
        **stage.results(),
        **more,
    }
    stage.drop()
    print(f"{case}: {json.dumps(found)}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each recording")
    parser.add_argument("--fs", type=float, default=25_600.0, help="Hz")
    parser.add_argument("--cases", default=USUAL, help=f"of {', '.join(CASES)}")
    parser.add_argument("--bare-child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare_child:
        run_bare()
        return
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        home = Path(folder)
        home.chmod(0o711)  # where root runs the server, its user has to pass
        with embedded_server(home) as url:
            seed(url, signals=arguments.signals, seconds=arguments.seconds, fs=arguments.fs)
            cases = arguments.cases.split(",")
            found = {case: measure(case, url, home, arguments.signals) for case in cases}
    overhead = {
        case: round(found[case]["seconds"] / found["bare"]["seconds"], 2)
        for case in cases
        if case != "bare" and "bare" in found
    }
    given = {"signals": arguments.signals, "seconds": arguments.seconds, "fs": arguments.fs, "cores": os.cpu_count()}
    print(json.dumps({**given, **found, "dagster_overhead": overhead}))


if __name__ == "__main__":
    main()
