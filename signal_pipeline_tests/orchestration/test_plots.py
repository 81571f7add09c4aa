"""Pictures in materializations: which signals get one, what stands in its place, and that none can fail a run."""

import base64
import importlib.util
import random
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from dagster import AssetKey, DagsterInstance, Definitions, ExecuteInProcessResult
from PIL import Image
from sqlalchemy import Engine

from signal_pipeline.orchestration import plots
from signal_pipeline.orchestration.drawings import sidebands, spectrum_remark
from signal_pipeline.orchestration.plots import PICTURED, SIGNAL_IN_SAMPLES, how_many, sample
from signal_pipeline.processing.batch import Batch, Outcome
from signal_pipeline.processing.training import train
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ModelSettings, Settings, ViewSettings
from signal_pipeline_tests.orchestration.conftest import Materialize, SensorRuns
from signal_pipeline_tests.signals import change, insert_signals, recording

PREFIX = "![picture](data:image/png;base64,"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(view=ViewSettings(pictures_per_run=2), models=ModelSettings(models_dir=tmp_path / "models"))


def entries(result: ExecuteInProcessResult, asset: str) -> dict[str, dict[str, Any]]:
    """Metadata of each partition of an asset that this run materialized."""
    return {
        event.partition: {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key == AssetKey(asset) and event.partition
    }


def is_picture(text: object) -> bool:
    """Whether it is a PNG that a browser can draw, small enough for an event."""
    if not (isinstance(text, str) and text.startswith(PREFIX)):
        return False
    assert len(text) < 60_000
    with Image.open(BytesIO(base64.b64decode(text[len(PREFIX) : -1]))) as image:
        return image.format == "PNG" and image.width >= 600


def test_a_sample_of_a_run_gets_pictures_for_each_asset(
    engine: Engine, worker: Worker, materialize: Materialize
) -> None:
    ids = [str(i) for i in insert_signals(engine, 12, phases=recording(seconds=10))]
    assert materialize(ids[:-3]).success
    train(worker)
    result = materialize(ids[-3:])
    assert result.success
    for asset, (name, _) in PICTURED.items():
        found = entries(result, asset)
        drawn = [key for key, entry in found.items() if is_picture(entry.get(name))]
        assert (len(found), len(drawn)) == (3, 2), asset
        assert all(name not in entry for key, entry in found.items() if key not in drawn)


def test_counts_and_durations_stand_beside_the_pictures(engine: Engine, materialize: Materialize) -> None:
    (signal_id,) = insert_signals(engine, 1, phases=recording(seconds=4))
    result = materialize([str(signal_id)])
    features, hours, scores = (
        entries(result, a)[str(signal_id)] for a in ("features", "hourly_feature_summary", "anomaly_scores")
    )
    assert (features["windows"], features["features_new"], features["samples"]) == (7, 7, 4000)
    assert set(features["seconds"]) >= {"load", "validate", "extract"}
    assert (hours["windows"], hours["hours"]) == (7, 1)
    assert (scores["scored"], scores["reason"], scores["batch"]) == (0, "no_manifest", 1)
    assert scores["seconds_of_batch"] >= 0


def batch(token: int = 0, *, recompute: bool = False) -> Batch:
    return Batch(UUID(int=token), (), recompute=recompute)


def test_none_are_drawn_where_none_are_wanted(engine: Engine) -> None:
    none = ViewSettings(pictures_per_run=0, pictures_thrifty=False)
    assert how_many(none, batch(2**128 - 1, recompute=True), samples=10**12) == 0
    worker = Worker(engine, Settings(view=none), "t")
    (signal_id,) = insert_signals(engine, 1)
    assert plots.signal_pictures(worker, "raw_signals", {signal_id: Outcome({})}, 0) == {}


def test_who_asks_for_signals_gets_pictures_of_them_however_short_they_are() -> None:
    assert how_many(ViewSettings(pictures_per_run=3), batch(recompute=True), samples=1000) == 3


def test_runs_by_themselves_draw_what_costs_a_twentieth_of_their_work_on_average() -> None:
    rng = random.Random(1)
    view = ViewSettings(pictures_per_run=100)
    samples = 20_000_000
    drawn = sum(how_many(view, batch(rng.getrandbits(128)), samples=samples) for _ in range(5000))
    assert drawn * SIGNAL_IN_SAMPLES / (5000 * samples) == pytest.approx(0.05, rel=0.1)
    assert how_many(view.model_copy(update={"pictures_thrifty": False}), batch(), samples=1) == 100
    assert how_many(view, batch(), samples=10**12) == 100


@pytest.mark.parametrize(("signal_in_samples", "drawn"), [(1, 2), (10**12, 0)])
def test_a_run_by_itself_draws_what_its_work_pays_for(
    engine: Engine,
    sensor_runs: SensorRuns,
    monkeypatch: pytest.MonkeyPatch,
    signal_in_samples: int,
    drawn: int,
) -> None:
    monkeypatch.setattr(plots, "SIGNAL_IN_SAMPLES", signal_in_samples)
    insert_signals(engine, 3, phases=recording(seconds=4))
    (result,) = sensor_runs()
    assert result.success
    for asset in ("raw_signals", "features", "signal_diagnostics", "hourly_feature_summary"):
        found = entries(result, asset).values()
        assert sum(is_picture(entry.get(PICTURED[asset][0])) for entry in found) == drawn, asset


def test_the_highest_scores_are_looked_at_first() -> None:
    ids = [UUID(int=k) for k in range(4)]
    done = {i: Outcome({"highest_score": score}) for i, score in zip(ids, (1.0, 9.0, None, 3.0), strict=True)}
    assert sample(done, 2) == [ids[1], ids[3]]
    assert sample({i: Outcome({}) for i in ids}, 2) == ids[:2]


def test_without_matplotlib_the_run_goes_on_and_says_which_extra_draws(
    engine: Engine, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(plots, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    (signal_id,) = insert_signals(engine, 1)
    result = materialize([str(signal_id)])
    assert result.success
    assert "--extra plots" in entries(result, "raw_signals")[str(signal_id)]["waveform"]


def test_a_picture_that_cannot_be_drawn_is_logged_and_says_so_in_its_place(
    engine: Engine, materialize: Materialize, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError("no such ink")

    monkeypatch.setattr(plots, "PICTURED", {asset: (name, broken) for asset, (name, _) in PICTURED.items()})
    (signal_id,) = insert_signals(engine, 1)
    result = materialize([str(signal_id)])
    assert result.success
    assert "ZeroDivisionError: no such ink" in entries(result, "features")[str(signal_id)]["features over time"]
    assert sum(event["event"] == "picture.failed" for event in logs) == len(PICTURED)


def test_a_signal_whose_samples_are_only_in_their_csv_has_no_picture_of_them(engine: Engine, worker: Worker) -> None:
    (signal_id,) = insert_signals(engine, 1)
    change(engine, "UPDATE raw_signals SET phase_a = NULL, phase_b = NULL, phase_c = NULL")
    assert plots.signal_pictures(worker, "raw_signals", {signal_id: Outcome({})}, 1) == {}


def test_sidebands_stand_where_the_slip_says() -> None:
    """4 poles at 50 Hz and 2 % slip: 1470 rpm, 24.5 Hz."""
    found = {band.name: band.freq for band in sidebands(50.0, 0.02, 2)}
    expected = {"f1(1−2s)": 48, "f1(1+2s)": 52, "f1(1−4s)": 46, "f1(1+4s)": 54, "f1−fr": 25.5, "f1+fr": 74.5}
    assert found == pytest.approx(expected)
    assert sidebands(50.0, None, 2) == ()


def test_training_and_forecasts_show_pictures_too(
    engine: Engine, instance: DagsterInstance, definitions: Definitions, materialize: Materialize
) -> None:
    ids = [str(i) for i in insert_signals(engine, 12, phases=recording(seconds=10))]
    assert materialize(ids).success
    job = definitions.resolve_implicit_global_asset_job_def()
    trained = job.execute_in_process(instance=instance, asset_selection=[AssetKey("anomaly_model")])
    (model,) = trained.get_asset_materialization_events()
    assert is_picture(model.materialization.metadata["healthy scores"].value)
    change(
        engine,
        """
        INSERT INTO hourly_feature_summary (equipment_id, hour_start, windows, rms_a_mean, rms_b_mean, rms_c_mean)
        SELECT id, timestamptz '2025-08-25' - n * interval '1 hour', 60, 10 + sin(n * 0.26), 10 + sin(n * 0.26), 10
        FROM equipment, generate_series(1, 400) AS n ON CONFLICT DO NOTHING
        """,
    )
    issued = job.execute_in_process(instance=instance, asset_selection=[AssetKey("forecasts")])
    (event,) = issued.get_asset_materialization_events()
    assert event.materialization.metadata["issued"].value == 3
    assert is_picture(event.materialization.metadata["hourly trend of M1"].value)


def test_a_spectrum_says_in_plain_words_why_no_sidebands_are_marked() -> None:
    assert spectrum_remark(0.0243, "ok", "severe") == "slip 2.43 % · diagnosis: severe"
    without_plate = spectrum_remark(None, "no_motor_data", None)
    assert without_plate == "no sidebands are marked: the motor's plate is not known · diagnosis: no verdict"
