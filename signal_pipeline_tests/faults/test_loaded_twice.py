"""Fault 8: one file loaded by several processes at once, under several names, and once more when it is done."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import NewDatabase, Scene
from signal_pipeline_tests.faults.stories import assert_undisturbed, results
from signal_pipeline_tests.ingest.loading import csv_of
from signal_pipeline_tests.signals import NAMESPACE, change, count, current

pytestmark = [pytest.mark.faults(8), pytest.mark.processes, pytest.mark.timeout(1800)]

LOADERS = 4


def load_at_once(scene: Scene, engine: Engine, paths: list[Path]) -> list[str]:
    """A process for each path, let go together; what each reports."""
    given = [scene.orders(engine, load=path) for path in paths]
    with processes.started(*given, together=True) as running:
        assert [processes.ended(process) for process in running] == [0] * len(paths)
    reports: list[Any] = [entry for one in given for entry in processes.said(one.log) if entry["event"] == "loaded"]
    return sorted(str(entry["outcome"]) for entry in reports)


def test_a_file_that_many_load_at_once_and_under_other_names_is_there_once(
    new_database: NewDatabase, scene: Scene, tmp_path: Path, seed: int
) -> None:
    text = csv_of(current((seed, 8), seconds=5.0))
    paths = [tmp_path / name for name in ("a.csv", "a.csv", "renamed.csv", "again.csv")]
    for path in paths:
        path.write_text(text)
    peace, crowd = new_database(), new_database()
    for engine in (peace, crowd):  # an equipment's id is the only one that is not made of the content
        change(engine, "INSERT INTO equipment (id, name) VALUES (:id, 'loaded')", id=NAMESPACE)
    assert load_at_once(scene, peace, paths[:1]) == ["new"]
    assert load_at_once(scene, crowd, paths) == ["known"] * (LOADERS - 1) + ["new"]
    signals = count(peace, "raw_signals")
    assert signals > 1, "the file is split, so that half of one would show"
    for engine in (peace, crowd):
        assert processes.run(scene.orders(engine)) == 0
    assert load_at_once(scene, crowd, paths[2:]) == ["known"] * 2
    assert processes.run(scene.orders(crowd)) == 0
    assert count(crowd, "raw_signals") == signals
    assert_undisturbed(crowd, results(peace))
    scene.saw(loads=LOADERS + 2, files_stored=1, signals=signals)
