"""Fault 5: a full disk below the database, the temporary folder and the models folder."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine

from signal_pipeline.anomaly.models import load_latest
from signal_pipeline.processing.training import train
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ModelSettings, Settings
from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import Scene
from signal_pipeline_tests.faults.own_server import OwnServer, fill, server_home, small_disk
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed, train_models
from signal_pipeline_tests.ingest.loading import csv_of
from signal_pipeline_tests.signals import current, statuses

pytestmark = [pytest.mark.faults(5), pytest.mark.processes, pytest.mark.timeout(1800)]

SMALL_WAL = {"min_wal_size": "32MB", "max_wal_size": "48MB", "shared_buffers": "16MB"}
DATABASE_MEGABYTES = 192


def test_signals_wait_for_a_full_database_and_finish_when_it_has_space(scene: Scene, seed: int) -> None:
    """Postgres may end itself when its log cannot grow; the next command starts it again."""
    story = Story(seed=seed, motors=3, signals=8)
    expected = scene.undisturbed(story)
    with ExitStack() as stack:
        disk = stack.enter_context(
            small_disk(stack.enter_context(server_home()) / "disk", megabytes=DATABASE_MEGABYTES)
        )
        server = stack.enter_context(OwnServer(disk, **SMALL_WAL))
        with server.database() as engine:
            story.tell(engine)
            ballast = fill(disk)
            given = scene.orders(engine, limit=4, attempts=100)
            with processes.started(given) as (worker,):
                processes.wait_until(lambda: full(given.log), what="a worker that meets the full disk")
                assert worker.exitcode is None
                ballast.unlink()
                engine.dispose()
                server.bring_up_again()
                assert processes.ended(worker) == 0
            assert set(statuses(engine).values()) == {"completed"}
            assert_undisturbed(engine, expected)
    scene.saw(full_databases=1, signals=len(story.ids))


def full(log: Path) -> bool:
    return any("o space left" in str(entry) or "in recovery mode" in str(entry) for entry in processes.said(log))


def test_a_full_temporary_folder_stops_nothing(engine: Engine, scene: Scene, tmp_path: Path, seed: int) -> None:
    """Neither loading a file nor the work on it needs room there."""
    story = Story(seed=seed, motors=2, signals=3)
    expected = scene.undisturbed(story)
    story.tell(engine)
    path = tmp_path / "a.csv"
    path.write_text(csv_of(current((seed, 5), seconds=5.0)))
    with small_disk(tmp_path / "temporary", megabytes=1) as disk:
        fill(disk)
        assert processes.run(scene.orders(engine, temporary=disk)) == 0
        assert_undisturbed(engine, expected)
        assert processes.run(scene.orders(engine, temporary=disk, load=path)) == 0
        assert processes.run(scene.orders(engine, temporary=disk)) == 0
        assert [p.name for p in disk.iterdir()] == ["ballast"]
    assert set(statuses(engine).values()) == {"completed"}
    scene.saw(full_temporary_folders=1)


def test_training_into_a_full_folder_leaves_the_version_that_was_there(
    engine: Engine, scene: Scene, tmp_path: Path, seed: int
) -> None:
    with small_disk(tmp_path / "models", megabytes=4) as disk:
        train_models(engine, disk)
        before, version = listing(disk), load_latest(disk)
        assert version is not None
        ballast = fill(disk)
        worker = Worker(engine, Settings(models=ModelSettings(models_dir=disk)), "faults:training")
        with pytest.raises(OSError, match="No space left"):
            train(worker)
        ballast.unlink()
        assert listing(disk) == before
        found = load_latest(disk)
        assert found is not None
        assert found.version == version.version
        trained = train(worker)
        assert trained.models.version != version.version
    scene.saw(full_models_folders=1)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
