"""A database that has been at work for a while: many old signals, a backlog, windows of many machines."""

from sqlalchemy import Engine, text

from signal_pipeline.db import claims
from signal_pipeline_tests.db.rows import NOON, add_equipment, claim_settings

N = 20_000
MACHINES = 20
STATUSES = {"completed": N, "failed": 500, "pending": 3000}

RECORDINGS = text("""
    INSERT INTO raw_signals (equipment_id, file_name, created_at, recorded_at, processing_status, finalized_at, meta)
    SELECT :equipment, 'file ' || i, CAST(:start AS timestamptz) + make_interval(secs => :after + i), :start,
           CAST(:status AS text), now(), '{"features": {"version": "v1", "windows": 3}}'
    FROM generate_series(1, :n) AS i
""")
WINDOWS = text("""
    INSERT INTO features (raw_id, equipment_id, window_start, feature_version, rms_a)
    SELECT r.id, e.id, CAST(:start AS timestamptz) + make_interval(secs => i), 'v1', i
    FROM generate_series(1, :n) AS i
    JOIN (SELECT id, row_number() OVER (ORDER BY id) AS k FROM raw_signals) AS r ON r.k = 1 + i % 2000
    JOIN (SELECT id, row_number() OVER (ORDER BY id) AS k FROM equipment) AS e ON e.k = 1 + i % :machines
""")


def grow(engine: Engine) -> None:
    """Fill an empty, migrated database; its statistics are up to date afterwards."""
    equipment = [add_equipment(engine, f"motor {n:02}") for n in range(MACHINES)]
    with engine.begin() as conn:
        conn.execute(text("SET LOCAL session_replication_role = replica"))  # only here: born completed
        after = 0
        for status, n in STATUSES.items():  # what waits is younger than what is done
            parameters = {"equipment": equipment[0], "start": NOON, "status": status, "n": n, "after": after}
            conn.execute(RECORDINGS, parameters)
            after += n
        conn.execute(WINDOWS, {"start": NOON, "n": N, "machines": MACHINES})
    claims.claim_pending(engine, settings=claim_settings(), claimed_by="instance/a")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text("VACUUM ANALYZE"))
