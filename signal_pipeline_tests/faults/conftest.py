"""Databases and models of the fault suite, and the page that it writes about itself.

Every test here carries the mark `faults` with the number of its fault.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy import Engine

from signal_pipeline_tests.db.conftest import copy_of
from signal_pipeline_tests.faults import processes, report
from signal_pipeline_tests.faults.own_server import engine_on
from signal_pipeline_tests.faults.stories import Results, Story, results, train_models
from signal_pipeline_tests.faults.worker import Orders

WRITE_VARIABLE = "SIGNAL_PIPELINE_WRITE_RELIABILITY"
SEEDS = range(1, 1 + int(os.environ.get("SIGNAL_PIPELINE_TESTS_SEEDS", "1")))


class NewDatabase(Protocol):
    """Makes an engine on a database of its own: migrated and empty, or a copy of `like`, which nobody may be using."""

    def __call__(self, like: Engine | None = None) -> Engine: ...


COUNTS = pytest.StashKey[dict[str, int]]()
seen: dict[int, report.Seen] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", SEEDS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes how each test ended, and what it counted if it ended well."""
    done = yield
    mark = item.get_closest_marker("faults")
    if mark is not None and mark.args and (done.when == "call" or not done.passed):
        (number,) = mark.args
        one = seen.setdefault(number, report.Seen())
        one.outcomes[done.outcome] += 1
        if done.skipped and isinstance(done.longrepr, tuple):
            one.reasons.add(done.longrepr[2].removeprefix("Skipped: "))
        if done.passed:
            counted: dict[str, int] = item.stash.get(COUNTS, {})
            one.counts.update(counted)
    return done


def pytest_sessionfinish(session: pytest.Session) -> None:
    worker_output = getattr(session.config, "workeroutput", None)
    if worker_output is not None:  # one of pytest-xdist's workers: the process that started it writes
        worker_output["faults"] = {
            number: (dict(one.counts), dict(one.outcomes), sorted(one.reasons)) for number, one in seen.items()
        }
        return
    if os.environ.get(WRITE_VARIABLE) != "1" or session.config.option.collectonly:
        return
    report.PAGE.write_text(report.page(seen, seeds=len(SEEDS)), encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker of pytest-xdist saw, when it has ended."""
    for number, (counts, outcomes, reasons) in getattr(node, "workeroutput", {}).get("faults", {}).items():
        one = seen.setdefault(number, report.Seen())
        one.counts.update(counts)
        one.outcomes.update(outcomes)
        one.reasons.update(reasons)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A fault that could not be made here is said aloud: a row of green dots would hide it."""
    if lines := report.not_made(seen):
        terminalreporter.section("faults that were not made", sep="!", red=True, bold=True)
        for line in lines:
            terminalreporter.write_line(line, red=True)


@pytest.fixture
def new_database(server_url: str, template_database: str) -> Iterator[NewDatabase]:
    """Engines on migrated, empty databases of their own; their URLs are for other processes."""
    with ExitStack() as stack:

        def make(like: Engine | None = None) -> Engine:
            template = template_database
            if like is not None:
                like.dispose()
                template = like.url.database or template
            url = stack.enter_context(copy_of(server_url, template))
            return stack.enter_context(engine_on(url))

        yield make


@pytest.fixture
def engine(new_database: NewDatabase) -> Engine:
    return new_database()


@pytest.fixture(scope="session")
def models(server_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a trained version, which tests leave as it is."""
    folder = tmp_path_factory.mktemp("models")
    with copy_of(server_url, template_database) as url, engine_on(url) as engine:
        train_models(engine, folder)
    return folder


@dataclass(frozen=True, slots=True)
class Scene:
    """What every test of this suite does: give orders to workers, know what peace would have made, and keep count."""

    models: Path
    folder: Path
    counts: dict[str, int]
    peace: Callable[[Story], Results]
    given: list[Orders] = field(default_factory=list)

    def orders(self, engine: Engine, **changes: Any) -> Orders:
        """Orders for a worker on a database, with a log of its own."""
        log = self.folder / f"worker-{len(self.given)}.log"
        usual: dict[str, Any] = {"url": url_of(engine), "models": self.models, "log": log}
        self.given.append(Orders(**usual | changes))
        return self.given[-1]

    def undisturbed(self, story: Story) -> Results:
        """What one worker in peace makes of a story."""
        return self.peace(story)

    def saw(self, **amounts: int) -> None:
        """Count what was done and found, for the page; names are words with underscores."""
        for name, n in amounts.items():
            words = name.replace("_", " ")
            self.counts[words] = self.counts.get(words, 0) + n


@pytest.fixture
def scene(request: pytest.FixtureRequest, models: Path, tmp_path: Path, peace: Callable[[Story], Results]) -> Scene:
    return Scene(models, tmp_path, request.node.stash.setdefault(COUNTS, {}), peace)


@pytest.fixture(scope="session")
def peace(
    server_url: str, template_database: str, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Story], Results]:
    known: dict[Story, Results] = {}

    def work_off(story: Story) -> Results:
        if story not in known:
            log = tmp_path_factory.mktemp("undisturbed") / "worker.log"
            with copy_of(server_url, template_database) as url, engine_on(url) as engine:
                story.tell(engine)
                orders = Orders(url=url, models=models, log=log)
                assert processes.run(orders, seconds=processes.patience(story)) == 0
                known[story] = results(engine)
        return known[story]

    return work_off


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)
