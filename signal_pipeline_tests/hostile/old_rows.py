"""Rows as each migration's own time had them: what a database may hold that is upgraded from there.

`FILLERS` has an entry for every migration, in the SQL of its time; a new one gets an entry here (the test fails
without), empty if it makes no table. Frozen like the migrations themselves. Not here: upgrading, and what has to hold.
"""

import gzip
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, text

from signal_pipeline.ingest.codec import checksum, encode
from signal_pipeline_tests.signals import recording

SIGNALS: Final = """
    INSERT INTO equipment (id, name, pole_pairs, line_freq_hz, meta)
        VALUES ('00000000-0000-0000-0000-0000000000e1', 'pump-1', 2, 50, '{"note": "first"}');
    INSERT INTO sources (id, path, sha256, size_bytes, n_rows)
        VALUES ('00000000-0000-0000-0000-0000000000f1', '/data/pump-1/1.csv', 'abc', 1000, 2000);
    INSERT INTO counters (name, shard, value) VALUES ('features_total', 0, 3), ('files_loaded_total', 1, 4);
"""
RESULTS: Final = """
    INSERT INTO features (raw_id, equipment_id, window_start, feature_version, rms_a, rms_b, kurt_c, embedding)
        SELECT '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000e1',
               '2025-08-25 00:00:00+00'::timestamptz + i * interval '500 ms', 'v0', 7.0 + i, 7.1, -1.5, '{0.5,1}'
        FROM generate_series(0, 2) AS i;
    INSERT INTO hourly_feature_summary (equipment_id, hour_start, windows, rms_a_mean)
        VALUES ('00000000-0000-0000-0000-0000000000e1', '2025-08-25 00:00:00+00', 3, 8.0);
    INSERT INTO anomaly_scores (feature_id, raw_id, equipment_id, window_start, model_kind, model_version, score,
                                threshold, is_anomaly, meta)
        SELECT id, raw_id, equipment_id, window_start, 'stream', 'm1', 12.5, 10, true, '{"online": true}' FROM features;
    INSERT INTO forecasts (equipment_id, quantity, issued_at, hour_start, model, mean)
        VALUES ('00000000-0000-0000-0000-0000000000e1', 'rms_a', '2025-08-25 01:00:00+00', '2025-08-25 02:00:00+00',
                'naive', 8.0);
"""
STREAM: Final = "'00000000-0000-0000-0000-0000000000e1', 'stream', 'm1'"

FILLERS: Final[dict[str, Sequence[str]]] = {
    "0001": (SIGNALS, "signals", RESULTS),
    "0002": (
        """
        UPDATE equipment SET reference_i2_i1_pct = 0.7;
        INSERT INTO signal_diagnostics (raw_id, equipment_id, recorded_at, severity, analysed_seconds, slip,
                                        slip_status, findings, motor, diagnosis_version)
            VALUES ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000e1',
                    '2025-08-25 00:00:00+00', 'moderate', 2.0, 0.02, 'ok', '[]', '{"pole_pairs": 2}', 'd0');
        """,
    ),
    "0003": (
        f"""
        INSERT INTO anomaly_states (equipment_id, model_kind, model_version, manifest_hash, state, tracker,
                                    last_window_start, last_raw_id)
            VALUES ({STREAM}, 'hash', '{{}}', '{{}}', '2025-08-25 00:00:01+00',
                    '00000000-0000-0000-0000-000000000001');
        INSERT INTO anomaly_events (equipment_id, model_kind, model_version, started_at, ended_at, raised_at,
                                    peak_score, peak_at, threshold, windows, is_open, features)
            VALUES ({STREAM}, '2025-08-25', '2025-08-25', '2025-08-25', 12.5, '2025-08-25', 10, 3, true, '{{}}');
        INSERT INTO reference_proposals (equipment_id, model_kind, model_version, evidence)
            VALUES ({STREAM}, '{{}}');
        """,
    ),
    "0004": ("INSERT INTO durations (what, le, shard, observations, microseconds) VALUES ('extract', 0.5, 0, 3, 700)",),
    "0005": (),
    "0006": (),
    "0007": (),
    "0008": (),
    "0009": (),
    "0010": (),
    "0011": ("INSERT INTO counters (name, le, shard, value, microseconds) VALUES ('load', 1, 0, 2, 900)",),
}
"""Revision -> statements; the word `signals` stands for one signal in each state, with samples."""

STATES: Final = ("completed", "failed", "pending", "processing")

CLAIM: Final = """
    UPDATE raw_signals SET processing_status = 'processing', claim_token = gen_random_uuid(), claimed_by = 'old host',
        claimed_at = now(), lease_expires_at = now() - interval '1 second', attempts = 1 WHERE id = :id
"""
FINISH: Final = """
    UPDATE raw_signals SET processing_status = :status, claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL,
        finalized_at = now(), meta = meta || CAST(:meta AS jsonb) WHERE id = :id
"""


def fill(conn: Connection, revision: str) -> None:
    """Add the rows of `revision`'s time. Raises `KeyError` for a migration without a filler."""
    for statement in FILLERS[revision]:
        if statement == "signals":
            _fill_signals(conn)
        else:
            conn.exec_driver_sql(statement)


def _fill_signals(conn: Connection) -> None:
    """One in each state; the first has a file behind it, the last a gzip blob, as the oldest programs wrote them."""
    for number, status in enumerate(STATES, start=1):
        samples = recording(seed=number)
        blobs = [gzip.compress(row.tobytes()) if number == len(STATES) else encode(row) for row in samples]
        row: dict[str, Any] = {
            "id": f"00000000-0000-0000-0000-{number:012}",
            "source": "00000000-0000-0000-0000-0000000000f1" if number == 1 else None,
            "hash": "abc" if number == 1 else None,
            "n": samples.shape[1],
            **{f"phase_{phase}": blob for phase, blob in zip("abc", blobs, strict=True)},
            **{f"crc32_{phase}": checksum(blob) for phase, blob in zip("abc", blobs, strict=True)},
        }
        conn.execute(
            text(f"""
                INSERT INTO raw_signals (id, equipment_id, source_id, file_hash, sample_rate_hz, recorded_at,
                    samples_count, phase_a, phase_b, phase_c, crc32_a, crc32_b, crc32_c, meta)
                VALUES (:id, '00000000-0000-0000-0000-0000000000e1', :source, :hash, 1000,
                    '2025-08-25 0{number}:00:00+00', :n, :phase_a, :phase_b, :phase_c, :crc32_a, :crc32_b, :crc32_c,
                    '{{"batch_index": 0}}')
            """),
            row,
        )
        if status != "pending":
            conn.execute(text(CLAIM), {"id": row["id"]})
        if status in ("completed", "failed"):
            meta = '{"failure": {"reason": "csv_error"}}' if status == "failed" else "{}"
            conn.execute(text(FINISH), {"id": row["id"], "status": status, "meta": meta})
