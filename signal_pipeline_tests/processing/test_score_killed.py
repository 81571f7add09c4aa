"""kill -9 between any two steps of scoring changes no score, no state and no event, and doubles none.

The claim of a dead worker runs out, and the next one does the whole work on it, as the pipeline would. Not here: kills
in the rest of the work (`faults`).
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, make_url

from signal_pipeline.db.claims import claim_pending
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.extract import extract_batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ClaimSettings, ModelSettings, Settings
from signal_pipeline_tests.db.conftest import copy_of
from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.own_server import engine_on
from signal_pipeline_tests.faults.stories import Results, Story, results, train_models
from signal_pipeline_tests.processing import scoring_worker
from signal_pipeline_tests.processing.scoring_worker import COMMIT, GIVEN_BACK, Orders
from signal_pipeline_tests.signals import achievements, change, count, expire, value

pytestmark = pytest.mark.processes

STORY = Story(motors=2, signals=4, seconds=4.0)
AT_ONCE = 15
"""Windows a transaction: the first motor's stream moves in one of 14 windows, the second's in two, of 15 and 6."""

COUNTED = "INSERT INTO counters"
SCORED_ONCE = """
    SELECT count(*) = count(DISTINCT (feature_id, model_kind, model_version)) AND count(*) = :n FROM anomaly_scores
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A database, to be copied and never connected to, of whose signals some are scored, and the others claimed
    under `token` and extracted; one of these is late."""

    url: str
    models: Path
    token: UUID
    signal_ids: tuple[UUID, ...]


@pytest.fixture
def scene(server_url: str, template_database: str, tmp_path: Path) -> Iterator[Scene]:
    models = tmp_path / "models"
    with copy_of(server_url, template_database) as url, engine_on(url) as engine:
        train_models(engine, models)
    with copy_of(server_url, template_database) as url:
        with engine_on(url) as engine:
            STORY.tell(engine)
            worker = worker_on(engine, models)
            work_off(worker, limit=STORY.motors)
            earlier = "UPDATE raw_signals SET recorded_at = recorded_at - interval '1 hour' WHERE id = :id"
            assert change(engine, earlier, id=STORY.ids[STORY.motors]) == 1
            (claim,) = claim_pending(engine, settings=worker.settings.claims, claimed_by=worker.name).claims
            extracted = extract_batch(worker, Batch(claim.token, claim.signal_ids), True)
            assert set(extracted.done) == set(claim.signal_ids) == set(STORY.ids[STORY.motors :])
        yield Scene(url, models, claim.token, claim.signal_ids)


def worker_on(engine: Engine, models: Path) -> Worker:
    """Its claims outlast the test, unless they are made to run out."""
    settings = Settings(models=ModelSettings(models_dir=models), claims=ClaimSettings(claim_lease_seconds=3600))
    return Worker(engine, settings, "test")


def work_off(worker: Worker, *, limit: int | None = None) -> None:
    """All that can be claimed; with `limit` so many signals, once."""
    settings = worker.settings.claims
    while claims := claim_pending(worker.engine, settings=settings, claimed_by=worker.name, limit=limit).claims:
        for claim in claims:
            run_batch(worker, Batch(claim.token, claim.signal_ids))
        if limit is not None:
            return


@contextmanager
def copied(server_url: str, scene: Scene) -> Iterator[Engine]:
    with copy_of(server_url, make_url(scene.url).database or "") as url, engine_on(url) as engine:
        yield engine


def score(engine: Engine, scene: Scene, passed: Path, *, strike_at: int | None = None) -> int | None:
    """Score and complete in a process of its own; its exit code."""
    orders = Orders(
        url=engine.url.render_as_string(hide_password=False),
        models=scene.models,
        token=scene.token,
        signal_ids=scene.signal_ids,
        at_once=AT_ONCE,
        passed=passed,
        strike_at=strike_at,
    )
    process = processes.context().Process(target=scoring_worker.work, args=(orders,))
    process.start()
    try:
        return processes.ended(process)
    finally:
        process.kill()
        process.join()


def found(engine: Engine) -> tuple[Results, dict[str, int]]:
    return results(engine), achievements(engine)


def assert_every_step_is_among(boundaries: list[str]) -> None:
    """The places where it hurts, in the order in which one drained equipment passes them."""
    steps = ["pg_advisory_xact_lock", "FROM anomaly_states", "INSERT INTO anomaly_events", "INSERT INTO anomaly_states"]
    steps += [
        COUNTED,
        COMMIT,
        GIVEN_BACK,
        "SET processing_status = 'completed'",
        COMMIT,
        GIVEN_BACK,
    ]
    left = iter(boundaries)
    missing = [step for step in steps if not any(step in boundary for boundary in left)]
    assert not missing, f"{missing} did not come in this order: {boundaries}"


def assert_counted_once_and_last(boundaries: list[str]) -> None:
    """In each transaction that counts: two that counted twice could wait for each other's counters."""
    begin = 0
    for end in [i for i, boundary in enumerate(boundaries) if boundary == COMMIT]:
        counted = [i for i in range(begin, end) if COUNTED in boundaries[i]]
        assert counted in ([], [end - 1]), boundaries[begin:end]
        begin = end + 1


def test_scoring_that_is_killed_between_any_two_steps_leaves_the_bytes_of_an_undisturbed_run(
    server_url: str, scene: Scene, tmp_path: Path
) -> None:
    with copied(server_url, scene) as engine:
        assert score(engine, scene, tmp_path / "undisturbed") == 0
        expected, windows = found(engine), count(engine, "features")
        assert value(engine, SCORED_ONCE, n=windows)
        assert value(engine, "SELECT count(*) > 0 AND bool_and(is_open) FROM anomaly_events")
        assert value(engine, "SELECT count(DISTINCT raw_id) FROM anomaly_scores WHERE meta ->> 'late' = 'true'") == 1
    boundaries = (tmp_path / "undisturbed").read_text().splitlines()
    assert_every_step_is_among(boundaries)
    assert_counted_once_and_last(boundaries)
    for k in range(1, len(boundaries) + 1):
        with copied(server_url, scene) as engine:
            assert score(engine, scene, tmp_path / f"killed-{k}", strike_at=k) == -signal.SIGKILL
            assert (tmp_path / f"killed-{k}").read_text().splitlines() == boundaries[:k]
            expire(engine)
            work_off(worker_on(engine, scene.models))
            assert found(engine) == expected, f"killed at {k}: {boundaries[k - 1]}"
            assert value(engine, SCORED_ONCE, n=windows)
