"""The detect pass over stored features: each window once, and events that do not depend on how it was asked for."""

import random
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.processing.models import detect
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ModelSettings, Settings
from signal_pipeline_tests.processing.minutes import FAULTY, HEALTHY, NEW, add, trained_worker, work_off
from signal_pipeline_tests.signals import MIDNIGHT, change, value

TWICE = frozenset({*range(HEALTHY + 2, HEALTHY + 5), *FAULTY})
"""Faulty recordings of the motor: a fault that comes, goes and comes again."""


@pytest.fixture
def worker(engine: Engine, tmp_path: Path) -> Worker:
    """A model, and the new recordings worked off before it could score them as they passed."""
    worker = trained_worker(engine, tmp_path / "models")
    add(engine, NEW, faulty=TWICE)
    work_off(worker)
    return worker


def at(minute: float) -> datetime:
    return MIDNIGHT + timedelta(minutes=minute)


def events(engine: Engine) -> list[tuple[Any, ...]]:
    query = (
        "SELECT started_at, ended_at, raised_at, peak_score, peak_at, threshold, windows, is_open, features::text "
        "FROM anomaly_events WHERE model_kind = 'stats' ORDER BY started_at"
    )
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


def scores(engine: Engine) -> list[tuple[Any, ...]]:
    query = (
        "SELECT window_start, raw_id, float8send(score)::text, meta::text FROM anomaly_scores "
        "WHERE model_kind = 'stats' ORDER BY 1, 2"
    )
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


def forget_pass(engine: Engine) -> None:
    for table in ("anomaly_scores", "anomaly_events"):
        change(engine, f"DELETE FROM {table} WHERE model_kind = 'stats'")


def test_a_fault_that_comes_and_goes_is_two_events_of_the_pass(engine: Engine, worker: Worker) -> None:
    detect(worker)
    first, second = events(engine)
    assert at(HEALTHY + 2) <= first[0] < at(HEALTHY + 3)
    assert at(HEALTHY + 5) < first[1] < at(HEALTHY + 7)  # until a majority of seven windows is healthy
    assert not first[7]
    assert at(HEALTHY + 10) <= second[0]
    assert second[7]
    assert 18 <= first[6] <= 30


def test_scores_and_events_are_the_same_bytes_whatever_ranges_are_asked_for(engine: Engine, worker: Worker) -> None:
    detect(worker)
    expected = scores(engine), events(engine)
    # cut within faults and between them, within a recording and between two
    cuts = [None, at(HEALTHY + 2), at(HEALTHY + 3.02), at(HEALTHY + 4), at(HEALTHY + 7), at(HEALTHY + 12.03), None]
    ranges = list(pairwise(cuts))
    for seed in (1, 2, 3):
        forget_pass(engine)
        random.Random(seed).shuffle(ranges)
        for start, end in ranges:
            detect(worker, start=start, end=end)
        assert (scores(engine), events(engine)) == expected


def test_scores_and_events_are_the_same_bytes_however_many_windows_are_read_at_once(
    engine: Engine, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    detect(worker)
    expected = scores(engine), events(engine)
    forget_pass(engine)
    monkeypatch.setattr("signal_pipeline.processing.events.CHUNK", 4)
    monkeypatch.setattr("signal_pipeline.processing.models.CHUNK", 9)
    detect(worker)
    assert (scores(engine), events(engine)) == expected


def test_the_threshold_of_the_settings_is_the_streams_and_not_the_passes(engine: Engine, worker: Worker) -> None:
    """One number for two models whose scores are on different scales would deafen or overwhelm one of them."""
    models = ModelSettings(models_dir=worker.settings.models.models_dir, anomaly_threshold=1e6)
    detect(Worker(engine, Settings(models=models), "t"))
    assert value(engine, "SELECT max(threshold) FROM anomaly_scores WHERE model_kind = 'stats'") < 1e6
    assert len(events(engine)) == 2
