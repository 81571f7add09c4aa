"""Fault 1: workers killed with SIGKILL, at every boundary of their work and at random moments."""

import random
import signal
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import NewDatabase, Scene
from signal_pipeline_tests.faults.processes import RECOVERY_LOOKS, RECOVERY_SECONDS, said, supervised
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed
from signal_pipeline_tests.signals import change

pytestmark = [pytest.mark.faults(1), pytest.mark.processes, pytest.mark.timeout(1800)]

KILLS = 12

HELD = text("SELECT id, claimed_at, lease_expires_at FROM raw_signals WHERE claimed_by = :by")
CLAIMS = text("SELECT id, claimed_at FROM test_claims ORDER BY claimed_at")

# A row knows its last claim only; between two there may have been others, also of workers that live.
HISTORY = """
    CREATE TABLE test_claims (id uuid, claimed_at timestamptz);
    CREATE FUNCTION test_remember_claim() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO test_claims VALUES (NEW.id, NEW.claimed_at); RETURN NULL; END $$;
    CREATE TRIGGER test_remember_claim AFTER UPDATE OF claimed_at ON raw_signals FOR EACH ROW
        WHEN (NEW.claimed_at IS DISTINCT FROM OLD.claimed_at) EXECUTE FUNCTION test_remember_claim();
"""


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
    change(engine, HISTORY)
    rng = random.Random(seed)
    held: dict[UUID, list[tuple[datetime, datetime]]] = defaultdict(list)

    def fuses() -> Iterator[int | None]:
        yield from (rng.randint(3, 60) for _ in range(KILLS))
        while True:
            yield None

    def note(pid: int) -> None:
        with engine.connect() as conn:
            for signal_id, claimed, expired in conn.execute(HELD, {"by": f"faults:{pid}"}):
                held[signal_id].append((claimed, expired))

    # a signal whose worker died at its work has had its attempt; here chance kills, and more often than the cap
    strikes = fuses()
    killed = supervised(lambda: scene.orders(engine, strike_at=next(strikes), limit=4, attempts=100), 3, on_death=note)
    assert killed > 0
    assert_undisturbed(engine, expected)
    with engine.connect() as conn:
        history = [(row.id, row.claimed_at) for row in conn.execute(CLAIMS)]
    looks = [entry for one in scene.given for entry in said(one.log) if entry["event"] == "looked"]
    # a fetch that hangs is no look; nor is it one in time
    assert all(look["until"] - look["at"] < RECOVERY_SECONDS for look in looks)
    for signal_id, claims in held.items():  # one signal may have been held by several that were killed, in turn
        for claimed, expired in claims:
            again = next(at for i, at in history if i == signal_id and at > claimed)
            missed = [look for look in looks if expired.timestamp() < look["at"] < again.timestamp()]
            in_time = (again - expired).total_seconds() < RECOVERY_SECONDS
            # on a busy machine looks come late, but then somebody did look; those that were full had no room for it
            assert in_time or (missed and sum(not look["is_full"] for look in missed) <= RECOVERY_LOOKS)
    scene.saw(random_kills=killed, signals=len(story.ids), taken_over=sum(map(len, held.values())))
