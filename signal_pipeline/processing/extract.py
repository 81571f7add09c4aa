"""Extraction and diagnosis of a batch: several signals at once in threads, results stored a group a transaction.

The kernels release the GIL, so threads are enough (docs/decisions/). Memory is bounded by the number of threads and by
the bytes of the results that wait (`in_threads`): features, and samples that are to be kept. A signal that fails is
marked at once; its neighbours go on.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from functools import partial
from time import perf_counter
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection

from signal_pipeline.db import claims, counters
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.diagnostics import StoredDiagnosis, store_diagnoses
from signal_pipeline.db.engine import is_transient
from signal_pipeline.db.features import store_features
from signal_pipeline.db.signals import store_phases, work_done
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.errors import ClaimLost, SignalError
from signal_pipeline.ingest import codec
from signal_pipeline.processing.batch import Batch, Outcome, Outcomes
from signal_pipeline.processing.failing import mark_failed
from signal_pipeline.processing.in_threads import WAITING_BYTES, in_threads
from signal_pipeline.processing.signal_work import (
    Backfilled,
    Extracted,
    Progress,
    Validated,
    current_version,
    extract_signal,
    validate_signal,
)
from signal_pipeline.processing.worker import Worker, retrying

log = structlog.get_logger(__name__)

T = TypeVar("T")
Work = Callable[[Worker, UUID, Progress], T]

ROWS_A_TRANSACTION = 400
"""Features are stored when this many wait: twenty signals of ten seconds, which are 2.5 times as fast as one by one.

Or when they hold `WAITING_BYTES`, because samples that were read again from a CSV are stored with them."""


def extract_batch(worker: Worker, batch: Batch, with_diagnosis: bool = False) -> Outcomes:
    """Extract every signal of `batch` and store its features and hours; diagnose those that are records by themselves.

    A diagnosis that fails is only passed on: features stand on their own, and the diagnosis step says it. What an
    earlier worker of a queued batch has stored already is not computed again. Raises `ClaimLost` if another worker took
    over, and transient database errors that outlast the retries.
    """
    outcomes = Outcomes()
    if not batch.recompute:
        version = current_version(worker.settings.features)
        stored = retrying(lambda: claims.already_extracted(worker.engine, batch.token, version=version))
        outcomes.done = {i: Outcome({"windows": stored[i], "features_new": 0}) for i in batch.signal_ids if i in stored}
    pending: list[Extracted] = []
    todo = [i for i in batch.signal_ids if i not in outcomes.done]
    # Closed at once when storing fails, not when the frame is collected: its threads still touch the claim.
    # one long recording alone is shared by the threads; that changes no bit
    each = max(1, worker.settings.features.threads // max(1, len(todo)))
    work = partial(extract_signal, with_diagnosis=with_diagnosis, threads=each)
    with closing(_results(worker, batch, todo, work)) as results:
        for signal_id, result in results:
            if isinstance(result, Failure):
                mark_failed(worker, batch, signal_id, result)
                outcomes.failed[signal_id] = result
                continue
            if result.diagnosis is not None:
                outcomes.diagnosed[signal_id] = result.diagnosis
            pending.append(result)
            if _enough(pending):
                _store(worker, batch, pending, outcomes)
                pending.clear()
    if pending:
        _store(worker, batch, pending, outcomes)
    return outcomes


def _enough(pending: Sequence[Extracted]) -> bool:
    """Whether these results are to be stored now, instead of waiting for others."""
    rows = sum(len(e.features.window_starts) for e in pending)
    return rows >= ROWS_A_TRANSACTION or sum(e.n_bytes for e in pending) >= WAITING_BYTES


def validate_batch(worker: Worker, batch: Batch) -> Outcomes:
    """Load and validate every signal of `batch`, storing nothing: what `raw_signals` alone asks for."""
    outcomes = Outcomes()
    with closing(_results(worker, batch, batch.signal_ids, _validation_details)) as results:
        for signal_id, result in results:
            if isinstance(result, Failure):
                outcomes.failed[signal_id] = result
            else:
                outcomes.done[signal_id] = result
    return outcomes


def _validation_details(worker: Worker, signal_id: UUID, progress: Progress) -> Outcome:
    valid: Validated = validate_signal(worker, signal_id, progress)
    return Outcome({"samples": valid.recording.n_samples, "sample_rate_hz": valid.grid.fs})


def _results(
    worker: Worker, batch: Batch, signal_ids: Sequence[UUID], work: Work[T]
) -> Generator[tuple[UUID, T | Failure]]:
    """What `work` made of each signal, as they come."""
    ended: deque[UUID] = deque()

    def guarded(signal_id: UUID) -> T | Failure:
        return _guarded(worker, batch, signal_id, work, ended)

    return in_threads(worker.settings.features.threads, signal_ids, guarded, _n_bytes)


def _n_bytes(result: object) -> int:
    return result.n_bytes if isinstance(result, Extracted) else 0


def _guarded(worker: Worker, batch: Batch, signal_id: UUID, work: Work[T], ended: deque[UUID]) -> T | Failure:
    """Count the attempt, then work. What is wrong with the signal becomes a `Failure`; all else is raised.

    `ended`: signals whose work is over and whose results wait to be stored. Should the process die, they are innocent,
    and whoever starts next says so, once for each.
    """
    lease = worker.settings.claims.claim_lease_seconds
    innocent = _taken(ended)
    retrying(lambda: claims.start_work(worker.engine, batch.token, signal_id, lease_seconds=lease, ended=innocent))
    progress = Progress()
    try:
        return work(worker, signal_id, progress)
    except SignalError as error:
        return Failure(error.reason, progress.stage, str(error))
    except Exception as error:
        if _concerns_all(error):
            raise
        return _internal_error(signal_id, progress.stage, error)
    finally:
        ended.append(signal_id)


def _taken(ended: deque[UUID]) -> list[UUID]:
    """All of `ended`, each given to one thread only."""
    taken: list[UUID] = []
    with suppress(IndexError):
        while True:
            taken.append(ended.popleft())
    return taken


def _concerns_all(error: Exception) -> bool:
    """Whether the whole batch has to stop: the claim is lost, or the database is away."""
    return isinstance(error, ClaimLost) or is_transient(error)


def _internal_error(signal_id: UUID, stage: Stage, error: Exception) -> Failure:
    """The whole error for the log; its first line for people (the database's next ones hold the whole row)."""
    log.error("signal.internal_error", signal=str(signal_id), stage=stage.value, exc_info=error)
    first_line = str(error).partition("\n")[0]
    return Failure(FailureReason.INTERNAL_ERROR, stage, f"{type(error).__name__}: {first_line}")


def _store(worker: Worker, batch: Batch, group: Sequence[Extracted], outcomes: Outcomes) -> None:
    """Write a group of signals; if the database refuses it, one by one, so that only the culprit fails."""
    try:
        inserted = _store_together(worker, batch, group)
    except Exception as error:
        if _concerns_all(error):
            raise
        if len(group) == 1:
            signal_id = group[0].features.raw_id
            outcomes.failed[signal_id] = failure = _internal_error(signal_id, Stage.STORE, error)
            mark_failed(worker, batch, signal_id, failure)
        else:
            for e in group:
                _store(worker, batch, [e], outcomes)
        return
    for e in group:
        new = inserted[e.features.raw_id]
        outcomes.done[e.features.raw_id] = Outcome(e.details | {"features_new": new})
        log.info("signal.extracted", signal=str(e.features.raw_id), claim=str(batch.token), new=new, **e.details)


def _store_together(worker: Worker, batch: Batch, group: Sequence[Extracted]) -> dict[UUID, int]:
    """One fenced transaction; returns the new windows by signal."""

    def transaction() -> dict[UUID, int]:
        began = perf_counter()
        with worker.engine.begin() as conn:
            claims.fence(conn, batch.token, [e.features.raw_id for e in group])
            stored = store_features(conn, [e.features for e in group])
            store_diagnoses(conn, [e.diagnosis for e in group if isinstance(e.diagnosis, StoredDiagnosis)])
            work_done(conn, {e.features.raw_id: e.meta for e in group})
            for e in group:
                if e.backfilled is not None:
                    _keep_samples(conn, e.features.raw_id, e.backfilled)
            seconds = _seconds(group) | {Stage.STORE: [perf_counter() - began]}
            counters.add(conn, {"features_total": sum(stored.inserted.values())}, seconds)
        return stored.inserted

    return retrying(transaction)


def _seconds(group: Sequence[Extracted]) -> dict[Stage | str, list[float]]:
    """How long each stage took (s), a value a signal."""
    found: dict[Stage | str, list[float]] = {}
    for e in group:
        for stage, value in e.details["seconds"].items():
            found.setdefault(stage, []).append(value)
    return found


def _keep_samples(conn: Connection, signal_id: UUID, samples: Backfilled) -> None:
    store_phases(
        conn,
        signal_id,
        phases=samples.blobs,
        checksums=[None if blob is None else codec.checksum(blob) for blob in samples.blobs],
        samples_count=samples.samples_count,
    )
