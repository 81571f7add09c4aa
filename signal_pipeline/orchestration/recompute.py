"""Computing completed signals again because a person asks: the same run that the UI starts for their partitions.

After another window, overlap or version of the code, what is stored says so (`feature_version`), and stays until
somebody asks for it anew. Not here: what waits in the queue (`drain`), and failed signals, which go back into it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from dagster import DagsterInstance, JobDefinition
from sqlalchemy import text

from signal_pipeline.orchestration.dispatch import signals_a_run
from signal_pipeline.orchestration.drain import QUIET, stop_if_interrupted
from signal_pipeline.orchestration.partitions import RANGE_END, RANGE_START, place_keys, stretches
from signal_pipeline.processing.signal_work import current_version
from signal_pipeline.processing.worker import Worker, retrying

# In the order of time, as streams learn. A batch of a file that owns no window has features of a version, too: none.
OUTDATED = text("""
    SELECT r.id, coalesce(r.samples_count, :unknown) AS samples
    FROM raw_signals AS r JOIN equipment AS e ON e.id = r.equipment_id
    WHERE r.processing_status = 'completed' AND (r.meta -> 'features' ->> 'version') IS DISTINCT FROM :version
      AND (CAST(:equipment AS text[]) IS NULL OR e.name = ANY(CAST(:equipment AS text[])))
    ORDER BY r.recorded_at, r.id
""")

COMPUTED = text("""
    SELECT count(*) FROM raw_signals
    WHERE id = ANY(:ids) AND processing_status = 'completed' AND meta -> 'features' ->> 'version' = :version
""")


@dataclass(frozen=True, slots=True)
class Outdated:
    """A completed signal whose features are of another version than today's settings and code would give."""

    id: UUID
    samples: int


def find_outdated(worker: Worker, *, equipment: Sequence[str] = ()) -> list[Outdated]:
    """Of these equipment, or of all; oldest recordings first."""
    given = {
        "version": current_version(worker.settings.features),
        "unknown": worker.settings.ingest.csv_batch_size,
        "equipment": list(equipment) or None,
    }
    with worker.engine.connect() as conn:
        return [Outdated(row.id, row.samples) for row in conn.execute(OUTDATED, given)]


def recompute(
    job: JobDefinition,
    instance: DagsterInstance,
    worker: Worker,
    signals: Sequence[Outdated],
    *,
    on_batch: Callable[[int], None],
) -> int:
    """Compute `signals` again, run by run; returns how many have features of today's version now.

    The others failed, or a live worker holds them; what they had is kept. `on_batch` hears of each run's size.
    """
    computed = 0
    waiting = list(signals)
    while waiting:
        n = signals_a_run([s.samples for s in waiting], runs=1, at_most=worker.settings.claims.claim_batch_size)
        ids = [s.id for s in waiting[:n]]
        del waiting[:n]
        keys = place_keys(instance, worker.engine, ids)
        for stretch in stretches((str(i) for i in ids), keys):
            tags = {RANGE_START: stretch.first, RANGE_END: stretch.last}
            stop_if_interrupted(job.execute_in_process(QUIET, instance=instance, tags=tags, raise_on_error=False))
        computed += retrying(partial(_computed, worker, ids))
        on_batch(len(ids))
    return computed


def _computed(worker: Worker, ids: Sequence[UUID]) -> int:
    given = {"ids": list(ids), "version": current_version(worker.settings.features)}
    with worker.engine.connect() as conn:
        return int(conn.execute(COMPUTED, given).scalar_one())
