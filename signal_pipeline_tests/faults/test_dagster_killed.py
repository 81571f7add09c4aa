"""Fault 12: a running Dagster killed, part by part and whole; as it runs already, also fault 9: a backfill of all.

When daemon or web server is killed, `dagster dev` ends, as a machine's supervisor would see it; the next one takes up
the work.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, text

from signal_pipeline.cli.environment import Surroundings
from signal_pipeline.cli.server import DagsterServer, dagster_server
from signal_pipeline.db.engine import create_engine as domain_engine
from signal_pipeline.db.urls import domain_url
from signal_pipeline.orchestration.ops import PER_SIGNAL
from signal_pipeline.settings import AppSettings, DatabaseSettings, ModelSettings, Settings
from signal_pipeline_tests.faults.conftest import Scene
from signal_pipeline_tests.faults.own_server import engine_on
from signal_pipeline_tests.faults.processes import wait_until
from signal_pipeline_tests.faults.stories import Story, results
from signal_pipeline_tests.orchestration.serving import AT_THE_GATE, GATED_START, Ui, database, free_port, gate_shut
from signal_pipeline_tests.signals import count, failures, statuses, value

pytestmark = [pytest.mark.faults(12), pytest.mark.dagster, pytest.mark.timeout(1800)]

LEASE_SECONDS = 20
"""Some ticks of the sensor: a shorter lease would end between two of them, while a run waits or starts.

The cap of attempts is the shipped one: each story is killed once, and none of its signals may become `crash_loop`.
"""

PATIENCE_SECONDS = 1200
"""For a Dagster that starts, finds its dead runs and works everything off, on a machine that is busy with others."""

RUNS_UNDER_WAY = "SELECT count(*) FROM runs WHERE status IN ('STARTING', 'STARTED', 'CANCELING')"
CLAIMED = "SELECT count(*) FROM raw_signals WHERE processing_status = 'processing'"


class Dagster:
    """A `dagster dev` that is started again when it has ended."""

    def __init__(self, here: Surroundings) -> None:
        self.here = here
        self._running = ExitStack()
        self._server: DagsterServer | None = None

    @property
    def engine(self) -> Engine:
        return self.here.engine

    def ensure(self) -> Ui:
        if self._server is None or self._server.process.poll() is not None:
            self._running.close()
            self._server = self._running.enter_context(dagster_server(self.here, port=free_port(), quiet=True))
            self._server.wait_until_ready()
        return Ui(self._server.url, self.engine)

    def wait_until_ended(self) -> None:
        """It looks at its parts every few seconds. Until then it would be taken for one that works."""
        assert self._server is not None
        process = self._server.process
        wait_until(lambda: process.poll() is not None, seconds=PATIENCE_SECONDS, what="the end of `dagster dev`")

    def stop(self) -> None:
        self._running.close()

    def kill(self, *words: str) -> int:
        """SIGKILL whatever it has started with one of `words` in its command line; without words all. How many."""
        assert self._server is not None
        head = psutil.Process(self._server.process.pid)
        family = head.children(recursive=True)
        victims = [p for p in family if any(word in command(p) for word in words)] if words else [head, *family]
        for process in victims:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(victims, timeout=PATIENCE_SECONDS)
        return len(victims)

    @contextmanager
    def storage_locked(self) -> Iterator[None]:
        """A tick can claim, but not name its partitions: it stands between claim and run request."""
        engine = create_engine(self.here.dagster_url)
        with engine.begin() as conn:
            conn.execute(text("LOCK TABLE dynamic_partitions IN ACCESS EXCLUSIVE MODE"))
            yield
        engine.dispose()

    def wait_until_final(self) -> None:
        """Restarting whatever has ended meanwhile; and until no dead run holds a slot any more."""

        def is_final() -> bool:
            self.ensure()
            return set(statuses(self.engine).values()) <= {"completed", "failed"}

        wait_until(is_final, seconds=PATIENCE_SECONDS, what="the end of all signals")
        with engine_on(domain_url(self.here.dagster_url)) as storage:
            wait_until(
                lambda: value(storage, RUNS_UNDER_WAY) == 0, seconds=PATIENCE_SECONDS, what="the end of all runs"
            )


def command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@pytest.fixture(scope="module")
def dagster(
    server_url: str, template_database: str, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dagster]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("CLAIM_LEASE_SECONDS", str(LEASE_SECONDS))
        patch.delenv("CLAIM_MAX_ATTEMPTS", raising=False)
        url = stack.enter_context(database(server_url, template_database))
        dagster_url = stack.enter_context(database(server_url))
        settings = Settings(
            app=AppSettings(signal_pipeline_home=home),
            database=DatabaseSettings(dagster_database_url=SecretStr(dagster_url)),
            models=ModelSettings(models_dir=models),
        )
        engine = domain_engine(url, settings.database)
        stack.callback(engine.dispose)
        with engine.begin() as conn:
            conn.execute(text(GATED_START))
        running = Dagster(Surroundings(settings, url, engine, embedded=False))
        stack.callback(running.stop)
        yield running


def kill_run(dagster: Dagster) -> int:
    return kill_at_work(dagster, "multiprocessing.spawn")


def kill_webserver(dagster: Dagster) -> int:
    return kill_at_work(dagster, "dagster_webserver")


def kill_all(dagster: Dagster) -> int:
    """As a machine that loses its power: nobody is left to say that the run has ended."""
    return kill_at_work(dagster)


def kill_at_work(dagster: Dagster, *words: str) -> int:
    with dagster.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        wait_until(lambda: conn.execute(AT_THE_GATE).scalar_one(), what="a run at its work")
    return dagster.kill(*words)


def kill_daemon_after_the_claim(dagster: Dagster) -> int:
    return kill_between_claim_and_request(dagster, "dagster._daemon")


def kill_code_server_after_the_claim(dagster: Dagster) -> int:
    return kill_between_claim_and_request(dagster, "code-server", "api grpc")


def kill_between_claim_and_request(dagster: Dagster, *words: str) -> int:
    wait_until(lambda: value(dagster.engine, CLAIMED), what="a tick that has claimed")
    return dagster.kill(*words)


KILLS: list[Callable[[Dagster], int]] = [
    kill_run,
    kill_webserver,
    kill_all,
    kill_daemon_after_the_claim,
    kill_code_server_after_the_claim,
]
ENDING = (kill_webserver, kill_all, kill_daemon_after_the_claim)
"""Of these `dagster dev` ends by itself."""


@pytest.mark.parametrize("kill", KILLS)
def test_what_a_killed_part_of_dagster_leaves_is_finished_by_the_next(
    dagster: Dagster, scene: Scene, kill: Callable[[Dagster], int], seed: int
) -> None:
    story = Story(seed=100 * seed + KILLS.index(kill), motors=2, signals=4)
    expected = scene.undisturbed(story)
    dagster.ensure()
    windows = count(dagster.engine, "features")
    with dagster.storage_locked() if "after_the_claim" in kill.__name__ else gate_shut(dagster.engine):
        story.tell(dagster.engine)
        killed = kill(dagster)
    assert killed > 0
    if kill in ENDING:
        dagster.wait_until_ended()
    dagster.wait_until_final()
    assert {i: results(dagster.engine).signals.get(i) for i in story.ids} == expected.signals
    assert count(dagster.engine, "features") == windows + 3 * len(story.ids)
    assert failures(dagster.engine) == {}
    scene.saw(processes_killed=killed, signals=len(story.ids), signals_at_the_shipped_cap=len(story.ids))


@pytest.mark.faults(9)
def test_a_backfill_of_everything_changes_nothing(dagster: Dagster, scene: Scene, seed: int) -> None:
    story = Story(seed=100 * seed + 99, motors=2, signals=4)
    expected = scene.undisturbed(story)
    ui = dagster.ensure()
    story.tell(dagster.engine)
    dagster.wait_until_final()
    before = results(dagster.engine)
    assets = [key.to_user_string() for key in PER_SIGNAL]
    status, runs = ui.finished_backfill(ui.backfill([str(i) for i in story.ids], assets))
    assert (status, set(runs)) == ("COMPLETED_SUCCESS", {"SUCCESS"})
    after = results(dagster.engine)
    assert after.signals == before.signals
    assert {i: after.signals[i] for i in story.ids} == expected.signals
    scene.saw(backfills=1, signals=len(story.ids))
