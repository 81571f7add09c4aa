"""The diagnosis of a record: of a signal that is a record by itself, or of a split file as a whole.

A split file is diagnosed once, by whoever completes its last batch: who that is cannot be known before, so the
diagnosis is computed outside of any transaction, and stored in the one that completes the batch, after the source's
lock has shown that it is the last. A signal that is a record by itself is diagnosed by extraction while its samples are
in memory; what is left (a run without extraction, a signal extracted by a worker that died) is loaded here. Not here:
judging currents (`dsp.diagnosis`).
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from time import perf_counter
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray

from signal_pipeline.db import claims, counters
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.diagnostics import (
    RecordPart,
    StoredDiagnosis,
    lock_sources,
    motor_plate,
    record_parts,
    store_diagnoses,
)
from signal_pipeline.db.engine import is_transient
from signal_pipeline.db.finalizing import Finalizing
from signal_pipeline.db.signals import StoredSignal, load_signal
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.dsp.diagnosis import Decimator, Diagnosis, MotorData, SeverityBands, bridge_gaps, diagnose
from signal_pipeline.dsp.gaps import max_gap_samples
from signal_pipeline.errors import SignalError, ValidationFailed
from signal_pipeline.processing.batch import Batch, Outcome, Outcomes
from signal_pipeline.processing.failing import mark_failed
from signal_pipeline.processing.load import Recording, load_recording
from signal_pipeline.processing.worker import Worker, retrying
from signal_pipeline.settings import DiagnosisSettings

log = structlog.get_logger(__name__)

DIAGNOSIS_CODE_VERSION = 3
"""Raised when the same samples and plate would give another diagnosis."""

Parts = tuple[RecordPart, ...]


def diagnose_batch(
    worker: Worker, batch: Batch, signal_ids: Sequence[UUID], diagnosed: Mapping[UUID, StoredDiagnosis | Failure]
) -> Outcomes:
    """Diagnose the signals that are records by themselves; the others wait for the last batch of their file.

    What extraction `diagnosed`, and has stored, is told only. In a run that owns no status (`batch.whole` is false) a
    file all of whose batches are completed is diagnosed, too.
    """
    parts = retrying(lambda: _parts(worker, signal_ids))
    outcomes = Outcomes()
    records: dict[UUID, Parts] = {}
    for signal_id in signal_ids:
        record = parts[signal_id]
        if len(record) > 1 and (batch.whole or not all(part.completed for part in record)):
            outcomes.done[signal_id] = Outcome({"diagnosed": "with the last batch of its file", "batches": len(record)})
        else:
            records[signal_id] = record
    with ThreadPoolExecutor(worker.settings.features.threads, thread_name_prefix="diagnose") as pool:
        missing = {record[0].id: record for record in records.values() if record[0].id not in diagnosed}
        made = dict(zip(missing, pool.map(lambda record: _diagnosed(worker, record), missing.values()), strict=True))
    for signal_id, record in records.items():
        first = record[0].id
        result = diagnosed[first] if first in diagnosed else made[first]
        if isinstance(result, Failure):
            mark_failed(worker, batch, signal_id, result)
            outcomes.failed[signal_id] = result
            continue
        if first in made:
            _store(worker, batch, signal_id, result)
        outcomes.done[signal_id] = Outcome(details(result))
    return outcomes


def diagnose_loaded(worker: Worker, signal: StoredSignal, recording: Recording) -> StoredDiagnosis | Failure:
    """The diagnosis of a signal that is a record by itself, from samples that are in memory already."""
    return _or_failure(signal.id, lambda: _judged(worker, signal, recording, recording.phases))


def _diagnosed(worker: Worker, record: Parts) -> StoredDiagnosis | Failure:
    return _or_failure(record[0].id, lambda: diagnose_record(worker, record))


def _or_failure(signal_id: UUID, work: Callable[[], StoredDiagnosis]) -> StoredDiagnosis | Failure:
    """The diagnosis, or what is wrong with the record; a database that blips is neither."""
    try:
        return work()
    except SignalError as error:
        return Failure(error.reason, Stage.DIAGNOSE, str(error))
    except Exception as error:
        if is_transient(error):
            raise
        log.exception("signal.internal_error", signal=str(signal_id), stage=Stage.DIAGNOSE.value)
        return Failure(FailureReason.INTERNAL_ERROR, Stage.DIAGNOSE, f"{type(error).__name__}: {error}")


def _store(worker: Worker, batch: Batch, signal_id: UUID, diagnosis: StoredDiagnosis) -> None:
    def transaction() -> None:
        with worker.engine.begin() as conn:
            claims.fence(conn, batch.token, [signal_id])
            store_diagnoses(conn, [diagnosis])

    retrying(transaction)


def complete_with_diagnosis(worker: Worker, batch: Batch, signal_ids: Sequence[UUID]) -> None:
    """Complete batches of one split file; with its last ones goes the diagnosis of the whole file."""
    finalizing = Finalizing()
    if retrying(lambda: _complete_unless_last(worker, batch, signal_ids, finalizing)):
        return
    began = perf_counter()
    diagnosis = _diagnose_file(worker, batch, signal_ids)
    seconds: dict[Stage | str, list[float]] = {} if diagnosis is None else {Stage.DIAGNOSE: [perf_counter() - began]}

    def transaction() -> None:
        with worker.engine.begin() as conn:
            if claims.complete(conn, batch.token, signal_ids, finalizing):
                store_diagnoses(conn, [] if diagnosis is None else [diagnosis])
                counters.add(conn, {"signals_completed_total": len(signal_ids)}, seconds)

    retrying(transaction)


def _complete_unless_last(worker: Worker, batch: Batch, signal_ids: Sequence[UUID], finalizing: Finalizing) -> bool:
    """Whether the batches were completed; False if all others of the file are, so that it is for us to diagnose it."""
    with worker.engine.begin() as conn:
        lock_sources(conn, signal_ids)
        if finalizing.has_landed(conn, signal_ids):  # whoever completed the others since saw these completed
            return True
        record = record_parts(conn, signal_ids[:1])[signal_ids[0]]
        if all(part.completed or part.id in signal_ids for part in record):
            return False
        claims.complete(conn, batch.token, signal_ids, finalizing)
        counters.add(conn, {"signals_completed_total": len(signal_ids)})
    return True


def _diagnose_file(worker: Worker, batch: Batch, signal_ids: Sequence[UUID]) -> StoredDiagnosis | None:
    """The whole file's diagnosis; None, with a line in the log, if a batch's samples cannot be had any more."""
    record = retrying(lambda: _parts(worker, signal_ids[:1]))[signal_ids[0]]
    try:
        return diagnose_record(worker, record)
    except SignalError as error:
        log.warning("diagnosis.impossible", signal=str(record[0].id), claim=str(batch.token), error=str(error))
        return None


def diagnose_record(worker: Worker, record: Parts) -> StoredDiagnosis:
    """The diagnosis of a file from all its batches, one after the other, never whole in memory.

    Raises `SignalError` if a batch cannot be loaded.
    """
    first = retrying(lambda: _row(worker, record[0].id))
    recording = load_recording(first, worker.settings.ingest)
    if len(record) == 1:
        return _judged(worker, first, recording, recording.phases)
    phases, fs = _joined(worker, first, recording, record[1:], _max_gap(worker, first))
    return _judged(worker, first, recording, phases, fs=fs)


def _judged(
    worker: Worker, signal: StoredSignal, recording: Recording, phases: NDArray[np.float32], *, fs: float | None = None
) -> StoredDiagnosis:
    """The diagnosis of `phases` (3, n): at the signal's own rate; or at `fs` (Hz), then their gaps are bridged."""
    max_gap = _max_gap(worker, signal) if fs is None else 0
    rate = _rate(signal) if fs is None else fs
    settings = worker.settings.diagnosis
    motor = MotorData(**retrying(lambda: _plate(worker, signal.equipment_id)))
    found = diagnose(
        phases, fs=rate, motor=motor, present=recording.present, bands=severity_bands(settings), max_gap=max_gap
    )
    log.info("signal.diagnosed", signal=str(signal.id), severity=found.severity and found.severity.value)
    return _stored(signal, found, motor, diagnosis_version(settings))


def _rate(signal: StoredSignal) -> float:
    if signal.sample_rate_hz is None:
        raise ValidationFailed("sample_rate_hz is not set. Load the file with --sample-rate, in Hz.")
    return signal.sample_rate_hz


def _max_gap(worker: Worker, signal: StoredSignal) -> int:
    return max_gap_samples(_rate(signal), worker.settings.features.max_gap_ms)


def _parts(worker: Worker, signal_ids: Sequence[UUID]) -> dict[UUID, Parts]:
    with worker.engine.connect() as conn:
        return record_parts(conn, signal_ids)


def _row(worker: Worker, signal_id: UUID) -> StoredSignal:
    with worker.engine.connect() as conn:
        return load_signal(conn, signal_id)


def _plate(worker: Worker, equipment_id: UUID) -> dict[str, Any]:
    with worker.engine.connect() as conn:
        return motor_plate(conn, equipment_id)


def _joined(
    worker: Worker, first: StoredSignal, recording: Recording, others: Parts, max_gap: int
) -> tuple[NDArray[np.float32], float]:
    """All batches at the rate that diagnosis needs, float32 (3, m), and that rate (Hz)."""
    decimator = Decimator(_rate(first))
    absent = ~np.array(recording.present)
    pieces = []
    for signal, samples in _batches(worker, first, recording, others):
        new = bridge_gaps(samples[:, signal.lead_in :], max_gap)
        pieces.append(decimator.push(np.where(absent[:, None], np.float32(0), new)))
    return np.concatenate(pieces, axis=1), decimator.fs_out


def _batches(
    worker: Worker, first: StoredSignal, recording: Recording, others: Parts
) -> Iterator[tuple[StoredSignal, NDArray[np.float32]]]:
    yield first, recording.phases
    for part in others:
        signal = retrying(partial(_row, worker, part.id))
        yield signal, load_recording(signal, worker.settings.ingest).phases


def _stored(signal: StoredSignal, found: Diagnosis, motor: MotorData, version: str) -> StoredDiagnosis:
    return StoredDiagnosis(
        raw_id=signal.id,
        equipment_id=signal.equipment_id,
        recorded_at=signal.recorded_at,
        severity=None if found.severity is None else found.severity.value,
        analysed_seconds=found.analysed_seconds,
        values={f.quantity.value: f.value for f in found},
        statuses={f.quantity.value: f.status.value for f in found},
        findings=found.as_json(),
        motor=asdict(motor),
        diagnosis_version=version,
    )


def details(diagnosis: StoredDiagnosis) -> dict[str, str | float]:
    """What a materialization shows: each quantity's value, or why it has none."""
    shown: dict[str, str | float] = {"severity": diagnosis.severity or "not judged"}
    for quantity, status in diagnosis.statuses.items():
        value = diagnosis.values[quantity]
        shown[quantity] = status if value is None else value
    return shown


def severity_bands(settings: DiagnosisSettings) -> SeverityBands:
    """The settings as `dsp` takes them."""
    return SeverityBands(
        broken_bar_dbc=settings.diagnosis_broken_bar_dbc,
        eccentricity_dbc=settings.diagnosis_eccentricity_dbc,
        interturn_pct=settings.diagnosis_interturn_pct,
        unbalance_pct=settings.diagnosis_unbalance_pct,
        load_pct=settings.diagnosis_load_pct,
        line_deviation_hz=settings.diagnosis_line_deviation_hz,
    )


def diagnosis_version(settings: DiagnosisSettings) -> str:
    """16 hex digits of what a diagnosis depends on besides samples and plate."""
    inputs = [DIAGNOSIS_CODE_VERSION, settings.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
