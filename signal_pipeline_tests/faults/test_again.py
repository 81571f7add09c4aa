"""Fault 9: everything computed again, by the queue's own worker and as a person asks for it."""

import pytest
from sqlalchemy import Engine

from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import Scene
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed

pytestmark = [pytest.mark.faults(9), pytest.mark.processes, pytest.mark.timeout(1800)]


def test_what_is_computed_again_is_the_same_to_the_last_bit(engine: Engine, scene: Scene, seed: int) -> None:
    """Only the totals of what was done go on: they count work, and the work was done again."""
    story = Story(seed=seed, motors=2, signals=4)
    expected = scene.undisturbed(story)
    story.tell(engine)
    assert processes.run(scene.orders(engine)) == 0
    assert_undisturbed(engine, expected)
    for _ in range(2):
        assert processes.run(scene.orders(engine, ask=True)) == 0
        assert_undisturbed(engine, expected, but=("counters",))
    scene.saw(times=2, signals=2 * len(story.ids))
