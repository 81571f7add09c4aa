"""Real motor currents through the whole pipeline; skipped, loudly, where they are not."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from signal_pipeline.read import load_features, load_signals

SHARED = Path(os.environ.get("SIGNAL_PIPELINE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
RECORDINGS = SHARED / "itsc"

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no real recordings in {RECORDINGS}"),
]


def test_all_recordings_complete_and_a_second_run_adds_nothing(engine: Engine, as_json: Callable[..., Any]) -> None:
    ingest = ("ingest", str(RECORDINGS), "--sample-rate", "1000", "--no-header")
    assert as_json(*ingest)["new"] == 39
    done = as_json("process")
    assert done["signals"] == {"pending": 0, "processing": 0, "completed": 39, "failed": 0}
    assert done["features_total"] == 351
    assert as_json(*ingest)["known"] == 39
    assert as_json("process")["features_total"] == 351
    features = load_features(columns=["rms_a", "rms_b", "rms_c"], engine=engine)
    signals = load_signals(engine=engine)
    healthy = signals[signals["file_name"].str.contains("SC_HLT_001")]["id"]
    rms = features[features["raw_id"].isin(healthy)][["rms_a", "rms_b", "rms_c"]].mean()
    assert rms.tolist() == pytest.approx([5.4, 4.6, 5.2], abs=0.1)
