"""Fault 1, on signals with a CSV behind them: read again where their samples are gone, cleared when they are done.

Boundaries as in `test_kill_at_boundaries`; here they are those of the backfill's and the retention's statements, too.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine

from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import NewDatabase, Scene
from signal_pipeline_tests.faults.stories import assert_undisturbed, results
from signal_pipeline_tests.ingest.loading import csv_of
from signal_pipeline_tests.signals import NAMESPACE, change, current, value

pytestmark = [pytest.mark.faults(1), pytest.mark.processes, pytest.mark.timeout(1800)]

STRIDE = 5
"""Every fifth boundary a seed: five seeds strike at each."""

SECONDS = 3.0
"""Of one recording at 1000 Hz, in batches of 2000 rows: two signals, diagnosed with the last of them."""

CLEAR = """
    UPDATE raw_signals SET phase_a = NULL, phase_b = NULL, phase_c = NULL,
                           crc32_a = NULL, crc32_b = NULL, crc32_c = NULL
"""
KEPT = "SELECT count(*) FROM raw_signals WHERE phase_a IS NOT NULL OR phase_b IS NOT NULL OR phase_c IS NOT NULL"


@dataclass(frozen=True, slots=True)
class CsvStory:
    """A split file that is loaded; how its signals are worked on; how many of the two still have samples then."""

    path: Path
    retain: bool
    ask: bool
    without_samples: bool
    kept: int

    def tell(self, scene: Scene, engine: Engine) -> None:
        """Loaded; and without its samples, or worked on and cleared already, where that is the story."""
        change(engine, "INSERT INTO equipment (id, name) VALUES (:id, 'loaded')", id=NAMESPACE)
        assert processes.run(scene.orders(engine, load=self.path)) == 0
        if self.without_samples:
            assert change(engine, CLEAR) == 2
        if self.ask:
            assert processes.run(scene.orders(engine, retain=False)) == 0
            assert value(engine, KEPT) == 0


def backfilled(path: Path) -> CsvStory:
    """Pending, with no samples in the database: they are read again from the CSV, and kept."""
    return CsvStory(path, retain=True, ask=False, without_samples=True, kept=2)


def cleared(path: Path) -> CsvStory:
    """RETAIN_RAW_SIGNALS=false: the samples go when the whole file is final."""
    return CsvStory(path, retain=False, ask=False, without_samples=False, kept=0)


def asked_again(path: Path) -> CsvStory:
    """Completed and cleared; a person asks for them, and they are computed again from the CSV."""
    return CsvStory(path, retain=False, ask=True, without_samples=False, kept=0)


@pytest.mark.parametrize("story_of", [backfilled, cleared, asked_again])
def test_a_worker_killed_at_any_boundary_of_the_work_on_a_csv_leaves_what_an_undisturbed_one_leaves(
    new_database: NewDatabase, scene: Scene, tmp_path: Path, story_of: Callable[[Path], CsvStory], seed: int
) -> None:
    """The samples, too: all there again, or all cleared. Of totals of work only where the work is done once."""
    path = tmp_path / "a.csv"
    path.write_text(csv_of(current((seed, 1), seconds=SECONDS)))
    story = story_of(path)
    limits = {"retain": story.retain, "strategy": "s2" if seed % 2 else "s1"}
    told = new_database()
    story.tell(scene, told)
    peace = new_database(told)
    assert processes.run(scene.orders(peace, ask=story.ask, **limits)) == 0
    expected = results(peace)
    assert value(peace, KEPT) == story.kept
    hurt: list[Engine] = []
    for boundary in range(1 + seed % STRIDE, 1000, STRIDE):
        engine = new_database(told)
        code = processes.run(scene.orders(engine, strike_at=boundary, ask=story.ask, **limits))
        if code == 0:  # it had fewer boundaries than that
            break
        assert code == -signal.SIGKILL
        hurt.append(engine)
    assert len(hurt) > 30 / STRIDE
    for engine in hurt:
        assert processes.run(scene.orders(engine, **limits)) == 0
        assert_undisturbed(engine, expected, but=("counters",) if story.ask else ())
    scene.saw(kills_at_a_boundary_of_work_on_a_CSV=len(hurt), signals=2 * len(hurt))
