"""Databases and models of the fault suite, and the page that it writes about itself.

Every test module here says which fault it is (`FAULT`) and carries the mark `faults`.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from signal_pipeline.db.engine import create_engine
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.db.conftest import copy_of
from signal_pipeline_tests.faults import processes, report
from signal_pipeline_tests.faults.stories import Results, Story, results, train_models
from signal_pipeline_tests.faults.worker import Orders

WRITE_VARIABLE = "SIGNAL_PIPELINE_WRITE_RELIABILITY"
SEEDS = range(1, 1 + int(os.environ.get("SIGNAL_PIPELINE_TESTS_SEEDS", "1")))

NewDatabase = Callable[[], Engine]
GiveOrders = Callable[..., Orders]
Undisturbed = Callable[[Story], Results]
Saw = Callable[..., None]

COUNTS = pytest.StashKey[dict[str, int]]()
seen: dict[int, report.Seen] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", SEEDS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes how each test ended, and what it counted if it ended well."""
    done = yield
    number = getattr(getattr(item, "module", None), "FAULT", None)
    if number is not None and (done.when == "call" or not done.passed):
        one = seen.setdefault(number, report.Seen())
        one.outcomes[done.outcome] += 1
        if done.passed:
            one.counts.update(item.stash.get(COUNTS, {}))
    return done


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get(WRITE_VARIABLE) != "1" or session.config.option.collectonly:
        return
    if hasattr(session.config, "workerinput"):
        raise pytest.UsageError(f"{WRITE_VARIABLE}=1 needs one process: run with -n0")
    report.PAGE.write_text(report.page(seen, seeds=len(SEEDS)), encoding="utf-8")


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Saw:
    """Counts what a test did and found, for the page: `saw(kills=3)`; names are words with underscores."""
    counts = request.node.stash.setdefault(COUNTS, {})

    def add(**amounts: int) -> None:
        for name, n in amounts.items():
            counts[name.replace("_", " ")] = counts.get(name.replace("_", " "), 0) + n

    return add


@pytest.fixture
def new_database(server_url: str, template_database: str) -> Iterator[NewDatabase]:
    """Engines on migrated, empty databases of their own; their URLs are for other processes."""
    with ExitStack() as stack:

        def make() -> Engine:
            url = stack.enter_context(copy_of(server_url, template_database))
            engine = create_engine(url, DatabaseSettings())
            stack.callback(engine.dispose)
            return engine

        yield make


@pytest.fixture
def engine(new_database: NewDatabase) -> Engine:
    return new_database()


@pytest.fixture(scope="session")
def models(server_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a trained version, which tests leave as it is."""
    folder = tmp_path_factory.mktemp("models")
    with copy_of(server_url, template_database) as url:
        engine = create_engine(url, DatabaseSettings())
        train_models(engine, folder)
        engine.dispose()
    return folder


@pytest.fixture
def orders(models: Path, tmp_path: Path) -> GiveOrders:
    """Orders for a worker on a database, with a log of its own."""
    given: list[Orders] = []

    def give(engine: Engine, **changes: Any) -> Orders:
        changes = {"models": models, "log": tmp_path / f"worker-{len(given)}.log"} | changes
        given.append(Orders(url=url_of(engine), **changes))
        return given[-1]

    return give


@pytest.fixture(scope="session")
def undisturbed(
    server_url: str, template_database: str, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    """What one worker in peace makes of a story."""
    known: dict[Story, Results] = {}

    def work_off(story: Story) -> Results:
        if story not in known:
            with copy_of(server_url, template_database) as url:
                engine = create_engine(url, DatabaseSettings())
                story.tell(engine)
                log = tmp_path_factory.mktemp("undisturbed") / "worker.log"
                assert processes.run(Orders(url=url, models=models, log=log)) == 0
                known[story] = results(engine)
                engine.dispose()
        return known[story]

    return work_off


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)
