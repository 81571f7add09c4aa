"""What a report tells of one equipment: bounded reads by index, the newest first where there is much.

Not here: words and plots (`report`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

MAX_RECORDINGS = 500
MAX_EVENTS = 50
SHOWN_FEATURES = ("rms", "crest", "thd_pct", "kurt")
"""Of each phase; `i2_i1_pct` and `park_2f_pct` of the machine besides."""

EQUIPMENT = text("""
    SELECT id, name, pole_pairs, rated_speed_rpm, line_freq_hz, rated_current_a, rotor_bars
    FROM equipment WHERE name = :name
""")

COUNTS = text("""
    SELECT count(*) FILTER (WHERE processing_status = 'completed') AS completed,
           count(*) FILTER (WHERE processing_status = 'failed') AS failed,
           count(*) FILTER (WHERE processing_status IN ('pending', 'processing')) AS waiting,
           max(recorded_at) FILTER (WHERE recorded_at <= now() + interval '1 day') AS newest
    FROM raw_signals WHERE equipment_id = :id AND recorded_at >= :start AND recorded_at < :end
""")

_MEANS = ", ".join(
    [f"avg({name}_{p}) AS {name}_{p}" for name in SHOWN_FEATURES for p in "abc"]
    + ["avg(i2_i1_pct) AS i2_i1_pct", "avg(park_2f_pct) AS park_2f_pct"]
)
RECORDINGS = text(f"""
    SELECT r.id, r.recorded_at, f.*, s.score, s.threshold, s.anomalies
    FROM (SELECT id, recorded_at FROM raw_signals
          WHERE equipment_id = :id AND recorded_at >= :start AND recorded_at < :end AND processing_status = 'completed'
          ORDER BY recorded_at DESC LIMIT :n) AS r
    CROSS JOIN LATERAL (SELECT count(*) AS windows, {_MEANS} FROM features WHERE raw_id = r.id) AS f
    CROSS JOIN LATERAL (
        SELECT max(score) AS score, max(threshold) AS threshold, count(*) FILTER (WHERE is_anomaly) AS anomalies
        FROM anomaly_scores WHERE raw_id = r.id AND model_kind = 'stream' AND model_version = (
            SELECT model_version FROM anomaly_scores WHERE raw_id = r.id AND model_kind = 'stream'
            ORDER BY created_at DESC LIMIT 1)) AS s
    ORDER BY r.recorded_at
""")  # noqa: S608  column names are ours

EVENTS = text("""
    SELECT started_at, ended_at, raised_at, peak_score, peak_at, threshold, windows, is_open, features, model_version
    FROM anomaly_events WHERE equipment_id = :id AND model_kind = 'stream' AND ended_at >= :start AND started_at < :end
    ORDER BY started_at DESC LIMIT :n
""")

DIAGNOSES = text("""
    SELECT raw_id, recorded_at, severity, findings, analysed_seconds FROM signal_diagnostics
    WHERE equipment_id = :id AND recorded_at >= :start AND recorded_at < :end
    ORDER BY recorded_at DESC, raw_id LIMIT :n
""")

HOURS = text("""
    SELECT hour_start, rms_a_mean, rms_b_mean, rms_c_mean FROM hourly_feature_summary
    WHERE equipment_id = :id AND hour_start >= :start AND hour_start < :end ORDER BY hour_start DESC LIMIT 2000
""")

WITH_SAMPLES = text("""
    SELECT id FROM raw_signals
    WHERE equipment_id = :id AND recorded_at >= :start AND recorded_at < :end AND processing_status = 'completed'
      AND phase_a IS NOT NULL ORDER BY recorded_at DESC, first_row DESC LIMIT 1
""")

NAMES = text("SELECT name FROM equipment ORDER BY name LIMIT 20")


@dataclass(frozen=True, slots=True)
class Told:
    """Rows of one equipment in [start, end): see the queries for their columns. Times ascend but in `events` and
    `diagnoses`, where the newest stands first."""

    equipment: Any
    start: datetime
    end: datetime
    counts: Any
    recordings: list[Any]
    events: list[Any]
    diagnoses: list[Any]
    hours: list[Any]
    with_samples: UUID | None


def find(conn: Connection, name: str) -> Any | None:
    """The equipment's plate; None if there is none of this name."""
    return conn.execute(EQUIPMENT, {"name": name}).one_or_none()


def some_names(conn: Connection) -> list[str]:
    """A few names, for a person who mistyped one."""
    return list(conn.execute(NAMES).scalars())


def tell(conn: Connection, equipment: Any, *, start: datetime, end: datetime) -> Told:
    """Everything that a report shows, but the samples."""
    asked = {"id": equipment.id, "start": start, "end": end}
    return Told(
        equipment=equipment,
        start=start,
        end=end,
        counts=conn.execute(COUNTS, asked).one(),
        recordings=list(conn.execute(RECORDINGS, asked | {"n": MAX_RECORDINGS})),
        events=list(conn.execute(EVENTS, asked | {"n": MAX_EVENTS})),
        diagnoses=list(conn.execute(DIAGNOSES, asked | {"n": MAX_RECORDINGS})),
        hours=list(reversed(conn.execute(HOURS, asked).all())),
        with_samples=conn.execute(WITH_SAMPLES, asked).scalar_one_or_none(),
    )
