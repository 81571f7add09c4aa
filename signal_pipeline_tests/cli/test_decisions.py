"""What a person decides about models from the command line, and what is told of those that are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from signal_pipeline_tests.cli.conftest import Run, write_csv
from signal_pipeline_tests.signals import value

PROPOSE = text("""
    INSERT INTO reference_proposals (equipment_id, model_kind, model_version, evidence)
    SELECT id, :kind, :version, CAST(:evidence AS jsonb) FROM equipment RETURNING id
""")
WINDOWS_A_FILE = 19


@pytest.fixture
def models_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    """Twelve processed recordings of `pump`, and a model of them."""
    place = tmp_path / "models"
    monkeypatch.setenv("MODELS_DIR", str(place))
    for i in range(12):
        write_csv(tmp_path / "pump" / f"2025-08-25T12-{i:02}-00Z.csv", rows=10_000, seed=i)
    run("ingest", str(tmp_path / "pump"), "--sample-rate", "1000")
    run("process")
    return place


def propose(engine: Engine, kind: str, version: str, **evidence: Any) -> int:
    """A drift of the only motor from its reference of this version; the number of its proposal."""
    told = {"windows": 76, "largest": [["rms_a", 1.9]]} | evidence
    with engine.begin() as conn:
        return int(conn.execute(PROPOSE, {"kind": kind, "version": version, "evidence": json.dumps(told)}).scalar_one())


def test_a_drift_is_listed_and_accepted_or_dismissed(
    engine: Engine, run: Run, as_json: Callable[..., Any], models_dir: Path
) -> None:
    trained = run("train").stdout
    assert "pump: 228 windows" in trained
    assert "asked 1, seen " in trained
    assert "threshold " in trained
    assert "takes two motors or more" in trained
    assert run("proposals", "list").stdout == "no motor has drifted\n"
    since, until = "2025-08-25T12:04:00+00:00", "2025-08-25T12:07:09+00:00"
    version = as_json("models", "list")["latest"]
    healthy = propose(engine, "stream", version, since=since, until=until)
    old = propose(engine, "stats", version)
    assert f"{healthy}  pump: rms_a +1.9 sd, over 76 windows, since {since}" in run("proposals", "list").stdout
    assert [one["id"] for one in as_json("proposals", "list")] == [healthy, old]
    assert "dismiss it, and train" in run("proposals", "accept", str(old), code=1).stderr
    assert "is dismissed" in run("proposals", "dismiss", str(old)).stdout
    assert "is not open" in run("proposals", "dismiss", str(old), code=1).stderr
    assert f"pump: {4 * WINDOWS_A_FILE} windows" in run("proposals", "accept", str(healthy)).stdout
    assert "is not open" in run("proposals", "accept", str(healthy), code=1).stderr
    query = "SELECT string_agg(status, ' ' ORDER BY id) FROM reference_proposals"
    assert value(engine, query) == "accepted dismissed"
    assert as_json("proposals", "list") == []


def test_a_person_goes_back_to_an_earlier_version(run: Run, as_json: Callable[..., Any], models_dir: Path) -> None:
    assert "no model was trained" in run("models", "list").stdout
    first, second = as_json("train")["version"], as_json("train", "--from", "2025-08-25T12:01")["version"]
    assert as_json("models", "list") == {"versions": sorted([first, second]), "latest": second}
    assert first in run("models", "use", first).stdout
    assert f"{first}  latest" in run("models", "list").stdout
    refused = run("models", "use", "../elsewhere", code=1).stderr
    assert first in refused
    assert second in refused
    rescored = as_json("rescore", "--equipment", "pump", "--model-version", second)["pump"]
    assert (rescored["version"], rescored["windows"]) == (second, 12 * WINDOWS_A_FILE)
    assert first in run("rescore", "--equipment", "pump", "--model-version", "none", code=1).stderr


def test_a_model_that_is_refused_is_told_by_process_and_status_and_can_be_trained_anew(
    run: Run, as_json: Callable[..., Any], models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = as_json("train")["version"]
    monkeypatch.setenv("WINDOW_MS", "500")
    assert "train again" in as_json("status")["models"]["anomaly_detection"]["refused"]
    assert "refused" in run("status").stdout
    assert version in run("process").stderr
    assert set(as_json("process")["models_refused"]) == {"anomaly_detection", "embedding"}
    monkeypatch.delenv("WINDOW_MS")
    assert as_json("process")["models_refused"] == {}
    manifest = models_dir / "anomaly_detection" / "latest" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"k": 3', '"k": 1'))
    assert "was changed" in as_json("status")["models"]["anomaly_detection"]["refused"]
    assert "nothing of it is kept" in run("train").stdout
    assert as_json("status")["models"]["anomaly_detection"]["refused"] is None
