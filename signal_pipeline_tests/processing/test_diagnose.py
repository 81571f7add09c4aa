"""Diagnoses as they are stored: one a record, of a split file with the last of its batches."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, text

from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.diagnostics import StoredDiagnosis, lock_sources, motor_plate, store_plates
from signal_pipeline.db.models import DIAGNOSED
from signal_pipeline.db.signals import StoredSignal
from signal_pipeline.dsp.diagnosis import Quantity, SeverityBands
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.loader import LoadOptions, load_files
from signal_pipeline.processing import diagnose, diagnosis_of_record, signal_work
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.diagnosis_of_record import Parts, diagnose_record
from signal_pipeline.processing.extract import extract_batch
from signal_pipeline.processing.load import Recording, load_recording
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.read import load_diagnoses, load_signals
from signal_pipeline.settings import ClaimSettings, DiagnosisSettings, FeatureSettings, IngestSettings, Settings
from signal_pipeline.synthetic import Condition, Motor, simulate
from signal_pipeline.synthetic.fleet import csv_bytes
from signal_pipeline_tests.signals import failure, insert_signals, statuses, value

FS = 2000.0
PLATE = {
    "pole_pairs": 2,
    "rated_speed_rpm": 1455.0,
    "line_freq_hz": 50.0,
    "rated_current_a": 10.0,
    "rotor_bars": 28,
}


def work_off(worker: Worker, *, limit: int | None = None) -> None:
    """All that is pending, `limit` signals a claim, one claim after the other."""
    while claims := claim_pending(worker.engine, settings=worker.settings.claims, claimed_by="t", limit=limit).claims:
        for claim in claims:
            run_batch(worker, Batch(claim.token, claim.signal_ids))


def worker_on(engine: Engine, **ingest: Any) -> Worker:
    return Worker(engine, Settings(ingest=IngestSettings(**ingest), claims=ClaimSettings()), "t")


def load(worker: Worker, path: Path, *, fs: float = FS) -> list[UUID]:
    options = LoadOptions(equipment="pump", sample_rate_hz=fs, recorded_at=None, times=None, dialect=CsvDialect())
    settings = worker.settings
    (report,) = load_files(worker.engine, [path], options=options, settings=settings.ingest, features=settings.features)
    return list(report.signal_ids)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """12 s of a motor with a broken rotor bar at 3 % slip."""
    motor = Motor(pole_pairs=2, rated_speed_rpm=1455, rated_current_a=10.0, rotor_bars=28)
    samples = simulate(motor, Condition(slip=0.03, broken_bar_dbc=-38.0), fs=FS, seconds=12, seed=1)
    path = tmp_path / "2025-08-25T12-00-00Z.csv"
    path.write_bytes(csv_bytes(samples))
    return path


def test_the_columns_are_the_quantities_of_a_diagnosis() -> None:
    assert tuple(q.value for q in Quantity) == DIAGNOSED


def test_the_bands_of_the_science_and_of_the_settings_are_the_same() -> None:
    assert diagnosis_of_record.severity_bands(DiagnosisSettings()) == SeverityBands()


def test_without_a_plate_the_diagnosis_refuses_and_the_signal_completes(engine: Engine, recording: Path) -> None:
    worker = worker_on(engine)
    load(worker, recording)
    work_off(worker)
    (row,) = load_diagnoses(engine=engine).to_dict("records")
    assert row["load_status"] == "no_motor_data"
    assert row["line_frequency"] == pytest.approx(50, abs=0.1)
    assert set(statuses(engine).values()) == {"completed"}


def test_with_a_plate_a_broken_bar_is_found(engine: Engine, recording: Path) -> None:
    worker = worker_on(engine)
    with engine.begin() as conn:
        store_plates(conn, {"pump": PLATE})
    load(worker, recording)
    work_off(worker)
    (row,) = load_diagnoses(equipment="pump", engine=engine).to_dict("records")
    assert row["broken_bar_status"] == "ok"
    assert row["broken_bar"] == pytest.approx(-38, abs=1)
    assert row["slip"] == pytest.approx(0.03, abs=0.001)
    assert row["severity"] == "moderate"


def test_a_split_file_is_diagnosed_once_as_a_whole_by_its_last_batch(engine: Engine, recording: Path) -> None:
    whole = worker_on(engine)
    with engine.begin() as conn:
        store_plates(conn, {"pump": PLATE})
    ids = load(whole, recording)
    work_off(whole)
    expected = load_diagnoses(engine=engine).drop(columns=["raw_id", "created_at"]).to_dict("records")
    with engine.begin() as conn:
        conn.execute(text("DELETE FROM raw_signals"))
        conn.execute(text("DELETE FROM sources"))
    split = worker_on(engine, csv_batch_size=5000)
    parts = load(split, recording)
    assert len(parts) == 5
    seen = []
    while claims := claim_pending(engine, settings=split.settings.claims, claimed_by="t", limit=2).claims:
        for claim in claims:
            run_batch(split, Batch(claim.token, claim.signal_ids))
        seen.append(len(load_diagnoses(engine=engine)))
    assert seen == [0, 0, 1]
    found = load_diagnoses(engine=engine)
    assert found["raw_id"].tolist() == ids
    (row,), (reference,) = found.drop(columns=["raw_id", "created_at"]).to_dict("records"), expected
    for quantity in DIAGNOSED:
        assert row[f"{quantity}_status"] == reference[f"{quantity}_status"]
        assert row[quantity] == pytest.approx(reference[quantity], rel=1e-6, nan_ok=True)


def test_a_batch_that_lost_its_claim_stores_no_diagnosis(engine: Engine) -> None:
    worker = worker_on(engine)
    insert_signals(engine, 1, phases=np.ones((3, 3000), dtype=np.float32))
    (claim,) = claim_pending(engine, settings=worker.settings.claims, claimed_by="t").claims
    with engine.begin() as conn:
        conn.execute(text("UPDATE raw_signals SET claim_token = :other"), {"other": uuid4()})
    with pytest.raises(Exception, match=r"taken over|does not carry|no signal carries"):
        run_batch(worker, Batch(claim.token, claim.signal_ids))
    assert load_diagnoses(engine=engine).empty


def test_diagnosing_again_replaces_the_row(engine: Engine, recording: Path) -> None:
    worker = worker_on(engine)
    load(worker, recording)
    work_off(worker)
    with engine.begin() as conn:
        store_plates(conn, {"pump": PLATE})
        conn.execute(text("UPDATE raw_signals SET processing_status = 'pending'"))
    work_off(worker)
    (row,) = load_diagnoses(engine=engine).to_dict("records")
    assert row["broken_bar_status"] == "ok"


def test_a_batch_that_was_loaded_for_shorter_windows_fails_and_says_what_to_do(engine: Engine, recording: Path) -> None:
    short = Worker(
        engine, Settings(ingest=IngestSettings(csv_batch_size=5000), features=FeatureSettings(window_ms=200)), "t"
    )
    load(short, recording)
    work_off(worker_on(engine))
    signals = load_signals(engine=engine)
    assert signals["processing_status"].tolist() == ["completed", *["failed"] * 4]
    assert "ingest the file again" in signals["meta"].iloc[1]["failure"]["message"]


def test_a_record_by_itself_is_decoded_once_for_features_and_diagnosis(
    engine: Engine, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_on(engine)
    load(worker, recording)
    loaded: list[UUID] = []

    def counted(signal: StoredSignal, settings: IngestSettings) -> Recording:
        loaded.append(signal.id)
        return load_recording(signal, settings)

    monkeypatch.setattr(signal_work, "load_recording", counted)
    monkeypatch.setattr(diagnosis_of_record, "load_recording", counted)
    work_off(worker)
    assert len(loaded) == 1
    assert len(load_diagnoses(engine=engine)) == 1


def test_a_diagnosis_that_breaks_fails_its_signal_and_leaves_features_and_neighbours(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_on(engine)
    bad, good = insert_signals(engine, 1, equipment="bad"), insert_signals(engine, 1)
    monkeypatch.setattr(diagnosis_of_record, "motor_plate", partial(plate_but_not_of, id_of(engine, "bad")))
    work_off(worker)
    assert statuses(engine) == {bad[0]: "failed", good[0]: "completed"}
    assert failure(engine, bad[0])["stage"] == "diagnose"
    assert load_diagnoses(engine=engine)["raw_id"].tolist() == good
    assert value(engine, "SELECT count(DISTINCT raw_id) FROM features") == 2


def test_what_was_extracted_without_a_diagnosis_is_diagnosed_by_its_own_step(engine: Engine, recording: Path) -> None:
    worker = worker_on(engine)
    (signal_id,) = load(worker, recording)
    (claim,) = claim_pending(engine, settings=worker.settings.claims, claimed_by="t").claims
    batch = Batch(claim.token, claim.signal_ids)
    assert extract_batch(worker, batch).diagnosed == {}
    outcomes = diagnose.diagnose_batch(worker, batch, batch.signal_ids, {})
    assert set(outcomes.done) == {signal_id}
    assert load_diagnoses(engine=engine)["raw_id"].tolist() == [signal_id]


def id_of(engine: Engine, equipment: str) -> UUID:
    found: UUID = value(engine, "SELECT id FROM equipment WHERE name = :name", name=equipment)
    return found


def plate_but_not_of(broken: UUID, conn: Connection, equipment_id: UUID) -> dict[str, Any]:
    if equipment_id == broken:
        raise ZeroDivisionError("nobody foresaw this")
    return motor_plate(conn, equipment_id)


def breaks_for_files(worker: Worker, record: Parts) -> StoredDiagnosis:
    raise ZeroDivisionError(f"nobody foresaw this of {len(record)} batches")


def test_a_diagnosis_of_a_split_file_that_breaks_fails_its_last_batch_and_the_rest_goes_on(
    engine: Engine, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_on(engine, csv_batch_size=5000)
    parts = load(worker, recording)
    (neighbour,) = insert_signals(engine, 1)
    with monkeypatch.context() as patch:
        patch.setattr(diagnose, "diagnose_record", breaks_for_files)
        (claim,) = claim_pending(engine, settings=worker.settings.claims, claimed_by="t").claims
        outcomes = run_batch(worker, Batch(claim.token, claim.signal_ids))
    assert set(outcomes.failed) == set(parts)
    assert set(outcomes.done) == {neighbour}
    assert statuses(engine) == dict.fromkeys(parts, "failed") | {neighbour: "completed"}
    assert failure(engine, parts[0])["reason"] == "internal_error"
    assert failure(engine, parts[0])["stage"] == "diagnose"
    assert "ZeroDivisionError" in failure(engine, parts[0])["message"]
    assert value(engine, "SELECT count(DISTINCT raw_id) FROM features") == 6
    with engine.begin() as conn:
        conn.execute(text("UPDATE raw_signals SET processing_status = 'pending' WHERE processing_status = 'failed'"))
    work_off(worker)
    assert set(statuses(engine).values()) == {"completed"}
    assert set(load_diagnoses(engine=engine)["raw_id"]) == {parts[0], neighbour}


def test_a_split_file_whose_samples_are_gone_completes_with_a_refusal_in_each_quantity(
    engine: Engine, recording: Path
) -> None:
    worker = worker_on(engine, csv_batch_size=5000)
    parts = load(worker, recording)
    (claim, *_) = claim_pending(engine, settings=worker.settings.claims, claimed_by="t", limit=4).claims
    run_batch(worker, Batch(claim.token, claim.signal_ids))
    with engine.begin() as conn:  # as after RETAIN_RAW_SIGNALS=false, and the file was moved away
        conn.execute(
            text("UPDATE raw_signals SET phase_a = NULL, phase_b = NULL, phase_c = NULL WHERE id = :id"),
            {"id": parts[1]},
        )
    recording.unlink()
    work_off(worker)
    assert set(statuses(engine).values()) == {"completed"}
    (row,) = load_diagnoses(engine=engine).to_dict("records")
    assert row["raw_id"] == parts[0]
    assert {row[f"{quantity}_status"] for quantity in DIAGNOSED} == {"no_samples"}
    assert not isinstance(row["severity"], str)
    assert recording.name in row["findings"][0]["detail"]


def test_two_workers_that_finish_the_last_two_batches_at_once_diagnose_the_file_once(
    engine: Engine, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_on(engine, csv_batch_size=12_000)
    parts = load(worker, recording)
    assert len(parts) == 2
    both_are_there, diagnosed = Barrier(2, timeout=30), []

    def together(conn: Connection, signal_ids: Sequence[UUID]) -> None:
        both_are_there.wait()
        lock_sources(conn, signal_ids)

    def counted(worker: Worker, record: Parts) -> StoredDiagnosis:
        diagnosed.append(record[0].id)
        return diagnose_record(worker, record)

    monkeypatch.setattr(diagnose, "lock_sources", together)
    monkeypatch.setattr(diagnose, "diagnose_record", counted)
    claims = [
        claim
        for name in ("one", "two")
        for claim in claim_pending(engine, settings=worker.settings.claims, claimed_by=name, limit=1).claims
    ]
    assert len(claims) == 2
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda claim: run_batch(worker, Batch(claim.token, claim.signal_ids)), claims))
    assert diagnosed == [parts[0]]
    assert load_diagnoses(engine=engine)["raw_id"].tolist() == [parts[0]]
    assert set(statuses(engine).values()) == {"completed"}


def test_a_clipped_split_file_is_seen_as_clipped_although_it_is_decimated(engine: Engine, tmp_path: Path) -> None:
    samples = simulate(Motor(), Condition(slip=0.03), fs=10_000, seconds=6, seed=1)
    limit = np.float32(0.8 * samples.max())
    path = tmp_path / "2025-08-25T12-00-00Z.csv"
    path.write_bytes(csv_bytes(np.clip(samples, -limit, limit)))
    worker = worker_on(engine, csv_batch_size=25_000)
    assert len(load(worker, path, fs=10_000)) == 3
    work_off(worker)
    (row,) = load_diagnoses(engine=engine).to_dict("records")
    assert row["unbalance_status"] == "clipped"
