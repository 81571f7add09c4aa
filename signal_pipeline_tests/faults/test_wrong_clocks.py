"""Fault 7: workers whose clocks are an hour fast or slow, one of them killed."""

import signal
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import Scene
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed
from signal_pipeline_tests.faults.worker import LEASE_SECONDS
from signal_pipeline_tests.signals import value

pytestmark = [pytest.mark.faults(7), pytest.mark.processes, pytest.mark.timeout(1800)]

LEASE = timedelta(seconds=LEASE_SECONDS)
LEASES = text("SELECT claimed_at, lease_expires_at FROM raw_signals WHERE claimed_by = :by")
CLOCK = "SELECT clock_timestamp()"


@pytest.mark.parametrize("hours", [1.0, -1.0])
def test_a_wrong_clock_makes_no_lease_longer_or_shorter(engine: Engine, scene: Scene, hours: float, seed: int) -> None:
    """Were a worker's clock asked, a fast one would rob live neighbours, and a slow one would hold for an hour."""
    story = Story(seed=seed, motors=2, signals=4)
    expected = scene.undisturbed(story)
    story.tell(engine)
    before = value(engine, CLOCK)
    killed = scene.orders(engine, clock_hours=hours, strike_at=12, limit=3)
    with processes.started(killed) as (process,):
        assert processes.ended(process) == -signal.SIGKILL
        after = value(engine, CLOCK)
        with engine.connect() as conn:
            leases = conn.execute(LEASES, {"by": f"faults:{process.pid}"}).all()
    assert leases
    for claimed, expires in leases:
        assert before <= claimed <= after
        assert claimed + LEASE <= expires <= after + LEASE
    # on a busy machine a lease of two seconds is lost now and then, and no signal is poison
    others = [scene.orders(engine, clock_hours=wrong, limit=3, attempts=100) for wrong in (hours, -hours)]
    with processes.started(*others) as running:
        assert [processes.ended(p) for p in running] == [0, 0]
    assert_undisturbed(engine, expected)
    scene.saw(workers=3, signals=len(story.ids))
