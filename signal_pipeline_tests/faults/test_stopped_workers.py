"""Fault 2: workers stopped with SIGSTOP past their lease, and let go on when others have done their work."""

import signal

import psutil
import pytest

from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import NewDatabase, Scene
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed
from signal_pipeline_tests.signals import value

pytestmark = [pytest.mark.faults(2), pytest.mark.processes, pytest.mark.timeout(1800)]

STRIDE = 5
"""Every fifth boundary a seed: five seeds stop a worker at each."""

HELD = "SELECT count(*) FROM raw_signals WHERE claimed_by = :by"


def test_a_worker_that_slept_past_its_lease_changes_nothing_and_says_so(
    new_database: NewDatabase, scene: Scene, seed: int
) -> None:
    """Also in the middle of a transaction: then Postgres ends that, and with it the locks that others wait for."""
    story = Story(seed=seed, signals=2)
    expected = scene.undisturbed(story)
    for boundary in range(1 + seed % STRIDE, 1000, STRIDE):
        engine = new_database()
        story.tell(engine)
        given = scene.orders(engine, strike_at=boundary, strike=signal.SIGSTOP)
        with processes.started(given) as (sleeper,):
            if not processes.wait_until_stopped(sleeper):  # it had fewer boundaries than that
                assert sleeper.exitcode == 0
                return
            held = value(engine, HELD, by=f"faults:{sleeper.pid}")
            successor = scene.orders(engine)
            assert processes.run(successor) == 0
            assert_undisturbed(engine, expected)
            psutil.Process(sleeper.pid).resume()
            assert processes.ended(sleeper) == 0
        assert_undisturbed(engine, expected)
        # if it was its heartbeat that came to the boundary, the commit that completes may have been on its way
        lost = bool(held) and "batch.begins" in processes.events(successor.log)
        assert ("claim.lost" in processes.events(given.log)) == lost
        scene.saw(stops=1, claims_lost=int(lost))
    raise AssertionError("the work had no end")
