"""The statements that load a file, one commented constant each. The functions that run them are in `sources`."""

from sqlalchemy import text

from signal_pipeline.domain import PHASES

# One loader a file. Tried first, because the usual limits on waiting are too short for a neighbour's file of gigabytes.
# And silence must be allowed: after the first of a gigabyte of bad cells nothing is inserted until all are counted.
TRY_LOCK = text("""
    SELECT pg_try_advisory_xact_lock(hashtextextended('load:' || :sha256, 0)),
           set_config('idle_in_transaction_session_timeout', '2h', true)
""")
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('load:' || :sha256, 0))")
WAIT_AS_LONG_AS_IT_TAKES = (text("SET LOCAL lock_timeout = 0"), text("SET LOCAL statement_timeout = 0"))
USUAL_LIMITS = (text("SET LOCAL lock_timeout TO DEFAULT"), text("SET LOCAL statement_timeout TO DEFAULT"))

SOURCES_OF_CONTENT = text("SELECT id FROM sources WHERE sha256 = :sha256")

# By hash, too: another program may have registered the file without a source. Whatever it wrote for a batch's number.
FIND = """
    SELECT r.id,
           CASE WHEN r.file_hash = :sha256 THEN 0
                WHEN r.source_id = ANY(:own) AND r.meta ->> 'batch_index' ~ '^[0-9]{1,9}$'
                THEN CAST(r.meta ->> 'batch_index' AS integer) END AS batch_index,
           r.processing_status, e.name AS equipment, r.file_name, r.first_row, r.created_at,
           greatest(0, coalesce(r.samples_count - r.lead_in, 0)) AS n_rows,
           CASE WHEN r.lease_expires_at >= clock_timestamp() THEN r.claimed_by END AS held_by,
           CASE WHEN r.lease_expires_at >= clock_timestamp() THEN r.lease_expires_at END AS held_until
    FROM raw_signals AS r JOIN equipment AS e ON e.id = r.equipment_id
    WHERE r.source_id = ANY(:own) OR r.source_id = ANY(:earlier) OR r.file_hash = :sha256 ORDER BY r.id
"""
FIND_WITHOUT_LOCK = text(FIND)
# Nobody can claim a row between looking at its lease and deleting it. In id order, as the fence locks (see `claims`).
FIND_AND_LOCK = text(f"{FIND} FOR UPDATE OF r")

EARLIER_VERSIONS = text("SELECT id FROM sources WHERE path = :path AND sha256 <> :sha256")
# Only once their signals are gone: what nobody has locked is not deleted along with its source.
FORGET_EARLIER_VERSIONS = text("""
    DELETE FROM sources AS s WHERE s.path = :path AND s.sha256 <> :sha256
        AND NOT EXISTS (SELECT FROM raw_signals AS r WHERE r.source_id = s.id)
""")
MOVE_SOURCE = text("UPDATE sources SET path = :path WHERE sha256 = :sha256")
MOVE_SIGNALS = text("""
    UPDATE raw_signals SET file_name = :path WHERE source_id = (SELECT id FROM sources WHERE sha256 = :sha256)
""")

# Features and scores go with their signals (ON DELETE CASCADE).
DELETE_SIGNALS = text("DELETE FROM raw_signals WHERE id = ANY(:ids)")

ADD_EQUIPMENT = text("INSERT INTO equipment (name) VALUES (:name) ON CONFLICT (name) DO NOTHING")
EQUIPMENT = text("SELECT id FROM equipment WHERE name = :name")

# The source of a file that had failed is there still, and keeps its id; the file may lie elsewhere now, and be read
# otherwise.
PUT_SOURCE = text("""
    INSERT INTO sources (id, path, sha256, size_bytes, n_rows, dialect)
    VALUES (:id, :path, :sha256, :size_bytes, 0, CAST(:dialect AS jsonb))
    ON CONFLICT (sha256) DO UPDATE
    SET path = excluded.path, size_bytes = excluded.size_bytes, n_rows = 0, dialect = excluded.dialect,
        created_at = excluded.created_at
    RETURNING id
""")

PHASE_COLUMNS = [f"{kind}_{phase}" for kind in ("phase", "crc32") for phase in PHASES]

INSERT_SIGNAL = text(f"""
    INSERT INTO raw_signals (id, equipment_id, source_id, file_name, file_hash, sample_rate_hz, recorded_at,
                             first_row, lead_in, samples_count, meta, {", ".join(PHASE_COLUMNS)})
    VALUES (:id, :equipment_id, :source_id, :file_name, :file_hash, :sample_rate_hz, :recorded_at,
            :first_row, :lead_in, :samples_count, CAST(:meta AS jsonb), {", ".join(f":{c}" for c in PHASE_COLUMNS)})
""")  # noqa: S608  column names are ours

INSERT_FAILED = text("""
    INSERT INTO raw_signals (id, equipment_id, source_id, file_name, file_hash, sample_rate_hz, recorded_at,
                             processing_status, finalized_at, meta)
    VALUES (:id, :equipment_id, :source_id, :file_name, :file_hash, :sample_rate_hz, :recorded_at, 'failed', now(),
            CAST(:meta AS jsonb)
            || jsonb_build_object('failure', CAST(:failure AS jsonb) || jsonb_build_object('at', now())))
""")

FINISH_SOURCE = text("""
    UPDATE sources SET n_rows = :n_rows, size_bytes = :size_bytes, dialect = CAST(:dialect AS jsonb) WHERE id = :id
""")

# Known only at the file's end: how many batches there are, and which phases hold no number in any of them.
FINISH_SIGNALS = text(f"""
    UPDATE raw_signals
    SET meta = meta || jsonb_build_object('batches', CAST(:batches AS integer), 'phases', CAST(:recorded AS text[])),
        {", ".join(f"{c} = CASE WHEN '{c[-1]}' = ANY(CAST(:recorded AS text[])) THEN {c} END" for c in PHASE_COLUMNS)}
    WHERE source_id = :id
""")  # noqa: S608  column names are ours
