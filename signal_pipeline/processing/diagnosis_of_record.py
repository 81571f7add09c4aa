"""The diagnosis of one record, from its rows in the database to the row that is stored.

Here: a signal's samples or those of all batches of a file, the motor's plate, the settings. Nothing is written. Not
here: who diagnoses what and when (`diagnose`), or judging currents (`dsp.diagnosis`).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray

from signal_pipeline.db.diagnostics import RecordPart, StoredDiagnosis, motor_plate
from signal_pipeline.db.signals import StoredSignal, load_signal
from signal_pipeline.dsp.diagnosis import (
    Decimator,
    Diagnosis,
    FindingStatus,
    MotorData,
    SeverityBands,
    bridge_gaps,
    clipped_share,
    diagnose,
    refusal_of_all,
)
from signal_pipeline.dsp.gaps import max_gap_samples
from signal_pipeline.errors import ValidationFailed
from signal_pipeline.processing.load import Recording, load_recording
from signal_pipeline.processing.worker import Worker, retrying
from signal_pipeline.settings import DiagnosisSettings

log = structlog.get_logger(__name__)

DIAGNOSIS_CODE_VERSION = 4
"""Raised when the same samples and plate would give another diagnosis."""

Parts = tuple[RecordPart, ...]


def diagnose_record(worker: Worker, record: Parts) -> StoredDiagnosis:
    """The diagnosis of a file from all its batches, one after the other, never whole in memory.

    Raises `SignalError` if a batch cannot be loaded.
    """
    first = retrying(lambda: _row(worker, record[0].id))
    recording = load_recording(first, worker.settings.ingest)
    if len(record) == 1:
        return judged(worker, first, recording)
    return judged(worker, first, recording, _joined(worker, first, recording, record[1:], _max_gap(worker, first)))


class Joined(NamedTuple):
    """All batches of a file at the rate that diagnosis needs, their gaps bridged."""

    phases: NDArray[np.float32]
    fs: float
    clipped: float
    """Share of the recorded samples that lie in flat tops."""


def judged(worker: Worker, signal: StoredSignal, recording: Recording, joined: Joined | None = None) -> StoredDiagnosis:
    """The diagnosis of a signal's recording, or of the file `joined` of all its batches, of which this is the first."""
    settings = worker.settings.diagnosis
    began = perf_counter()
    whole = joined or Joined(recording.phases, _rate(signal), 0.0)
    motor = MotorData(**retrying(lambda: _plate(worker, signal.equipment_id)))
    found = diagnose(
        whole.phases,
        fs=whole.fs,
        motor=motor,
        present=recording.present,
        bands=severity_bands(settings),
        max_gap=_max_gap(worker, signal) if joined is None else 0,
        clipped=None if joined is None else joined.clipped,
    )
    log.info(
        "signal.diagnosed",
        signal=str(signal.id),
        severity=found.severity and found.severity.value,
        seconds=round(perf_counter() - began, 3),
    )
    return _stored(signal, found, motor, diagnosis_version(settings))


def refused_record(worker: Worker, record: Parts, why: str) -> StoredDiagnosis:
    """The row of a file whose samples cannot be had any more: each quantity says so."""
    signal = retrying(lambda: _row(worker, record[0].id))
    motor = MotorData(**retrying(lambda: _plate(worker, signal.equipment_id)))
    found = refusal_of_all(FindingStatus.NO_SAMPLES, why)
    return _stored(signal, found, motor, diagnosis_version(worker.settings.diagnosis))


def _rate(signal: StoredSignal) -> float:
    if signal.sample_rate_hz is None:
        raise ValidationFailed("sample_rate_hz is not set. Load the file with --sample-rate, in Hz.")
    return signal.sample_rate_hz


def _max_gap(worker: Worker, signal: StoredSignal) -> int:
    return max_gap_samples(_rate(signal), worker.settings.features.max_gap_ms)


def _row(worker: Worker, signal_id: UUID) -> StoredSignal:
    with worker.engine.connect() as conn:
        return load_signal(conn, signal_id)


def _plate(worker: Worker, equipment_id: UUID) -> dict[str, Any]:
    with worker.engine.connect() as conn:
        return motor_plate(conn, equipment_id)


def _joined(worker: Worker, first: StoredSignal, recording: Recording, others: Parts, max_gap: int) -> Joined:
    """All batches, decimated one after the other."""
    decimator = Decimator(_rate(first))
    present = np.array(recording.present)
    pieces, flat, n_samples = [], 0.0, 0
    for signal, samples in _batches(worker, first, recording, others):
        new = samples[:, signal.lead_in :]
        flat += clipped_share(new[present]) * new.shape[1]
        n_samples += new.shape[1]
        pieces.append(decimator.push(np.where(present[:, None], bridge_gaps(new, max_gap), np.float32(0))))
    return Joined(np.concatenate(pieces, axis=1), decimator.fs_out, flat / max(1, n_samples))


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
