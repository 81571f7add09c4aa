"""Fault 10: a signal in whose work the worker dies, or runs out of memory; its neighbours finish."""

import pytest
from sqlalchemy import Engine

from signal_pipeline_tests.faults.conftest import Scene
from signal_pipeline_tests.faults.processes import supervised
from signal_pipeline_tests.faults.stories import Story, results
from signal_pipeline_tests.signals import failure, failures, row, statuses

pytestmark = [pytest.mark.faults(10), pytest.mark.processes, pytest.mark.timeout(1800)]

CAP = 3
LEASE_SECONDS = 10
"""A neighbour that is taken over because the machine stood still would come nearer to the cap, too."""


@pytest.mark.parametrize("venom", ["segfault", "killer"])
def test_a_signal_that_kills_its_worker_fails_at_the_cap_and_its_neighbours_finish(
    engine: Engine, scene: Scene, venom: str, seed: int
) -> None:
    story = Story(seed=seed, motors=3, signals=4)
    poison = story.ids[-1]  # the last of its motor, so that no other's scores hang on it
    story.tell(engine)
    limits = {"attempts": CAP, "parallel": True, "lease_seconds": LEASE_SECONDS}
    give = lambda: scene.orders(engine, poison=frozenset([poison]), venom=venom, **limits)  # noqa: E731
    died = supervised(give, 2)
    assert died == CAP
    assert failures(engine) == {poison: "crash_loop"}
    assert row(engine, poison).attempts == CAP
    assert list(statuses(engine).values()).count("completed") == len(story.ids) - 1
    healthy = {i: found for i, found in scene.undisturbed(story).signals.items() if i != poison}
    assert results(engine).signals == healthy
    scene.saw(workers_killed=died, crash_loops=1, neighbours_completed=len(healthy))


def test_a_signal_that_exhausts_the_memory_fails_alone_where_python_survives_it(
    engine: Engine, scene: Scene, seed: int
) -> None:
    story = Story(seed=seed, motors=3, signals=4)
    poison = story.ids[-1]
    story.tell(engine)
    assert supervised(lambda: scene.orders(engine, poison=frozenset([poison]), venom="memory"), 1) == 0
    assert failures(engine) == {poison: "internal_error"}
    assert failure(engine, poison)["message"].startswith("MemoryError")
    healthy = {i: found for i, found in scene.undisturbed(story).signals.items() if i != poison}
    assert results(engine).signals == healthy
    scene.saw(out_of_memory=1, neighbours_completed=len(healthy))
