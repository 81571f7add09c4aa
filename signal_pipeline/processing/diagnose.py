"""The diagnosis of a record: of a signal that is a record by itself, or of a split file as a whole.

A split file is diagnosed once, by whoever completes its last batch: who that is cannot be known before, so the
diagnosis is computed outside of any transaction, and stored in the one that completes the batch, after the source's
lock has shown that it is the last. A signal that is a record by itself is diagnosed by extraction while its samples are
in memory; what is left (a run without extraction, a signal extracted by a worker that died) is loaded here. Not here:
how a record becomes a diagnosis (`diagnosis_of_record`).
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from time import perf_counter
from uuid import UUID

import structlog

from signal_pipeline.db import claims, counters
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.diagnostics import StoredDiagnosis, lock_sources, record_parts, store_diagnoses
from signal_pipeline.db.engine import is_transient
from signal_pipeline.db.finalizing import Finalizing
from signal_pipeline.db.signals import StoredSignal
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.errors import SignalError
from signal_pipeline.processing.batch import Batch, Outcome, Outcomes
from signal_pipeline.processing.diagnosis_of_record import Parts, diagnose_record, judged, refused_record
from signal_pipeline.processing.failing import mark_failed
from signal_pipeline.processing.load import Recording
from signal_pipeline.processing.worker import Worker, retrying

log = structlog.get_logger(__name__)


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
        # a copy each of what the step has bound for its log lines
        work = [pool.submit(copy_context().run, _diagnosed, worker, record) for record in missing.values()]
        made = dict(zip(missing, (one.result() for one in work), strict=True))
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
    return _or_failure(signal.id, lambda: judged(worker, signal, recording))


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


def complete_with_diagnosis(worker: Worker, batch: Batch, signal_ids: Sequence[UUID]) -> dict[UUID, Failure]:
    """Complete batches of one split file; with its last ones goes the diagnosis of the whole file.

    If that breaks, they are FAILED instead, as a record by itself is: asking for them again diagnoses the file again.
    """
    finalizing = Finalizing()
    if retrying(lambda: _complete_unless_last(worker, batch, signal_ids, finalizing)):
        return {}
    began = perf_counter()
    diagnosis = _diagnose_file(worker, batch, signal_ids)
    if isinstance(diagnosis, Failure):
        for signal_id in signal_ids:
            mark_failed(worker, batch, signal_id, diagnosis)
        return dict.fromkeys(signal_ids, diagnosis)
    seconds: dict[Stage | str, list[float]] = {Stage.DIAGNOSE: [perf_counter() - began]}

    def transaction() -> None:
        with worker.engine.begin() as conn:
            if claims.complete(conn, batch.token, signal_ids, finalizing):
                store_diagnoses(conn, [diagnosis])
                counters.add(conn, {"signals_completed_total": len(signal_ids)}, seconds)

    retrying(transaction)
    return {}


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


def _diagnose_file(worker: Worker, batch: Batch, signal_ids: Sequence[UUID]) -> StoredDiagnosis | Failure:
    """The whole file's diagnosis; a refusal of all if a batch's samples cannot be had any more: no fault of these."""
    record = retrying(lambda: _parts(worker, signal_ids[:1]))[signal_ids[0]]
    found = _diagnosed(worker, record)
    if isinstance(found, StoredDiagnosis) or found.reason is FailureReason.INTERNAL_ERROR:
        return found
    log.warning("diagnosis.impossible", signal=str(record[0].id), claim=str(batch.token), error=found.message)
    return _or_failure(record[0].id, lambda: refused_record(worker, record, found.message))


def _parts(worker: Worker, signal_ids: Sequence[UUID]) -> dict[UUID, Parts]:
    with worker.engine.connect() as conn:
        return record_parts(conn, signal_ids)


def details(diagnosis: StoredDiagnosis) -> dict[str, str | float]:
    """What a materialization shows: each quantity's value, or why it has none."""
    shown: dict[str, str | float] = {"severity": diagnosis.severity or "not judged"}
    for quantity, status in diagnosis.statuses.items():
        value = diagnosis.values[quantity]
        shown[quantity] = status if value is None else value
    return shown
