"""The statements of a stream of scores, one commented constant each. The functions that run them are in `streams`."""

from sqlalchemy import text

# One writer a stream, over all versions of a kind: a new model's stream must not overtake the old one's last words.
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('stream:' || :kind || ':' || :equipment, 0))")

STATE = text("""
    SELECT manifest_hash, state, tracker, last_window_start, last_raw_id FROM anomaly_states
    WHERE equipment_id = :equipment_id AND model_kind = :model_kind AND model_version = :model_version
""")

# The start of the earliest signal that has yet to bring its windows. What a pending signal's features say of an older
# version does not count; one that is being finished (`meta.features` is up to date) has brought them.
BARRIER = text("""
    SELECT min(recorded_at + make_interval(
               secs => (first_row - lead_in) / CASE WHEN sample_rate_hz > 0 AND sample_rate_hz < 'Infinity'
                                                    THEN sample_rate_hz ELSE 1 END))
    FROM raw_signals
    WHERE equipment_id = :equipment_id AND processing_status IN ('pending', 'processing')
      AND (meta -> 'features' ->> 'version') IS DISTINCT FROM :feature_version
""")

# Where the stream that another version's reference moved came to: what lies behind that was left to its successor.
PREDECESSOR = text("""
    SELECT last_window_start, last_raw_id FROM anomaly_states
    WHERE equipment_id = :equipment_id AND model_kind = :model_kind AND model_version <> :model_version
      AND last_window_start IS NOT NULL
    ORDER BY updated_at DESC LIMIT 1
""")

# Only the version in use goes on: an event of another would stay open for ever.
CLOSE_OTHERS = text("""
    UPDATE anomaly_events SET is_open = false
    WHERE equipment_id = :equipment_id AND is_open AND model_kind = :model_kind
      AND model_version <> :model_version
""")

CLOSE = text("""
    UPDATE anomaly_events SET is_open = false
    WHERE equipment_id = :equipment_id AND is_open AND model_kind = :model_kind AND model_version = :model_version
""")

OPEN_STREAMS = text("""
    SELECT DISTINCT v.equipment_id, e.name, v.model_kind, v.model_version
    FROM anomaly_events AS v JOIN equipment AS e ON e.id = v.equipment_id
    WHERE v.is_open ORDER BY v.equipment_id, v.model_kind, v.model_version
""")

# A window of the future, which an earlier version may have stored, would make everything that comes until then late.
# Signals that were finished before the reference existed are not of its stream (`detect` scores them), except those
# that this batch was asked to score, and those that waited in the stream before for an earlier recording.
# The equipment is the same on both sides; said twice, a motor's signals are found by their index, too.
WINDOWS = """
    SELECT f.id, f.raw_id, f.window_start, {columns}
    FROM features AS f JOIN raw_signals AS r ON r.id = f.raw_id AND r.equipment_id = f.equipment_id
    WHERE f.equipment_id = :equipment_id AND f.feature_version = :feature_version AND {which}
      AND NOT EXISTS (SELECT 1 FROM anomaly_scores AS s
                      WHERE s.feature_id = f.id AND s.model_kind = :model_kind AND s.model_version = :model_version)
    ORDER BY f.window_start, f.raw_id LIMIT :limit
"""
NEXT = """
    (CAST(:after AS timestamptz) IS NULL
     OR (f.window_start >= :after
         AND (f.window_start, f.raw_id) > (CAST(:after AS timestamptz), CAST(:after_id AS uuid))))
    AND (CAST(:barrier AS timestamptz) IS NULL OR f.window_start < :barrier) AND f.window_start <= now() + :ahead
    AND (r.finalized_at IS NULL OR r.finalized_at >= :since OR f.raw_id = ANY(:ids)
         OR (f.window_start, f.raw_id) > (CAST(:waited AS timestamptz), CAST(:waited_id AS uuid)))
"""
LATE = """
    f.raw_id = :raw_id AND (f.window_start, f.raw_id) <= (CAST(:after AS timestamptz), CAST(:after_id AS uuid))
"""

# Signals that may hold late windows: those at hand, and those that another worker has extracted and not finished yet.
# Were the latter left to that worker, their scores would depend on how far the stream had moved by then.
LATE_SIGNALS = text("""
    SELECT r.id FROM raw_signals AS r
    WHERE r.id = ANY(ARRAY(
            SELECT unnest(CAST(:ids AS uuid[]))
            UNION
            SELECT id FROM raw_signals
            WHERE equipment_id = :equipment_id AND processing_status IN ('pending', 'processing')
              AND meta -> 'features' ->> 'version' = :feature_version))
      AND EXISTS (SELECT 1 FROM features AS f
                  WHERE f.raw_id = r.id AND f.feature_version = :feature_version
                    AND (f.window_start, f.raw_id) <= (CAST(:after AS timestamptz), CAST(:after_id AS uuid))
                    AND NOT EXISTS (SELECT 1 FROM anomaly_scores AS s
                                    WHERE s.feature_id = f.id AND s.model_kind = :model_kind
                                      AND s.model_version = :model_version))
    ORDER BY r.recorded_at, r.id
""")

INSERT_SCORES = """
    COPY anomaly_scores (feature_id, raw_id, equipment_id, window_start, model_kind, model_version,
                         score, threshold, is_anomaly, meta) FROM STDIN (FORMAT binary)
"""
SCORE_TYPES = ("int8", "uuid", "uuid", "timestamptz", "text", "text", "float8", "float8", "bool", "jsonb")
