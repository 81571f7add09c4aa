"""Recordings of one motor, a minute apart, to be scored; and what was made of them, to be compared byte for byte."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Engine, insert, select, text

from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.models import Equipment, RawSignal
from signal_pipeline.ingest import codec
from signal_pipeline.processing.batch import Batch, Outcomes
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.training import train
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ModelSettings, Settings
from signal_pipeline_tests.signals import FS, MIDNIGHT, NAMESPACE, current

HEALTHY = 40
NEW = list(range(HEALTHY, HEALTHY + 16))
FAULTY = frozenset(range(HEALTHY + 10, HEALTHY + 16))


def add(
    engine: Engine, numbers: list[int], *, faulty: frozenset[int] = frozenset(), equipment: str = "M1"
) -> list[UUID]:
    """Pending recordings of a motor a minute apart, number k at minute k, created in the order given."""
    with engine.begin() as conn:
        found = conn.execute(select(Equipment.id).where(Equipment.name == equipment)).scalar_one_or_none()
        owner = found or conn.execute(insert(Equipment).values(name=equipment).returning(Equipment.id)).scalar_one()
        ids = []
        for k in numbers:
            samples = current(k, seconds=4.0, fault=0.2 if k in faulty else 0.0)
            ids.append(uuid5(NAMESPACE, f"score:{k}" if equipment == "M1" else f"score:{equipment}:{k}"))
            row = {
                "id": ids[-1],
                "equipment_id": owner,
                "sample_rate_hz": FS,
                "recorded_at": MIDNIGHT + timedelta(minutes=k),
                "samples_count": samples.shape[1],
            }
            row |= {f"phase_{p}": codec.encode(phase) for p, phase in zip("abc", samples, strict=True)}
            conn.execute(insert(RawSignal), [row])
    return ids


def work_off(worker: Worker, *, limit: int | None = None) -> Outcomes:
    """All that is pending; what became of every signal."""
    outcomes = Outcomes()
    while got := claim_pending(worker.engine, settings=worker.settings.claims, claimed_by="t", limit=limit).claims:
        for claim in got:
            one = run_batch(worker, Batch(claim.token, claim.signal_ids))
            outcomes.done |= one.done
            outcomes.failed |= one.failed
    return outcomes


def trained_worker(engine: Engine, models_dir: Path) -> Worker:
    """A worker with a model of 40 healthy recordings."""
    worker = Worker(engine, Settings(models=ModelSettings(models_dir=models_dir)), "t")
    add(engine, list(range(HEALTHY)))
    work_off(worker)
    train(worker)
    return worker


def dump(engine: Engine) -> tuple[list[Any], list[Any], list[Any]]:
    """Scores, states and events, without what differs from run to run (numbers of rows, times of writing)."""
    queries = (
        "SELECT raw_id, window_start, model_kind, float8send(score)::text, threshold, is_anomaly, meta::text "
        "FROM anomaly_scores ORDER BY window_start, raw_id, model_kind",
        "SELECT state::text, tracker::text, last_window_start, last_raw_id FROM anomaly_states ORDER BY equipment_id",
        "SELECT started_at, ended_at, peak_score, windows, is_open, features::text FROM anomaly_events ORDER BY 1",
    )
    with engine.connect() as conn:
        scores, states, events = ([tuple(row) for row in conn.execute(text(q))] for q in queries)
    return scores, states, events


def forget(engine: Engine) -> None:
    """Back to before the new recordings came."""
    with engine.begin() as conn:
        for table in ("anomaly_scores", "anomaly_events", "anomaly_states"):
            conn.execute(text(f"DELETE FROM {table}"))
        conn.execute(
            text("DELETE FROM raw_signals WHERE recorded_at >= :at"), {"at": MIDNIGHT + timedelta(minutes=HEALTHY)}
        )
