"""Fault 4: connections that the server ends, and a proxy that goes silent, or loses the answer to a commit that landed.

A network that drops everything is in `hosts/test_two_hosts.py`, with namespaces.
"""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from signal_pipeline.db.embedded.keeper import SOCKET_FILES
from signal_pipeline.settings import ClaimSettings
from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import NewDatabase, Scene
from signal_pipeline_tests.faults.own_server import Proxy
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed, results
from signal_pipeline_tests.signals import change, value

pytestmark = [pytest.mark.faults(4), pytest.mark.processes, pytest.mark.timeout(1800)]

CUTS = 15
CUT = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
FINISHED = "SELECT count(*) = 0 FROM raw_signals WHERE processing_status IN ('pending', 'processing')"
BEGUN = "SELECT count(*) FROM raw_signals WHERE attempts > 0"


def at_work(rng: random.Random) -> dict[str, Any]:
    """Orders to stop, once, in the middle of the work: whoever is to hurt a worker then does not come too late.

    Nor does Postgres come before, and ends the transaction that the worker may be in.
    """
    return {"strike_at": rng.randint(15, 45), "strike": signal.SIGSTOP, "idle_seconds": 20.0}


def test_connections_that_postgres_ends_are_opened_again_and_nothing_is_lost(
    engine: Engine, scene: Scene, seed: int
) -> None:
    """Also in the middle of a commit, whose fate the worker then does not know."""
    story = Story(seed=seed, motors=3, signals=12)
    expected = scene.undisturbed(story)
    story.tell(engine)
    rng = random.Random(seed)
    given = [scene.orders(engine, limit=4, attempts=100, **at_work(rng)) for _ in range(2)]
    with processes.started(*given) as running:
        assert all(processes.wait_until_stopped(process) for process in running)
        ended = value(engine, CUT)
        for process in running:
            psutil.Process(process.pid).resume()
        for _ in range(CUTS):
            ended += value(engine, CUT)
            time.sleep(rng.uniform(0, 0.1))  # the moments of the cuts are the seed's
            if value(engine, FINISHED):
                break
        assert [processes.ended(process) for process in running] == [0, 0]
    assert ended > 0
    assert_undisturbed(engine, expected)
    scene.saw(connections_ended=ended, signals=len(story.ids))


def test_a_few_cuts_cost_no_signal_at_the_shipped_cap_of_attempts(engine: Engine, scene: Scene, seed: int) -> None:
    """A worker that lives keeps its claim over the cut: a lease as in life, and the default number of attempts."""
    story = Story(seed=seed, signals=6)
    expected = scene.undisturbed(story)
    story.tell(engine)
    given = scene.orders(engine, limit=3, lease_seconds=60, **at_work(random.Random(seed)))
    assert given.attempts == ClaimSettings().claim_max_attempts
    with processes.started(given) as (worker,):
        assert processes.wait_until_stopped(worker)
        ended = value(engine, CUT)
        psutil.Process(worker.pid).resume()
        assert processes.ended(worker) == 0
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
    """TCP is content: the proxy acknowledges everything. Limits of 2 s and 1 s here, 300 s and 30 s by default.

    Were either limit lost, a question would wait for minutes. Five times their sum is a broken promise on any machine.
    """
    story = Story(seed=seed, motors=2, signals=6)
    expected = scene.undisturbed(story)
    story.tell(engine)
    limits = {"statement_seconds": 2, "grace_seconds": 1}
    given = scene.orders(
        engine, url=through(proxy, engine), limit=4, attempts=100, **limits, **at_work(random.Random(seed))
    )
    with processes.started(given) as (worker,):
        assert processes.wait_until_stopped(worker)
        silent = proxy.silence()
        psutil.Process(worker.pid).resume()
        processes.wait_until(lambda: value(engine, BEGUN) > 1 or value(engine, FINISHED))
        silent += proxy.silence()
        assert processes.ended(worker) == 0
    assert silent > 0
    processes.wait_until(lambda: proxy.waits, what="a question that nobody answered")
    assert max(proxy.waits) < 5 * sum(limits.values())
    assert_undisturbed(engine, expected)
    scene.saw(connections_silenced=silent, signals=len(story.ids))


def test_whichever_commits_answer_is_lost_nothing_is_done_twice_and_nothing_taken_for_lost(
    new_database: NewDatabase, proxy: Proxy, scene: Scene, seed: int
) -> None:
    """Of a worker that completes a signal and fails another. One database for each commit, so that each is met."""
    story = Story(seed=seed, signals=2)
    peace = told(new_database, story)
    assert processes.run(scene.orders(peace)) == 0
    expected = results(peace)
    for commit in range(1, 1000):
        engine = told(new_database, story)
        proxy.lose_answer_to(commit)
        given = scene.orders(engine, url=through(proxy, engine), strategy="s2" if seed % 2 else "s1")
        assert processes.run(given) == 0
        assert_undisturbed(engine, expected)
        assert "claim.lost" not in processes.events(given.log)
        if not proxy.has_lost:  # it made fewer commits than that
            assert commit > 10
            return
        scene.saw(answers_lost=1)
    raise AssertionError("the work had no end")


def told(new_database: NewDatabase, story: Story) -> Engine:
    """A database with a story, the last signal of which is no measurement."""
    engine = new_database()
    story.tell(engine)
    assert change(engine, "UPDATE raw_signals SET sample_rate_hz = 0 WHERE id = :id", id=story.ids[-1]) == 1
    return engine


def through(proxy: Proxy, engine: Engine) -> str:
    """The URL of an engine's database behind the proxy."""
    return engine.url.set(host="127.0.0.1", port=proxy.port, query={}).render_as_string(hide_password=False)
