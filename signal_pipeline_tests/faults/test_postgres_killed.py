"""Fault 3: Postgres killed, shut down at once, and killed again while it recovers, under workers that go on."""

import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest
from sqlalchemy import Engine

from signal_pipeline.errors import DatabaseUnavailable
from signal_pipeline.settings import ClaimSettings
from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import Scene
from signal_pipeline_tests.faults.own_server import OwnServer, server_home
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed

pytestmark = [pytest.mark.faults(3), pytest.mark.processes, pytest.mark.timeout(1800)]

Hurt = Callable[[OwnServer], None]


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with server_home() as home, OwnServer(home) as server:
        yield server


@pytest.fixture
def engine(server: OwnServer) -> Iterator[Engine]:
    with server.database() as engine:
        yield engine


def kill(server: OwnServer) -> None:
    server.signal_postmaster(signal.SIGKILL)


def shut_down_at_once(server: OwnServer) -> None:
    server.signal_postmaster(signal.SIGQUIT)
    server.wait_until_down()


def kill_while_it_recovers(server: OwnServer) -> None:
    """The next start replays the log; its postmaster is killed the moment it is there."""
    kill(server)
    server.wait_until_down()

    def start() -> None:
        with suppress(DatabaseUnavailable):  # "ended while it was starting"
            server.bring_up()

    starting = threading.Thread(target=start)
    starting.start()
    processes.wait_until(lambda: server.postmaster() is not None, what="a postmaster that recovers")
    kill(server)
    starting.join()


@pytest.mark.parametrize("hurt", [kill, shut_down_at_once, kill_while_it_recovers])
def test_workers_outlive_a_postgres_that_does_not(
    server: OwnServer, engine: Engine, scene: Scene, hurt: Hurt, seed: int
) -> None:
    story = Story(seed=seed, motors=3, signals=6)
    expected = scene.undisturbed(story)
    story.tell(engine)
    boundary = random.Random(seed).randint(15, 45)
    # a server that is away for longer than a lease lets others take over, more often than a poisonous signal is tried
    given = [scene.orders(engine, limit=3, attempts=100, strike_at=boundary, strike=signal.SIGSTOP) for _ in range(2)]
    with processes.started(*given) as running:
        assert all(processes.wait_until_stopped(process) for process in running)
        engine.dispose()
        for process in running:  # from here on they are at it; where exactly they are hurt is chance
            psutil.Process(process.pid).resume()
        hurt(server)
        server.bring_up_again()
        assert [processes.ended(process) for process in running] == [0, 0]
    assert_undisturbed(engine, expected)
    scene.saw(crashes=2 if hurt is kill_while_it_recovers else 1, signals=len(story.ids))


@pytest.mark.parametrize("hurt", [kill, shut_down_at_once, kill_while_it_recovers])
def test_a_postgres_that_dies_once_costs_no_signal_at_the_shipped_cap_of_attempts(
    server: OwnServer, engine: Engine, scene: Scene, hurt: Hurt, seed: int
) -> None:
    """A lease as in life: no signal is hurt more often than Postgres is, which is less often than the cap."""
    story = Story(seed=seed, signals=6)
    expected = scene.undisturbed(story)
    story.tell(engine)
    boundary = random.Random(seed).randint(15, 45)
    given = scene.orders(
        engine, limit=3, lease_seconds=60, idle_seconds=20.0, strike_at=boundary, strike=signal.SIGSTOP
    )
    assert given.attempts == ClaimSettings().claim_max_attempts
    with processes.started(given) as (worker,):
        assert processes.wait_until_stopped(worker)
        engine.dispose()
        psutil.Process(worker.pid).resume()
        hurt(server)
        server.bring_up_again()
        assert processes.ended(worker) == 0
    assert_undisturbed(engine, expected)
    crashes = 2 if hurt is kill_while_it_recovers else 1
    scene.saw(crashes=crashes, signals=len(story.ids), signals_at_the_shipped_cap=len(story.ids))
