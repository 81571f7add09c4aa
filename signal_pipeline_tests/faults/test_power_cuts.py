"""Fault 13: the power is cut ten times in a row: worker, keeper and every process of the embedded server killed."""

import random
import time
from contextlib import suppress
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
            before = len(processes.events(given.log))
            with processes.started(given) as (owner,):
                processes.wait_until(lambda n=before: "batch.begins" in processes.events(given.log)[n:])  # type: ignore[misc]
                time.sleep(rng.uniform(0, 0.2))  # the moment of the cut is the seed's
                assert owner.exitcode is None, "there was nothing left to be cut"
                cut_power(home, owner.pid or 0)
        assert processes.run(given) == 0
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
