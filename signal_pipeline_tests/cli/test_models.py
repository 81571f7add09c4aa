"""`train`, `detect` and `rescore` from the command line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.reference import Dropped
from signal_pipeline.cli.models import advice
from signal_pipeline_tests.anomaly.machines import FEATURES, Machine
from signal_pipeline_tests.cli.conftest import Run, write_csv
from signal_pipeline_tests.signals import count


def test_a_model_is_trained_and_then_scores_what_comes(
    engine: Engine, run: Run, as_json: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "pump"
    for i in range(12):
        write_csv(folder / f"2025-08-25T12-{i:02}-00Z.csv", rows=10_000, seed=i)
    run("ingest", str(folder), "--sample-rate", "1000")
    run("process")
    assert "no model" in run("detect", code=1).stderr
    trained = as_json("train", "--equipment", "pump", "--from", "2025-08-25", "--to", "2025-08-26")
    assert trained["windows"] == {"pump": 12 * 19}
    write_csv(folder / "2025-08-25T13-00-00Z.csv", rows=10_000, seed=99)
    run("ingest", str(folder), "--sample-rate", "1000")
    run("process")
    assert count(engine, "anomaly_scores") == 19
    assert as_json("detect")["pump"]["windows"] == 13 * 19
    assert as_json("detect")["pump"]["windows"] == 0
    assert as_json("rescore", "--equipment", "pump")["pump"]["windows"] == 13 * 19
    assert "no such equipment" in run("rescore", "--equipment", "fan", code=1).stderr


def test_training_on_nothing_is_refused(run: Run) -> None:
    assert "nothing to train on" in run("train", code=1).stderr


@pytest.mark.parametrize(("recordings", "wants_more"), [(1, True), (3, True), (12, False)])
def test_training_says_what_it_ignored_and_how_many_recordings_it_wants(recordings: int, wants_more: bool) -> None:
    values, names = Machine(np.random.default_rng(0)).recordings(12, 20)
    values[:, 0] = 4.5
    fitted = fit(FEATURES, values, names)
    dropped = fitted.scaler.dropped | ({"feature_9": Dropped.SURPLUS} if wants_more else {})
    reference = replace(
        fitted, recordings=fitted.recordings[:recordings], scaler=replace(fitted.scaler, dropped=dropped)
    )
    lines = "\n".join(advice(reference))
    assert "learnt 11 of 12 features" in lines
    assert "they never change: feature_0" in lines
    assert ("give 12 or more" in lines) == ("feature_9" in lines) == wants_more
    assert ("one recording does not show" in lines) == (recordings == 1)


def test_a_forecast_says_once_why_there_is_none(run: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "pump" / "a.csv")
    run("ingest", str(tmp_path), "--sample-rate", "1000")
    run("process")
    said = run("forecast").stdout
    assert said.startswith("pump: no forecast of rms_a, rms_b, rms_c: ")
    assert "240 are needed" in said


def test_a_forecast_of_a_motor_that_does_not_exist_is_an_error(run: Run) -> None:
    assert "no such equipment: ghost" in run("forecast", "--equipment", "ghost", code=1).stderr
