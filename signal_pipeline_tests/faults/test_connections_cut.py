"""Fault 4: connections that are ended from the server's side, and a proxy that goes silent in the middle of an answer.

A network that drops everything is in `hosts/test_two_hosts.py`, with namespaces.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from signal_pipeline.db.embedded.keeper import SOCKET_FILES
from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import Scene
from signal_pipeline_tests.faults.own_server import Proxy
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed
from signal_pipeline_tests.signals import value

pytestmark = [pytest.mark.faults(4), pytest.mark.processes, pytest.mark.timeout(1800)]

CUTS = 15
CUT = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
FINISHED = "SELECT count(*) = 0 FROM raw_signals WHERE processing_status IN ('pending', 'processing')"
AT_WORK = "SELECT count(*) FROM raw_signals WHERE work_started_at IS NOT NULL"


def test_connections_that_postgres_ends_are_opened_again_and_nothing_is_lost(
    engine: Engine, scene: Scene, seed: int
) -> None:
    """Also in the middle of a commit, whose fate the worker then does not know."""
    story = Story(seed=seed, motors=3, signals=12)
    expected = scene.undisturbed(story)
    story.tell(engine)
    rng = random.Random(seed)
    ended = 0
    with processes.started(
        scene.orders(engine, limit=4, attempts=100), scene.orders(engine, limit=4, attempts=100)
    ) as running:
        processes.wait_until(lambda: value(engine, AT_WORK))
        for _ in range(CUTS):
            ended += value(engine, CUT)
            time.sleep(rng.uniform(0, 0.1))  # the moments of the cuts are the seed's
            if value(engine, FINISHED):
                break
        assert [processes.ended(process) for process in running] == [0, 0]
    assert ended > 0
    assert_undisturbed(engine, expected)
    scene.saw(connections_ended=ended, signals=len(story.ids))


@pytest.fixture
def proxy(server_url: str) -> Iterator[Proxy]:
    folder = make_url(server_url).query["host"]
    assert isinstance(folder, str)
    with Proxy(Path(folder) / SOCKET_FILES[0]) as proxy:
        yield proxy


def test_a_proxy_that_goes_silent_is_given_up_within_the_stated_time(
    engine: Engine, proxy: Proxy, scene: Scene, seed: int
) -> None:
    """TCP is content: the proxy acknowledges everything. Limits of 2 s and 1 s here, 300 s and 30 s by default."""
    story = Story(seed=seed, motors=2, signals=6)
    expected = scene.undisturbed(story)
    story.tell(engine)
    through = engine.url.set(host="127.0.0.1", port=proxy.port, query={}).render_as_string(hide_password=False)
    silent = 0
    given = scene.orders(engine, url=through, limit=4, statement_seconds=2, grace_seconds=1, attempts=100)
    with processes.started(given) as (worker,):
        processes.wait_until(lambda: value(engine, AT_WORK))
        for _ in range(2):
            silent += proxy.silence()
            processes.wait_until(lambda: value(engine, AT_WORK) or value(engine, FINISHED))
        assert processes.ended(worker) == 0
    assert silent > 0
    assert_undisturbed(engine, expected)
    scene.saw(connections_silenced=silent, signals=len(story.ids))
