"""Fault 1: workers killed with SIGKILL, at every boundary of their work and at random moments."""

import random
import signal
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import NewDatabase, Scene
from signal_pipeline_tests.faults.processes import RECOVERY_SECONDS, supervised
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed

pytestmark = [pytest.mark.faults(1), pytest.mark.processes, pytest.mark.timeout(1800)]

KILLS = 12

HELD = text("SELECT id, claimed_at, lease_expires_at FROM raw_signals WHERE claimed_by = :by")
TAKEN_OVER = text("""
    SELECT extract(epoch FROM claimed_at - CAST(:expired AS timestamptz)) FROM raw_signals
    WHERE id = :id AND claimed_at > :before
""")


def test_a_worker_killed_at_any_boundary_leaves_nothing_undone_and_nothing_twice(
    new_database: NewDatabase, scene: Scene, seed: int
) -> None:
    """One database for each boundary, so that each shows what this one kill did. Their leases run out together."""
    story = Story(seed=seed, signals=2)
    expected = scene.undisturbed(story)
    strategy = "s2" if seed % 2 else "s1"
    hurt: list[Engine] = []
    while True:
        engine = new_database()
        story.tell(engine)
        code = processes.run(scene.orders(engine, strike_at=len(hurt) + 1, strategy=strategy))
        if code == 0:  # it had fewer boundaries than that
            break
        assert code == -signal.SIGKILL
        hurt.append(engine)
    assert len(hurt) > 30
    for engine in hurt:
        assert processes.run(scene.orders(engine, strategy=strategy)) == 0
        assert_undisturbed(engine, expected)
    scene.saw(kills_at_a_boundary=len(hurt), signals=len(hurt) * len(story.ids))


def test_what_killed_workers_held_is_taken_over_by_those_beside_them_in_time(
    engine: Engine, scene: Scene, seed: int
) -> None:
    story = Story(seed=seed, motors=3, signals=8)
    expected = scene.undisturbed(story)
    story.tell(engine)
    rng = random.Random(seed)
    held: list[tuple[object, ...]] = []

    def fuses() -> Iterator[int | None]:
        yield from (rng.randint(3, 60) for _ in range(KILLS))
        while True:
            yield None

    def note(pid: int) -> None:
        with engine.connect() as conn:
            held.extend(tuple(row) for row in conn.execute(HELD, {"by": f"faults:{pid}"}))

    # a signal whose worker died at its work has had its attempt; here chance kills, and more often than the cap
    strikes = fuses()
    killed = supervised(lambda: scene.orders(engine, strike_at=next(strikes), limit=4, attempts=100), 3, on_death=note)
    assert killed >= KILLS / 2
    assert_undisturbed(engine, expected)
    with engine.connect() as conn:
        for signal_id, before, expired in held:
            waited = conn.execute(TAKEN_OVER, {"id": signal_id, "before": before, "expired": expired}).scalar_one()
            assert waited < RECOVERY_SECONDS
    scene.saw(random_kills=killed, signals=len(story.ids), taken_over=len(held))
