"""Questions about what is stored, each answered from an index or a bounded sample, however much there is.

Here: the counting. Not here: which answer is good enough (`orchestration.checks`).
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from signal_pipeline.domain import PHASES

LATEST_SIGNALS = 1000
LATEST_COMPLETED = 200
SAMPLED_EQUIPMENT = 12
SAMPLED_HOURS = 24

LATEST = text("""
    SELECT processing_status, meta -> 'failure' ->> 'reason' AS reason, count(*) AS n FROM (
        (SELECT processing_status, meta, finalized_at FROM raw_signals
         WHERE processing_status = 'completed' AND finalized_at IS NOT NULL ORDER BY finalized_at DESC LIMIT :n)
        UNION ALL
        (SELECT processing_status, meta, finalized_at FROM raw_signals
         WHERE processing_status = 'failed' AND finalized_at IS NOT NULL ORDER BY finalized_at DESC LIMIT :n)
        ORDER BY finalized_at DESC LIMIT :n) AS latest
    GROUP BY 1, 2 ORDER BY n DESC
""")

# A NULL says why it is one; a whole window of a phase without a level and without a reason is a defect.
_UNEXPLAINED = " OR ".join(f"rms_{p} IS NULL" for p in PHASES)
COMPLETENESS = text(f"""
    SELECT count(*) AS signals, coalesce(sum(promised), 0) AS promised, coalesce(sum(stored), 0) AS stored,
           coalesce(sum(unexplained), 0) AS unexplained,
           coalesce(array_agg(id::text ORDER BY id) FILTER (WHERE stored <> promised OR unexplained > 0), '{{}}') AS bad
    FROM (SELECT id, CAST(meta -> 'features' ->> 'windows' AS bigint) AS promised FROM raw_signals
          WHERE processing_status = 'completed' AND finalized_at IS NOT NULL AND meta -> 'features' ? 'windows'
          ORDER BY finalized_at DESC LIMIT :n) AS latest
    CROSS JOIN LATERAL (
        SELECT count(*) AS stored,
               count(*) FILTER (WHERE ({_UNEXPLAINED}) AND coalesce(null_reasons, '{{}}') = '{{}}') AS unexplained
        FROM features WHERE raw_id = latest.id) AS found
""")  # noqa: S608  column names are ours

HOURS_ROWS = text("SELECT greatest(reltuples, 1) FROM pg_class WHERE oid = 'hourly_feature_summary'::regclass")

_STATS = ", ".join(
    f"avg(rms_{p}) AS rms_{p}_mean, min(rms_{p}) AS rms_{p}_min, max(rms_{p}) AS rms_{p}_max, "
    f"stddev_pop(rms_{p}) AS rms_{p}_std"
    for p in PHASES
)
# Two numbers are the same if both are NULL, or if they differ by less than rounding; a deviation of almost nothing
# is compared against the level that it belongs to.
_SAME = " AND ".join(
    f"(abs(h.rms_{p}_{s} - f.rms_{p}_{s}) <= 1e-6 * greatest(abs(f.rms_{p}_mean), 1e-12)"
    f" OR (h.rms_{p}_{s} IS NULL AND f.rms_{p}_{s} IS NULL))"
    for p in PHASES
    for s in ("mean", "min", "max", "std")
)
# The newest hours of a few machines, which are the ones still being written, and a few of all.
RECOMPUTED = text(f"""
    WITH picked AS (
        (SELECT n.equipment_id, n.hour_start
         FROM (SELECT id FROM equipment ORDER BY random() LIMIT :equipment) AS e
         CROSS JOIN LATERAL (SELECT equipment_id, hour_start FROM hourly_feature_summary
                             WHERE equipment_id = e.id ORDER BY hour_start DESC LIMIT 2) AS n)
        UNION
        (SELECT equipment_id, hour_start FROM hourly_feature_summary TABLESAMPLE SYSTEM (:percent) LIMIT :hours))
    SELECT e.name, h.hour_start, coalesce(h.windows = f.windows AND {_SAME}, false) AS same
    FROM picked JOIN hourly_feature_summary AS h USING (equipment_id, hour_start)
    JOIN equipment AS e ON e.id = h.equipment_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS windows, {_STATS} FROM features
        WHERE equipment_id = h.equipment_id
          AND window_start >= h.hour_start AND window_start < h.hour_start + interval '1 hour') AS f
    ORDER BY e.name, h.hour_start
""")  # noqa: S608  column names are ours

STREAMS = text("""
    SELECT e.name, s.model_version, CAST(s.state ->> 'windows' AS bigint) AS windows,
           (SELECT count(*) FROM anomaly_events AS v WHERE v.equipment_id = s.equipment_id
              AND v.model_kind = s.model_kind AND v.model_version = s.model_version) AS events
    FROM anomaly_states AS s JOIN equipment AS e ON e.id = s.equipment_id
    WHERE s.model_kind = 'stream' ORDER BY e.name, s.model_version
""")


@dataclass(frozen=True, slots=True)
class Completeness:
    """The latest completed signals: windows that they promise and hold, NULLs without a reason, ids of bad ones."""

    signals: int
    promised: int
    stored: int
    unexplained: int
    bad: list[str]


@dataclass(frozen=True, slots=True)
class Recomputed:
    """How many hours were computed again, and which of them (equipment, start) stand otherwise in the summary."""

    hours: int
    different: list[tuple[str, datetime]]


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """What a model's stream has seen of one equipment: windows learnt, events raised."""

    equipment: str
    version: str
    windows: int
    events: int


def latest_outcomes(conn: Connection) -> tuple[int, dict[str, int]]:
    """How many of the latest 1000 final signals completed, and how many failed by reason."""
    rows = conn.execute(LATEST, {"n": LATEST_SIGNALS}).all()
    failed = {row.reason or "unknown": row.n for row in rows if row.processing_status == "failed"}
    return sum(row.n for row in rows if row.processing_status == "completed"), failed


def completeness(conn: Connection) -> Completeness:
    """Of the latest 200 completed signals."""
    row = conn.execute(COMPLETENESS, {"n": LATEST_COMPLETED}).one()
    return Completeness(row.signals, int(row.promised), int(row.stored), int(row.unexplained), list(row.bad))


def recompute_some_hours(conn: Connection) -> Recomputed:
    """Compute a few dozen hours again from their features, in one statement and so in one snapshot."""
    rows = float(conn.execute(HOURS_ROWS).scalar_one())
    percent = min(100.0, 100.0 * 20 * SAMPLED_HOURS / rows)
    asked = {"equipment": SAMPLED_EQUIPMENT, "hours": SAMPLED_HOURS, "percent": percent}
    found = conn.execute(RECOMPUTED, asked).all()
    return Recomputed(len(found), [(row.name, row.hour_start) for row in found if not row.same])


def stream_records(conn: Connection) -> list[StreamRecord]:
    """The streams of each equipment, one for every version whose reference has scored it."""
    return [StreamRecord(row.name, row.model_version, row.windows, row.events) for row in conn.execute(STREAMS)]
