"""Fault 6: two, four and eight workers on one queue.

SIGNAL_PIPELINE_TESTS_SIGNALS=1000 is the long version, with as many for the first seed, and at most 200 for the others:
what another seed changes (samples, ids, S1 or S2) shows in 200 as well, and a thousand take minutes.
"""

import os

import pytest
from sqlalchemy import Engine

from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import SEEDS, Scene
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed
from signal_pipeline_tests.signals import count, statuses

pytestmark = [pytest.mark.faults(6), pytest.mark.processes, pytest.mark.timeout(1800)]

MOTORS = 8
SIGNALS = int(os.environ.get("SIGNAL_PIPELINE_TESTS_SIGNALS", "80"))
LATER_SEEDS = 200


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_many_workers_make_what_one_makes(engine: Engine, scene: Scene, workers: int, seed: int) -> None:
    signals = SIGNALS if seed == SEEDS[0] else min(SIGNALS, LATER_SEEDS)
    story = Story(seed=seed, motors=MOTORS, signals=signals // MOTORS)
    expected = scene.undisturbed(story)
    story.tell(engine)
    strategy = "s2" if seed % 2 else "s1"
    # with a lease as in life: here nobody dies, and eight workers on two cores are slow
    given = [scene.orders(engine, limit=7, parallel=True, strategy=strategy, lease_seconds=60) for _ in range(workers)]
    with processes.started(*given) as running:
        assert [processes.ended(process, seconds=processes.patience(story)) for process in running] == [0] * workers
    assert set(statuses(engine).values()) == {"completed"}
    assert count(engine, "features") == 3 * len(story.ids)
    assert_undisturbed(engine, expected)
    scene.saw(workers=workers, signals=len(story.ids), **{f"runs_of_{len(story.ids)}_signals": 1})
