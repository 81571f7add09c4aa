"""The end of the work: completed, samples cleared where the settings say so, or let go for the next worker."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from uuid import UUID

import structlog
from sqlalchemy import Connection

from signal_pipeline.db import claims, counters
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.diagnostics import record_parts
from signal_pipeline.db.finalizing import Finalizing
from signal_pipeline.db.signals import Clearable, clear_phases, clearable, left_over
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.errors import CSVLoaderError, FileRejected
from signal_pipeline.ingest.csv_reader import sha256_of
from signal_pipeline.ingest.sources import check_source
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.diagnose import complete_with_diagnosis
from signal_pipeline.processing.worker import T, Worker, retrying

log = structlog.get_logger(__name__)


def complete_batch(worker: Worker, batch: Batch, signal_ids: Sequence[UUID]) -> dict[UUID, Failure]:
    """processing -> completed: records by themselves in one fenced transaction, batches of split files by their file.

    Then clears samples if RETAIN_RAW_SIGNALS is false. Returns those that failed, because their file's diagnosis broke.
    """
    if not signal_ids:
        return {}
    started = perf_counter()
    parts = _read(worker, lambda conn: record_parts(conn, signal_ids))
    alone = [i for i in signal_ids if len(parts[i]) == 1]
    files: dict[UUID, list[UUID]] = {}
    for i in signal_ids:
        if len(parts[i]) > 1:
            files.setdefault(parts[i][0].id, []).append(i)

    finalizing = Finalizing()

    def transaction() -> None:
        with worker.engine.begin() as conn:
            began = perf_counter()
            if claims.complete(conn, batch.token, alone, finalizing):
                counters.add(conn, {"signals_completed_total": len(alone)}, {Stage.FINALIZE: [perf_counter() - began]})

    if alone:
        retrying(transaction)
    failed: dict[UUID, Failure] = {}
    for batches in files.values():
        failed |= complete_with_diagnosis(worker, batch, batches)
    completed = [i for i in signal_ids if i not in failed]
    seconds = round(perf_counter() - started, 3)
    for i in completed:
        log.info("signal.completed", signal=str(i), claim=str(batch.token), of=len(completed), seconds=seconds)
    if not worker.settings.ingest.retain_raw_signals:
        clear_samples(worker, completed)
    return failed


def clear_samples(worker: Worker, signal_ids: Sequence[UUID]) -> int:
    """Drop the samples of completed signals whose CSV still stands as it was loaded; returns how many rows had any."""
    cleared, kept = _clear(worker, _read(worker, lambda conn: clearable(conn, signal_ids)))
    for file in kept:
        log.warning("samples.kept", file=Path(file.path).name, reason="its CSV is gone, changed or unreadable")
    log.info("samples.cleared", signals=cleared)
    return cleared


def clear_left_over(worker: Worker) -> int:
    """Clear what should have gone before, if RETAIN_RAW_SIGNALS is false; returns how many rows had any.

    The worker died after it had completed them, or the last batch of their file failed, or the CSV was away just then.
    """
    if worker.settings.ingest.retain_raw_signals:
        return 0
    files = _read(worker, left_over)
    cleared, kept = _clear(worker, files)
    if files:
        log.info("samples.cleared_later", signals=cleared, files_kept=len(kept))
    return cleared


def _clear(worker: Worker, files: Sequence[Clearable]) -> tuple[int, list[Clearable]]:
    """How many rows had samples, and the files whose CSV cannot give them back."""
    cleared, kept = 0, []
    for file in files:
        if not _still_there(worker, Path(file.path), file.sha256):
            kept.append(file)
            continue
        cleared += retrying(partial(_clear_phases, worker, file.signal_ids))
    return cleared, kept


def _clear_phases(worker: Worker, signal_ids: Sequence[UUID]) -> int:
    with worker.engine.begin() as conn:
        return len(clear_phases(conn, signal_ids))


def _read(worker: Worker, look: Callable[[Connection], T]) -> T:
    """A read, again while the database blips: all the work on the signals is behind it."""

    def read() -> T:
        with worker.engine.connect() as conn:
            return look(conn)

    return retrying(read)


def _still_there(worker: Worker, path: Path, sha256: str) -> bool:
    settings = worker.settings.ingest
    try:
        source = check_source(path, data_roots=settings.data_roots, max_bytes=settings.csv_max_bytes)
        return sha256_of(source.path) == sha256
    except (FileRejected, CSVLoaderError, OSError):
        return False


def cancel_batch(worker: Worker, token: UUID, message: str, *, signal_ids: Sequence[UUID] | None = None) -> None:
    """A person stopped the run: unfinished signals are FAILED `cancelled`, or they would start by themselves again."""
    failure = Failure(FailureReason.CANCELLED, Stage.FINALIZE, message)
    cancelled = fail_unfinished(worker, token, failure, signal_ids=signal_ids)
    log.warning("batch.cancelled", claim=str(token), signals=len(cancelled))


def fail_unfinished(
    worker: Worker, token: UUID, failure: Failure, *, signal_ids: Sequence[UUID] | None = None
) -> tuple[UUID, ...]:
    """Whatever the claim still holds (of `signal_ids`, if given: runs can share a claim) is FAILED, and counted."""

    def transaction() -> tuple[UUID, ...]:
        with worker.engine.begin() as conn:
            failed = claims.fail_all(conn, token, failure, signal_ids=signal_ids)
            counters.add(conn, {counters.failed(failure.stage, failure.reason): len(failed)})
        return failed

    return retrying(transaction)
