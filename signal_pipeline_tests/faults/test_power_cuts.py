"""Fault 13: the power is cut ten times in a row: worker, keeper and every process of the embedded server killed."""

import random
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from signal_pipeline.db.embedded import keeper
from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import Scene
from signal_pipeline_tests.faults.own_server import OwnServer, engine_on, server_home
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed

pytestmark = [pytest.mark.faults(13), pytest.mark.processes, pytest.mark.timeout(1800)]

CUTS = 10


def test_ten_power_cuts_in_a_row_lose_nothing(scene: Scene, seed: int) -> None:
    """Killed processes leave what the kernel had; that the disk itself keeps it is Postgres's fsync, not ours."""
    story = Story(seed=seed, motors=2, signals=40)
    expected = scene.undisturbed(story)
    rng = random.Random(seed)
    with server_home() as home:
        with OwnServer(home) as server, engine_on(server.url) as engine:
            story.tell(engine)
            given = scene.orders(engine, home=home, limit=3, attempts=100)
        for _ in range(CUTS):
            # the boundary of the cut is the seed's; before the last one there is still work, for a few signals are some
            boundary = rng.randint(10, 60)
            with processes.started(replace(given, strike_at=boundary, strike=signal.SIGSTOP)) as (owner,):
                assert processes.wait_until_stopped(owner)
                cut_power(home, owner.pid or 0)
        assert processes.run(given, seconds=processes.patience(story)) == 0
        with OwnServer(home) as server, engine_on(server.url) as engine:
            assert_undisturbed(engine, expected)
    scene.saw(power_cuts=CUTS, signals=len(story.ids))


def cut_power(home: Path, owner: int) -> None:
    """All at once: nobody has the time to say good-bye to another."""
    place = keeper.Place(home / "postgres")
    server = keeper.postmaster(place.data)
    assert server is not None
    victims = [server, *server.children(recursive=True), psutil.Process(owner), *keepers(place)]
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(victims, timeout=processes.PATIENCE_SECONDS)


def keepers(place: keeper.Place) -> list[psutil.Process]:
    running = psutil.process_iter(["cmdline"])
    return [p for p in running if (p.info["cmdline"] or [])[-2:] == [keeper.__file__, str(place.folder)]]
