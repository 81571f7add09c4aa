"""An equipment with everything that a report shows, under a name that tries to be markup."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine

from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.diagnostics import store_plates
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings
from signal_pipeline_tests.signals import MIDNIGHT, change, insert_signals, recording

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> 泵 & \"co\" 'x'"

SCORES = """
    INSERT INTO anomaly_scores (feature_id, raw_id, equipment_id, window_start, model_kind, model_version,
                                score, threshold, is_anomaly)
    SELECT id, raw_id, equipment_id, window_start, 'stream', '1', 5 + id % 3, 6, id % 3 > 0 FROM features
"""
EVENTS = """
    INSERT INTO anomaly_events (equipment_id, model_kind, model_version, started_at, ended_at, raised_at, peak_score,
                                peak_at, threshold, windows, is_open, features)
    SELECT id, 'stream', '1', :at, :at + interval '10 minutes', :at, 8.5, :at, 6, 5, true,
           '[["<b>i2_i1_pct</b>", 0.6], ["thd_pct_a", 0.2]]' FROM equipment
"""
FORECASTS = """
    INSERT INTO forecasts (equipment_id, quantity, issued_at, hour_start, model, mean, lower_80, upper_80,
                           lower_95, upper_95, limit_value)
    SELECT id, q, :at, :at + n * interval '1 hour', 'm', 7, 6.8, 7.2, 6.5, 7.5, 11
    FROM equipment, unnest(ARRAY['rms_a', 'rms_b', 'rms_c']) AS q, generate_series(0, 23) AS n
"""


@pytest.fixture
def reported(engine: Engine) -> list[UUID]:
    """Three completed recordings, an hour apart, with scores, an open event and a forecast."""
    ids = insert_signals(engine, 3, equipment=HOSTILE, phases=recording(seconds=10), file_name=HOSTILE)
    with engine.begin() as conn:
        store_plates(conn, {HOSTILE: {"pole_pairs": 2, "rated_speed_rpm": 1455.0, "rated_current_a": 10.0}})
    settings = Settings()
    (claim,) = claim_pending(engine, settings=settings.claims, claimed_by="t").claims
    run_batch(Worker(engine, settings, "t"), Batch(claim.token, claim.signal_ids))
    change(engine, SCORES)
    change(engine, EVENTS, at=MIDNIGHT + timedelta(hours=2))
    change(engine, FORECASTS, at=MIDNIGHT + timedelta(hours=3))
    return ids
