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
            processes.wait_until(lambda p=sleeper: p.exitcode is not None or is_stopped(p.pid or 0))  # type: ignore[misc]
            if sleeper.exitcode == 0:  # it had fewer boundaries than that
                return
            holds = value(engine, HELD, by=f"faults:{sleeper.pid}")
            assert processes.run(scene.orders(engine)) == 0
            assert_undisturbed(engine, expected)
            psutil.Process(sleeper.pid).resume()
            assert processes.ended(sleeper) == 0
        assert_undisturbed(engine, expected)
        assert ("claim.lost" in processes.events(given.log)) == bool(holds)
        scene.saw(stops=1, claims_lost=int(bool(holds)))
    raise AssertionError("the work had no end")


def is_stopped(pid: int) -> bool:
    return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
