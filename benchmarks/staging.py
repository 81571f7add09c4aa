"""Databases of pending signals for the benchmarks of whole programs: seeded once, copied for each case.

The signals are lent out when they are made; `Stage.release` makes all of them claimable at one moment. Not here: what
processes them, and what it costs.
"""

import time
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import numpy as np
from sqlalchemy.engine import make_url

from benchmarks.measuring import connect
from signal_pipeline.db import migrate
from signal_pipeline.ingest import codec
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


class Stage:
    """One case's own databases, and the moment at which its signals become claimable."""

    def __init__(self, url: str, name: str, home: Path) -> None:
        self.url, self.name, self.home = url, name, home
        self.domain_url = self._url(f"throughput_{name}", "postgresql+psycopg")
        self.dagster_url = self._url(f"throughput_{name}_dagster", "postgresql+psycopg2")
        with connect(url, "postgres") as conn:
            conn.execute(f"CREATE DATABASE throughput_{name} TEMPLATE {SEEDED} STRATEGY file_copy")
            for database in self.databases[1:]:
                conn.execute(f"CREATE DATABASE {database}")

    def _url(self, database: str, driver: str) -> str:
        return make_url(self.url).set(drivername=driver, database=database).render_as_string(hide_password=False)

    @property
    def databases(self) -> list[str]:
        return [f"throughput_{self.name}{kind}" for kind in ("", "_dagster", "_dagster_1")]

    def environment(self, number: int = 0) -> dict[str, str]:
        """For the process of this number (0 or 1), which has a Dagster storage and a home of its own."""
        own = f"_{number}" if number else ""
        return {
            "DATABASE_URL": self.domain_url,
            "DAGSTER_DATABASE_URL": self._url(f"throughput_{self.name}_dagster{own}", "postgresql+psycopg2"),
            "SIGNAL_PIPELINE_HOME": str(self.home / f"{self.name}{own}"),
        }

    def small_batches(self) -> dict[str, str]:
        """A setting under which two processes share the signals evenly, to a tenth."""
        with connect(self.domain_url) as conn:
            (signals,) = conn.execute("SELECT count(*) FROM raw_signals").fetchone() or (0,)
        return {"CLAIM_BATCH_SIZE": str(max(1, signals // 10))}

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


def seed(url: str, *, signals: int, seconds: float, fs: float, plates: bool = False) -> None:
    """A migrated database with `signals` pending signals, all of them lent out for now; `plates`: of known motors."""
    with connect(url, "postgres") as conn:
        conn.execute(f"CREATE DATABASE {SEEDED}")
    seeded = make_url(url).set(database=SEEDED).render_as_string(hide_password=False)
    migrate.upgrade(seeded)
    with connect(seeded) as conn:
        conn.execute("INSERT INTO equipment (name) SELECT 'M' || i FROM generate_series(1, 10) AS i")
        if plates:
            motor = asdict(Motor())
            conn.execute(f"UPDATE equipment SET {', '.join(f'{name} = %({name})s' for name in motor)}", motor)
        conn.execute("CREATE TEMPORARY TABLE rec (i int, n int, a bytea, b bytea, c bytea, ca int8, cb int8, cc int8)")
        for i in range(DISTINCT):
            samples = simulate(Motor(), Condition(), fs=fs, seconds=seconds, seed=i)
            blobs = [codec.encode(np.ascontiguousarray(phase)) for phase in samples]
            row = (i, samples.shape[1], *blobs, *(codec.checksum(blob) for blob in blobs))
            conn.execute("INSERT INTO rec VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", row)
        given = {"fs": fs, "token": uuid4(), "signals": signals, "distinct": DISTINCT}
        conn.execute(SIGNALS_FROM_RECORDINGS, given)
        conn.execute("VACUUM ANALYZE raw_signals")
