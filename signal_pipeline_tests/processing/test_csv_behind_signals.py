"""Signals with a CSV behind them: samples cleared after completion, and read again when a person asks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Connection, Engine

from signal_pipeline.db.features import SignalFeatures, Stored, store_features
from signal_pipeline.ingest.loader import LoadOptions, load_files
from signal_pipeline.processing import extract, finalize
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.extract import extract_batch
from signal_pipeline.processing.finalize import clear_left_over, complete_batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import IngestSettings, Settings
from signal_pipeline_tests.processing.conftest import Ask, Fetch
from signal_pipeline_tests.signals import (
    FS,
    change,
    count,
    failure,
    failures,
    features_hash,
    insert_signals,
    recording,
    row,
    statuses,
    value,
)

KEPT = "SELECT count(*) FROM raw_signals WHERE phase_a IS NOT NULL OR phase_b IS NOT NULL OR phase_c IS NOT NULL"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Samples are cleared; a file of 3500 rows is three signals: 1500, 1500 and 500 new rows."""
    return Settings(
        ingest=IngestSettings(retain_raw_signals=False, csv_batch_size=1500, data_roots=(tmp_path.resolve(),))
    )


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "M1" / "recording_2025-08-25T00-00-00.csv")


def write_csv(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(exist_ok=True)
    rows = [",".join(f"{sample:.4f}" for sample in samples) for samples in recording(seconds=3.5, seed=seed).T]
    path.write_text("\n".join(["current_R,current_S,current_T", *rows]) + "\n")
    return path.resolve()


def load(worker: Worker, path: Path) -> list[UUID]:
    (report,) = load_files(
        worker.engine,
        [path],
        options=LoadOptions(sample_rate_hz=FS),
        settings=worker.settings.ingest,
        features=worker.settings.features,
    )
    return list(report.signal_ids)


def kept(engine: Engine) -> int:
    return int(value(engine, KEPT))


def test_samples_of_a_completed_file_are_cleared(engine: Engine, worker: Worker, fetch: Fetch, csv: Path) -> None:
    assert len(load(worker, csv)) == 3
    run_batch(worker, fetch())
    assert set(statuses(engine).values()) == {"completed"}
    assert kept(engine) == 0
    assert count(engine, "features") == 6


def test_a_signal_that_came_without_a_csv_keeps_its_samples(engine: Engine, worker: Worker, fetch: Fetch) -> None:
    insert_signals(engine, 2)
    run_batch(worker, fetch())
    assert kept(engine) == 2


def test_samples_stay_by_default(engine: Engine, worker: Worker, fetch: Fetch, csv: Path) -> None:
    load(worker, csv)
    retaining = worker.settings.model_copy(update={"ingest": IngestSettings()})
    run_batch(Worker(engine, retaining, worker.name), fetch())
    assert kept(engine) == 3


def test_samples_stay_until_the_whole_file_is_final(engine: Engine, worker: Worker, fetch: Fetch, csv: Path) -> None:
    load(worker, csv)
    batch = fetch()
    first, last = Batch(batch.token, batch.signal_ids[:2]), Batch(batch.token, batch.signal_ids[2:])
    run_batch(worker, first)
    assert kept(engine) == 3
    run_batch(worker, last)
    assert kept(engine) == 0


@pytest.mark.parametrize("what", ["changed", "gone"])
def test_samples_stay_if_their_csv_is_not_what_it_was(
    engine: Engine, worker: Worker, fetch: Fetch, csv: Path, what: str
) -> None:
    load(worker, csv)
    if what == "changed":
        write_csv(csv, seed=1)
    else:
        csv.unlink()
    run_batch(worker, fetch())
    assert set(statuses(engine).values()) == {"completed"}
    assert kept(engine) == 3


def test_a_cleared_signal_is_processed_again_from_its_csv(
    engine: Engine, worker: Worker, fetch: Fetch, ask: Ask, csv: Path
) -> None:
    ids = load(worker, csv)
    run_batch(worker, fetch())
    before = features_hash(engine)
    meta = [row(engine, i).meta["validation"] for i in ids]
    run_batch(worker, ask(ids))
    assert set(statuses(engine).values()) == {"completed"}
    assert features_hash(engine) == before
    assert [row(engine, i).meta["validation"] for i in ids] == meta
    assert kept(engine) == 0


def test_features_made_again_from_the_csv_are_the_same_bit_for_bit(
    engine: Engine, worker: Worker, fetch: Fetch, ask: Ask, csv: Path
) -> None:
    ids = load(worker, csv)
    run_batch(worker, fetch())
    before = features_hash(engine)
    with engine.begin() as conn:
        conn.exec_driver_sql("DELETE FROM features")
    run_batch(worker, ask(ids))
    assert features_hash(engine) == before


def test_samples_read_again_are_kept_where_samples_are_retained(
    engine: Engine, worker: Worker, fetch: Fetch, ask: Ask, csv: Path
) -> None:
    ids = load(worker, csv)
    blobs = [row(engine, i).phase_c for i in ids]
    run_batch(worker, fetch())
    retaining = worker.settings.model_copy(update={"ingest": IngestSettings()})
    run_batch(Worker(engine, retaining, worker.name), ask(ids))
    assert [row(engine, i).phase_c for i in ids] == blobs


def test_samples_that_are_to_be_kept_are_stored_before_they_fill_the_memory(
    worker: Worker, fetch: Fetch, ask: Ask, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = load(worker, csv)
    run_batch(worker, fetch())
    groups: list[int] = []

    def store(conn: Connection, group: Sequence[SignalFeatures]) -> Stored:
        groups.append(len(group))
        return store_features(conn, group)

    monkeypatch.setattr(extract, "store_features", store)
    monkeypatch.setattr(extract, "WAITING_BYTES", 1000)
    retaining = worker.settings.model_copy(update={"ingest": IngestSettings()})
    run_batch(Worker(worker.engine, retaining, worker.name), ask(ids))
    assert groups == [1] * len(ids)  # each holds more; without samples all are stored together


def retaining(worker: Worker) -> Worker:
    return Worker(worker.engine, worker.settings.model_copy(update={"ingest": IngestSettings()}), worker.name)


def test_samples_that_should_have_gone_before_go_later(engine: Engine, worker: Worker, fetch: Fetch, csv: Path) -> None:
    """As after a worker that died when it had completed them."""
    load(worker, csv)
    run_batch(retaining(worker), fetch())
    assert clear_left_over(retaining(worker)) == 0
    assert kept(engine) == 3
    assert clear_left_over(worker) == 3
    assert kept(engine) == 0
    assert clear_left_over(worker) == 0


def test_samples_go_later_if_the_last_batch_of_their_file_failed(
    engine: Engine, worker: Worker, fetch: Fetch, csv: Path
) -> None:
    load(worker, csv)
    batch = fetch()
    run_batch(worker, Batch(batch.token, batch.signal_ids[:2]))
    assert clear_left_over(worker) == 0, "the third is not final"
    change(engine, "UPDATE raw_signals SET crc32_a = crc32_a + 1 WHERE id = :id", id=batch.signal_ids[2])
    run_batch(worker, Batch(batch.token, batch.signal_ids[2:]))
    assert set(failures(engine)) == {batch.signal_ids[2]}
    assert clear_left_over(worker) == 2
    assert kept(engine) == 1, "a failed signal keeps what it failed on"


def test_samples_left_over_stay_if_their_csv_is_gone_or_they_had_none(
    engine: Engine, worker: Worker, fetch: Fetch, csv: Path
) -> None:
    load(worker, csv)
    insert_signals(engine, 1)
    run_batch(retaining(worker), fetch())
    csv.unlink()
    assert clear_left_over(worker) == 0
    assert kept(engine) == 4


REASONS = {"changed": "file_changed", "gone": "file_missing"}


@pytest.mark.parametrize("what", REASONS)
def test_a_cleared_signal_whose_csv_is_not_what_it_was_fails_and_keeps_its_features(
    worker: Worker, fetch: Fetch, ask: Ask, csv: Path, what: str
) -> None:
    engine = worker.engine
    ids = load(worker, csv)
    run_batch(worker, fetch())
    before = features_hash(engine)
    if what == "changed":
        write_csv(csv, seed=1)
    else:
        csv.unlink()
    run_batch(worker, ask(ids))
    assert failures(engine) == dict.fromkeys(ids, REASONS[what])
    assert {failure(engine, i)["stage"] for i in ids} == {"load"}
    assert features_hash(engine) == before


def test_a_csv_outside_the_data_roots_is_not_read(
    engine: Engine, worker: Worker, fetch: Fetch, ask: Ask, csv: Path
) -> None:
    ids = load(worker, csv)
    run_batch(worker, fetch())
    elsewhere = IngestSettings(retain_raw_signals=False, data_roots=(csv.parent / "elsewhere",))
    run_batch(Worker(engine, worker.settings.model_copy(update={"ingest": elsewhere}), worker.name), ask(ids))
    assert failures(engine) == dict.fromkeys(ids, "csv_error")
    assert "outside" in failure(engine, ids[0])["message"]


def registered(engine: Engine, file_name: str | None) -> UUID:
    """A row of another program: no samples, no source, a CSV's name perhaps."""
    nothing: dict[str, Any] = {f"{kind}_{p}": None for kind in ("phase", "crc32") for p in "abc"}
    (signal_id,) = insert_signals(engine, 1, file_name=file_name, samples_count=None, **nothing)
    return signal_id


def test_a_row_that_only_names_a_csv_is_filled_from_it(engine: Engine, worker: Worker, fetch: Fetch, csv: Path) -> None:
    signal_id = registered(engine, str(csv))
    retaining = worker.settings.model_copy(update={"ingest": IngestSettings()})
    run_batch(Worker(engine, retaining, worker.name), fetch())
    filled = row(engine, signal_id)
    assert (filled.processing_status, filled.samples_count) == ("completed", 3500)
    assert filled.phase_a is not None
    assert count(engine, "features") == 6


def test_a_row_with_neither_samples_nor_a_csv_fails(engine: Engine, worker: Worker, fetch: Fetch) -> None:
    signal_id = registered(engine, None)
    run_batch(worker, fetch())
    assert failures(engine) == {signal_id: "file_missing"}


def test_a_row_that_names_a_csv_with_bad_cells_fails_and_names_them(
    engine: Engine, worker: Worker, fetch: Fetch, csv: Path
) -> None:
    text = csv.read_text().splitlines()
    text[10] = "1.0,oops,3.0"
    csv.write_text("\n".join(text))
    signal_id = registered(engine, str(csv))
    run_batch(worker, fetch())
    assert failures(engine) == {signal_id: "csv_error"}
    assert "oops" in failure(engine, signal_id)["message"]


def test_clearing_that_fails_leaves_the_signals_completed(
    engine: Engine, worker: Worker, fetch: Fetch, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(worker, csv)
    batch = fetch()
    done = extract_batch(worker, batch).done

    def unreadable(_: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(finalize, "sha256_of", unreadable)
    complete_batch(worker, batch, list(done))
    assert set(statuses(engine).values()) == {"completed"}
    assert kept(engine) == 3


def test_a_phase_that_was_not_recorded_stays_so_from_samples_and_from_the_csv(
    engine: Engine, worker: Worker, fetch: Fetch, ask: Ask, csv: Path
) -> None:
    lines = csv.read_text().splitlines()
    csv.write_text("\n".join([lines[0], *(line.rsplit(",", 1)[0] + "," for line in lines[1:])]) + "\n")
    ids = load(worker, csv)
    run_batch(worker, fetch())
    before = features_hash(engine)
    run_batch(worker, ask(ids))
    assert set(statuses(engine).values()) == {"completed"}
    assert features_hash(engine) == before
    assert value(engine, "SELECT count(rms_c) FROM features") == 0
    assert np.isfinite(value(engine, "SELECT min(rms_b) FROM features"))
