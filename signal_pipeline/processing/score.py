"""Scoring what was extracted, when a model is there; quiet when it is not.

Whoever has finished signals of an equipment drains its stream: every extracted window that has no score yet, in
(window_start, raw_id) order, up to the first signal that is not extracted yet. Windows behind that one wait for
whoever finishes it. So neither the number of workers nor the order of claims changes a score. Not here: what a score
is (`anomaly`), and the stream's rows (`db.streams`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text
from structlog.contextvars import bound_contextvars

from signal_pipeline.anomaly.models import Models, load_latest
from signal_pipeline.db import claims, counters
from signal_pipeline.db.streams import (
    Wanted,
    close_other_events,
    late_signals,
    late_windows,
    lock_stream,
    next_windows,
    predecessor,
    read_barrier,
    read_state,
)
from signal_pipeline.domain import Stage
from signal_pipeline.errors import ManifestError
from signal_pipeline.processing.batch import Batch, Outcome, Outcomes
from signal_pipeline.processing.signal_work import current_version
from signal_pipeline.processing.streams import Stream, Written, fresh_state, learn, score_late, stream_of
from signal_pipeline.processing.worker import Worker, retrying

log = structlog.get_logger(__name__)

WINDOWS_A_TRANSACTION = 5000
"""So many windows are learnt at most before the state is stored. Bounds memory, and for how long an equipment's lock is
held, but for late recordings: these are scored one by one, and all of them at once."""

EQUIPMENT = text("""
    SELECT r.equipment_id, e.name, array_agg(r.id ORDER BY r.id) AS ids
    FROM raw_signals AS r JOIN equipment AS e ON e.id = r.equipment_id
    WHERE r.id = ANY(:ids) GROUP BY r.equipment_id, e.name ORDER BY r.equipment_id
""")

SCORED = text("""
    SELECT s.raw_id, s.model_version, count(*) AS scored, count(*) FILTER (WHERE s.is_anomaly) AS anomalies,
           max(s.score) AS highest
    FROM anomaly_scores AS s
    WHERE s.raw_id = ANY(:ids) AND s.model_kind = 'stream' GROUP BY s.raw_id, s.model_version
""")


@dataclass(frozen=True, slots=True)
class _Equipment:
    """One equipment of a batch: `ours`, its signals that the batch holds; `alive`, those that did not fail."""

    id: UUID
    name: str
    ours: tuple[UUID, ...]
    alive: tuple[UUID, ...]


def score_batch(worker: Worker, batch: Batch, signal_ids: Sequence[UUID]) -> Outcomes:
    """Score the stored windows of `signal_ids`, and whatever waited for one of the batch's signals to be finished.

    Raises `ClaimLost` if another worker took over, and transient database errors that outlast the retries.
    """
    try:
        models = load_latest(worker.settings.models.models_dir)
    except ManifestError as error:
        log.warning("manifest.refused", claim=str(batch.token), error=str(error))
        return _quiet(signal_ids, "manifest_refused")
    if models is None:
        return _quiet(signal_ids, "no_manifest")
    version = current_version(worker.settings.features)
    if models.feature_version != version:
        log.warning("manifest.refused", model=models.version, trained_on=models.feature_version, computed=version)
        return _quiet(signal_ids, "manifest_of_other_features")
    begun: list[UUID] = []
    told: dict[UUID, dict[str, Any]] = {}
    for equipment in _equipment(worker, batch, signal_ids):
        chosen, reason = models.chosen(equipment.name), "no_reference"
        if chosen is not None:
            _count_attempt(worker, batch, equipment, begun)
            one = stream_of(equipment.id, "stream", chosen, worker.settings)
            reason = _move(worker, batch, models, equipment, one)
        version = models.version if chosen is None else chosen.origin.version
        told |= {i: {"scored": 0, "reason": reason, "model_version": version} for i in equipment.alive}
    return _told(worker, told)


def _move(worker: Worker, batch: Batch, models: Models, equipment: _Equipment, one: Stream) -> str:
    """Drain a stream; returns why a signal of the equipment may have no score nevertheless."""
    try:
        with bound_contextvars(equipment=equipment.name):
            while retrying(partial(_drain, worker, batch, models, equipment, one)):
                pass
    except ManifestError as error:
        log.warning("manifest.refused", equipment=equipment.name, error=str(error))
        return "stream_of_another_reference"
    return "waiting_for_an_earlier_recording"


def _count_attempt(worker: Worker, batch: Batch, equipment: _Equipment, begun: list[UUID]) -> None:
    """Scoring that kills its worker must not go on for ever: it counts as own work of the equipment's first signal."""
    if equipment.alive:
        lease, first = worker.settings.claims.claim_lease_seconds, equipment.alive[0]
        retrying(lambda: claims.start_work(worker.engine, batch.token, first, lease_seconds=lease, ended=begun))
        begun[:] = [first]


def _quiet(signal_ids: Sequence[UUID], reason: str) -> Outcomes:
    return Outcomes(done={i: Outcome({"scored": 0, "reason": reason}) for i in signal_ids})


def _equipment(worker: Worker, batch: Batch, signal_ids: Sequence[UUID]) -> list[_Equipment]:
    """All equipment of the batch: a signal that failed, too, may be what others have waited for."""
    alive = set(signal_ids)

    def read() -> Sequence[Any]:
        with worker.engine.connect() as conn:
            return conn.execute(EQUIPMENT, {"ids": list(batch.signal_ids)}).all()

    rows = retrying(read)
    return [_Equipment(r.equipment_id, r.name, tuple(r.ids), tuple(i for i in r.ids if i in alive)) for r in rows]


def _told(worker: Worker, unscored: dict[UUID, dict[str, Any]]) -> Outcomes:
    """What people see of each signal: its scores under the version in use, or what is said where it has none."""

    def read() -> Sequence[Any]:
        with worker.engine.connect() as conn:
            return conn.execute(SCORED, {"ids": list(unscored)}).all()

    found = {(row.raw_id, row.model_version): row for row in retrying(read)}
    outcomes = Outcomes()
    for i, details in unscored.items():
        row = found.get((i, details["model_version"]))
        if row is not None:
            scores = {"scored": row.scored, "anomalies": row.anomalies, "highest_score": row.highest}
            outcomes.done[i] = Outcome(scores | {"model_version": row.model_version})
        else:
            outcomes.done[i] = Outcome(details)
    return outcomes


def _drain(worker: Worker, batch: Batch, models: Models, equipment: _Equipment, one: Stream) -> bool:
    """Move the equipment's stream by one transaction; returns whether there may be more to do."""
    key = one.key
    wanted = Wanted(models.features, models.feature_version, equipment.ours)
    began = perf_counter()
    with worker.engine.begin() as conn:
        claims.fence(conn, batch.token, equipment.alive)
        lock_stream(conn, key)
        close_other_events(conn, key)
        stored = read_state(conn, key) or fresh_state(models, one.reference)
        if stored.state["reference"] != one.reference.digest:
            raise ManifestError(
                f"the stream of {equipment.name} was begun under another reference of version {key.version}; "
                f"`signal-pipeline rescore --equipment {equipment.name}` begins it anew"
            )
        written = Written()
        if stored.position is not None:  # before anything more is learnt: what is late is scored from where this stands
            for raw_id in late_signals(conn, key, wanted, after=stored.position):
                late = late_windows(conn, key, wanted, after=stored.position, raw_id=raw_id)
                written += score_late(conn, one, stored, late)
        barrier = read_barrier(conn, equipment.id, feature_version=models.feature_version)
        windows = next_windows(
            conn,
            key,
            wanted,
            after=stored.position,
            barrier=barrier,
            since=one.since,
            waited=predecessor(conn, key),
            limit=WINDOWS_A_TRANSACTION,
        )
        _, learnt = learn(conn, one, stored, windows)
        counters.add(conn, (written + learnt).totals(), {Stage.SCORE: [perf_counter() - began]})
    return len(windows) == WINDOWS_A_TRANSACTION
