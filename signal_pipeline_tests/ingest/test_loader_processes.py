"""Loading against others: two at once, killed on the way, cut off from the database, and never too large."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv
from sqlalchemy import Engine, text

from signal_pipeline.db import counters
from signal_pipeline.db.engine import create_engine
from signal_pipeline.dsp.windows import WindowGrid, split
from signal_pipeline.ingest import loader
from signal_pipeline.ingest.load_report import FileOutcome
from signal_pipeline.settings import DatabaseSettings, IngestSettings
from signal_pipeline_tests.db.rows import change
from signal_pipeline_tests.ingest.conftest import WriteCsv
from signal_pipeline_tests.ingest.loading import (
    FS,
    csv_of,
    fail,
    file_sources,
    load_one,
    read_back,
    samples_of,
    signals,
    stuck_at_batch,
    wait_for_stuck,
    wait_until_gone,
)

LOADING_PROCESS = Path(__file__).with_name("loading_process.py")
WINDOWS_OF_A_SECOND = WindowGrid.for_rate(FS, window_ms=1000, overlap=0.5)  # the process has the default settings
SPLIT = IngestSettings(csv_batch_size=100)


def start(url: str, path: Path, *, csv_batch_size: int, sample_rate_hz: float = FS) -> "subprocess.Popen[str]":
    arguments = [url, str(csv_batch_size), str(sample_rate_hz), str(path)]
    command = [sys.executable, str(LOADING_PROCESS), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: "subprocess.Popen[str]") -> Any:
    """What the process printed last, when it has ended well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_whole(engine: Engine, rows: Sequence[Any], samples: Any, *, batch_rows: int, grid: WindowGrid) -> None:
    """Exactly the batches of the file, each with its own samples."""
    batches = list(split(samples.shape[1], batch_rows=batch_rows, grid=grid))
    assert [(r.first_row, r.lead_in, r.samples_count) for r in rows] == [
        (b.first_row, b.lead_in, b.n_samples) for b in batches
    ]
    assert [(row.meta["batch_index"], row.meta["batches"]) for row in rows] == [
        (b.index, len(batches)) for b in batches
    ]
    for row, batch in zip(rows, batches, strict=True):
        expected = np.ascontiguousarray(samples[:, batch.start : batch.start + batch.n_samples])
        assert read_back(engine, row.id).phases.tobytes() == expected.tobytes()


@pytest.mark.processes
def test_two_processes_that_load_one_file_at_the_same_moment_make_one_row_set(
    engine: Engine, database_url: str, write_csv: WriteCsv
) -> None:
    samples = samples_of(2700)
    path = write_csv(csv_of(samples))
    copy = path.with_name("copied a day before.csv")  # so that the two would give it other times, and other ids
    shutil.copy(path, copy)
    os.utime(copy, (path.stat().st_mtime - 86_400,) * 2)
    with engine.connect() as barrier:
        key = f"load:{sha256(path)}"
        barrier.execute(text("SELECT pg_advisory_lock(hashtextextended(:key, 0))"), {"key": key})
        processes = [start(database_url, one, csv_batch_size=500) for one in (path, copy)]
        # both have looked and found nothing; now they run
        wait_for_stuck(engine, n=2, event="advisory")
        barrier.execute(text("SELECT pg_advisory_unlock(hashtextextended(:key, 0))"), {"key": key})
    reports = [result(process)["reports"][0] for process in processes]
    assert sorted(report["outcome"] for report in reports) == ["known", "new"]
    assert reports[0]["signal_ids"] == reports[1]["signal_ids"]
    assert_whole(engine, signals(engine), samples, batch_rows=500, grid=WINDOWS_OF_A_SECOND)
    assert len(file_sources(engine)) == 1
    with engine.connect() as conn:
        assert counters.totals(conn)["files_loaded_total"] == 1


@pytest.mark.processes
def test_a_loader_killed_in_the_middle_of_a_file_leaves_nothing_and_a_second_load_gives_everything(
    engine: Engine, database_url: str, write_csv: WriteCsv
) -> None:
    samples = samples_of(2700)
    path = write_csv(csv_of(samples))
    with stuck_at_batch(engine, path, 3):
        process = start(database_url, path, csv_batch_size=500)
        (backend,) = wait_for_stuck(engine)
        # three batches are inserted, the fourth waits: surely in the middle
        process.kill()
        process.communicate()
    wait_until_gone(engine, backend)
    assert signals(engine) == file_sources(engine) == []
    with engine.connect() as conn:
        assert counters.totals(conn) == {}

    (report,) = result(start(database_url, path, csv_batch_size=500))["reports"]
    assert (report["outcome"], report["n_rows"], report["n_batches"]) == ("new", 2700, 6)
    assert_whole(engine, signals(engine), samples, batch_rows=500, grid=WINDOWS_OF_A_SECOND)


def test_a_loader_that_loses_its_connection_in_the_middle_of_a_file_starts_it_again(
    engine: Engine, write_csv: WriteCsv
) -> None:
    path = write_csv(csv_of(samples_of(450)))
    with ThreadPoolExecutor(1) as pool:
        with stuck_at_batch(engine, path, 2):
            loading = pool.submit(load_one, engine, path, settings=SPLIT)
            (backend,) = wait_for_stuck(engine)
            change(engine, "SELECT pg_terminate_backend(:pid)", pid=backend)
            wait_until_gone(engine, backend)
        report = loading.result(timeout=60)
    assert (report.outcome, report.n_batches) == (FileOutcome.NEW, 5)
    assert [row.id for row in signals(engine)] == list(report.signal_ids)
    with engine.connect() as conn:
        assert counters.totals(conn)["files_loaded_total"] == 1


def test_a_long_load_keeps_no_neighbour_of_the_same_new_motor_waiting(
    engine: Engine, database_url: str, write_csv: WriteCsv
) -> None:
    long, short = (write_csv(csv_of(samples_of(450, seed=n)), f"{n}.csv") for n in range(2))
    impatient = create_engine(database_url, DatabaseSettings(database_lock_timeout_seconds=5))
    with ThreadPoolExecutor(1) as pool:
        with stuck_at_batch(engine, long, 2):
            loading = pool.submit(load_one, engine, long, settings=SPLIT, equipment="a new motor")
            wait_for_stuck(engine)
            neighbour = load_one(impatient, short, settings=SPLIT, equipment="a new motor")
            assert neighbour.outcome == FileOutcome.NEW
            assert len(signals(engine)) == 5
        assert loading.result(timeout=60).outcome == FileOutcome.NEW
    impatient.dispose()
    assert len({row.equipment_id for row in signals(engine)}) == 1


def test_whoever_waits_for_a_long_load_of_the_same_file_is_not_stopped_by_the_usual_limits(
    engine: Engine, database_url: str, write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "ATTEMPTS", 1)
    path = write_csv(csv_of(samples_of(450)))
    limits = DatabaseSettings(database_lock_timeout_seconds=0.1, database_statement_timeout_seconds=0.2)
    impatient = create_engine(database_url, limits)
    with ThreadPoolExecutor(2) as pool:
        with stuck_at_batch(engine, path, 2):
            loading = pool.submit(load_one, engine, path, settings=SPLIT)
            wait_for_stuck(engine)
            waiting = pool.submit(load_one, impatient, path, settings=SPLIT)
            (backend,) = wait_for_stuck(engine, event="advisory")
            with engine.connect() as conn:
                conn.execute(text("SELECT pg_sleep(0.5)"))
            assert list(wait_for_stuck(engine, event="advisory")) == [backend]
        assert loading.result(timeout=60).outcome == FileOutcome.NEW
        assert waiting.result(timeout=60).outcome == FileOutcome.KNOWN
    impatient.dispose()


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of one program's memory is read from /proc")
def test_a_file_of_1_5_million_rows_is_loaded_in_less_than_400_megabytes(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    path = tmp_path.resolve() / "long.csv"
    samples = np.random.default_rng(5).normal(0, 10, (3, 1_500_000)).round(6)
    csv.write_csv(pa.table(dict(zip(("current_R", "current_S", "current_T"), samples, strict=True))), path)
    loaded = result(start(database_url, path, csv_batch_size=1_536_000, sample_rate_hz=25_600))
    (report,) = loaded["reports"]
    assert (report["outcome"], report["n_rows"]) == ("new", 1_500_000)
    assert loaded["grown_mib"] < 400
    (row,) = signals(engine)
    assert read_back(engine, row.id).phases.tobytes() == samples.astype(np.float32).tobytes()


CLAIM = text("""
    UPDATE raw_signals SET processing_status = 'processing', claim_token = gen_random_uuid(), claimed_by = 'worker 7',
                           lease_expires_at = now() + interval '1 minute'
    WHERE id = :id
""")


def test_a_worker_that_claims_a_signal_while_its_file_is_about_to_be_replaced_keeps_it(
    engine: Engine, write_csv: WriteCsv
) -> None:
    path = write_csv(csv_of(samples_of(450)))
    ids = load_one(engine, path, settings=SPLIT).signal_ids
    fail(engine, ids[0])
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as worker:
            worker.execute(CLAIM, {"id": ids[3]})
            loading = pool.submit(load_one, engine, path, settings=SPLIT)
            wait_for_stuck(engine)
        report = loading.result(timeout=60)
    assert report.outcome == FileOutcome.KNOWN
    assert "worker 7 is at work on it" in report.message
    assert [row.processing_status for row in signals(engine)] == ["failed", *["pending"] * 2, "processing", "pending"]
