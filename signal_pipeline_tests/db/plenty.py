"""Databases that have been at work: for a while (signals, a backlog, windows), or long (millions of windows)."""

from sqlalchemy import Engine, text

from signal_pipeline.db import claims
from signal_pipeline_tests.db.rows import NOON, add_equipment, add_signals, claim_settings

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


MOTORS = 200
WINDOWS_A_SIGNAL = 19
SIGNALS_AT_LEAST = 200_000
"""With fewer the table is so short that reading it whole is right; only the latest of them have windows then."""

BORN_FINAL = text("SET LOCAL session_replication_role = replica")

# In the order of time, as they come; each motor records ten seconds a minute.
MANY_SIGNALS = text("""
    INSERT INTO raw_signals (equipment_id, sample_rate_hz, created_at, recorded_at, processing_status, finalized_at,
                             samples_count, meta)
    SELECT e.id, 25600, t, t, CASE WHEN i % 500 = 0 THEN 'failed' ELSE 'completed' END, t, 256000,
           jsonb_build_object('features', jsonb_build_object('version', 'v1', 'windows', :windows))
    FROM generate_series(0, :signals - 1) AS i
    CROSS JOIN LATERAL (SELECT CAST(:start AS timestamptz) + (i / :motors) * interval '1 minute' AS t) AS at
    JOIN (SELECT id, row_number() OVER (ORDER BY name) AS k FROM equipment) AS e ON e.k = 1 + i % :motors
    ORDER BY i
""")
# Only a few of the columns: a narrow table is sooner read whole, so that what holds here holds for a wide one.
MANY_WINDOWS = text("""
    INSERT INTO features (raw_id, equipment_id, window_start, feature_version, rms_a, rms_b, rms_c)
    SELECT r.id, r.equipment_id, r.recorded_at + w * interval '500 milliseconds', 'v1', 10, 10, 10
    FROM (SELECT id, equipment_id, recorded_at FROM raw_signals
          ORDER BY recorded_at DESC, equipment_id LIMIT :latest) AS r
    CROSS JOIN generate_series(0, :windows - 1) AS w ORDER BY r.recorded_at, r.id, w
""")
MANY_SCORES = text("""
    INSERT INTO anomaly_scores (feature_id, raw_id, equipment_id, window_start, model_kind, model_version,
                                score, threshold, is_anomaly)
    SELECT id, raw_id, equipment_id, window_start, 'stream', 'm1', 1, 2, id % 1000 = 0 FROM features ORDER BY id
""")
MANY_HOURS = text("""
    INSERT INTO hourly_feature_summary (equipment_id, hour_start, windows)
    SELECT equipment_id, date_trunc('hour', recorded_at, 'UTC'), count(*) FROM raw_signals GROUP BY 1, 2
""")


def grow_long(engine: Engine, windows: int) -> None:
    """About `windows` rows of features, each with a score, in an empty migrated database.

    `engine` needs a statement timeout of 0: of ten million rows a statement takes minutes.
    """
    for n in range(MOTORS):
        add_equipment(engine, f"motor {n:03}")
    latest = windows // WINDOWS_A_SIGNAL
    given = {
        "signals": max(SIGNALS_AT_LEAST, latest),
        "latest": latest,
        "motors": MOTORS,
        "windows": WINDOWS_A_SIGNAL,
        "start": NOON,
    }
    with engine.begin() as conn:
        conn.execute(BORN_FINAL)
        for statement in (MANY_SIGNALS, MANY_WINDOWS, MANY_SCORES, MANY_HOURS):
            conn.execute(statement, {name: given[name] for name in statement.compile().params})
    add_signals(engine, 50)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text("VACUUM ANALYZE"))
