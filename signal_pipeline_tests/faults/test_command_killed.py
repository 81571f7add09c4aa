"""Fault 1, on the command that a person starts: `signal-pipeline process`, killed at random moments and started again.

With the shipped cap of attempts, which is more than the kills: no signal may become `crash_loop`.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine

from signal_pipeline.settings import ClaimSettings
from signal_pipeline_tests.faults import processes
from signal_pipeline_tests.faults.conftest import NewDatabase, Scene, url_of
from signal_pipeline_tests.faults.stories import Story, assert_undisturbed, results
from signal_pipeline_tests.faults.worker import CSV_BATCH_SIZE
from signal_pipeline_tests.ingest.loading import csv_of
from signal_pipeline_tests.signals import NAMESPACE, change, count, current, statuses, value

pytestmark = [pytest.mark.faults(1), pytest.mark.processes, pytest.mark.timeout(1800)]

KILLS = 2
LEASE_SECONDS = 10
"""One of two seconds would be lost on a busy machine now and then, too, and come nearer to the cap."""

BEGUN = "SELECT count(*) FROM raw_signals WHERE attempts > 0"
KEPT = "SELECT count(*) FROM raw_signals WHERE phase_a IS NOT NULL OR phase_b IS NOT NULL OR phase_c IS NOT NULL"

Command = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def command(empty_database_url: str, models: Path, tmp_path: Path) -> Iterator[Command]:
    """Starts `signal-pipeline process --wait` on a database; whatever still runs at the end is killed."""
    program = [str(Path(sys.executable).with_name("signal-pipeline")), "process", "--wait"]
    with ExitStack() as started:

        def start(engine: Engine, **settings: str) -> "subprocess.Popen[bytes]":
            environment = os.environ | settings
            environment |= {
                "DATABASE_URL": url_of(engine),
                "DAGSTER_DATABASE_URL": empty_database_url,
                "SIGNAL_PIPELINE_HOME": str(tmp_path / "home"),
                "MODELS_DIR": str(models),
                "CLAIM_LEASE_SECONDS": str(LEASE_SECONDS),
            }
            environment.pop("CLAIM_MAX_ATTEMPTS", None)
            process = subprocess.Popen(program, env=environment, stdin=subprocess.DEVNULL)
            started.callback(process.wait)
            started.callback(process.kill)
            return process

        yield start


def _has_begun(engine: Engine, signals: int, process: "subprocess.Popen[bytes]") -> bool:
    return value(engine, BEGUN) >= signals or process.poll() is not None


def killed_on_the_way(engine: Engine, start: Callable[[], "subprocess.Popen[bytes]"], rng: random.Random) -> int:
    """Kills the command some time after the work on a number of signals has begun, both by chance, and starts another.

    How many were killed: one may have ended before its time.
    """
    n, killed = count(engine, "raw_signals"), 0
    for begun in sorted(rng.sample(range(1, n), KILLS)):
        process = start()
        processes.wait_until(partial(_has_begun, engine, begun, process))
        time.sleep(rng.uniform(0, 0.3))  # the moment is the seed's
        process.kill()
        killed += process.wait() < 0
    last = start()
    assert last.wait(processes.PATIENCE_SECONDS) == 0
    return killed


def test_a_command_that_is_killed_and_started_again_makes_what_one_worker_makes_in_peace(
    engine: Engine, scene: Scene, command: Command, seed: int
) -> None:
    assert ClaimSettings().claim_max_attempts > KILLS
    story = Story(seed=seed, motors=3, signals=8)
    expected = scene.undisturbed(story)
    story.tell(engine)
    killed = killed_on_the_way(engine, lambda: command(engine, CLAIM_BATCH_SIZE="5"), random.Random(seed))
    assert killed > 0
    assert set(statuses(engine).values()) == {"completed"}
    assert_undisturbed(engine, expected)
    scene.saw(commands_killed=killed, signals=len(story.ids), signals_at_the_shipped_cap=len(story.ids))


def test_a_command_that_is_killed_and_started_again_reads_and_clears_a_split_file_as_in_peace(
    new_database: NewDatabase, scene: Scene, command: Command, tmp_path: Path, seed: int
) -> None:
    """RETAIN_RAW_SIGNALS=false, and half of the batches are in the database without their samples from the start."""
    path = tmp_path / "a.csv"
    path.write_text(csv_of(current((seed, 2), seconds=12.0)))
    engine = new_database()
    change(engine, "INSERT INTO equipment (id, name) VALUES (:id, 'loaded')", id=NAMESPACE)
    assert processes.run(scene.orders(engine, load=path)) == 0
    signals = count(engine, "raw_signals")
    assert signals == 12_000 // CSV_BATCH_SIZE
    nothing = ", ".join(f"{kind}_{p} = NULL" for kind in ("phase", "crc32") for p in "abc")
    assert change(engine, f"UPDATE raw_signals SET {nothing} WHERE (meta->>'batch_index')::int % 2 = 0") == signals / 2
    peace = new_database(engine)
    assert processes.run(scene.orders(peace, retain=False)) == 0
    killed = killed_on_the_way(
        engine, lambda: command(engine, CLAIM_BATCH_SIZE="2", RETAIN_RAW_SIGNALS="false"), random.Random(seed)
    )
    assert killed > 0
    assert set(statuses(engine).values()) == {"completed"}
    assert value(engine, KEPT) == 0
    assert_undisturbed(engine, results(peace))
    scene.saw(commands_killed=killed, signals=signals, signals_at_the_shipped_cap=signals)
