"""Rows that the database tests start from, and what they look at afterwards. Not here: tests."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.db.claims import Claim, claim_pending
from signal_pipeline.db.features import SignalFeatures
from signal_pipeline.settings import ClaimSettings, ClaimStrategy

NOON = datetime(2024, 5, 17, 12, 0, tzinfo=UTC)
VERSION = "v1"


def claim_settings(*, strategy: str = "s2", lease_seconds: float = 60, max_attempts: int = 3) -> ClaimSettings:
    return ClaimSettings(
        claim_strategy=ClaimStrategy(strategy),
        claim_batch_size=200,
        claim_lease_seconds=lease_seconds,
        claim_max_attempts=max_attempts,
        claim_max_runs=2,
        instance_id=None,
    )


def add_equipment(engine: Engine, name: str = "motor 1") -> UUID:
    with engine.begin() as conn:
        added: UUID = conn.execute(
            text("INSERT INTO equipment (name) VALUES (:name) RETURNING id"), {"name": name}
        ).scalar_one()
    return added


def add_signals(engine: Engine, n: int, *, equipment_id: UUID | None = None) -> list[UUID]:
    """`n` pending signals a second apart, oldest first; stored in the order of their random ids, which is another."""
    equipment_id = equipment_id or add_equipment(engine, f"motor {uuid4().hex}")
    with engine.begin() as conn:
        rows = conn.execute(
            text("""
                INSERT INTO raw_signals (id, equipment_id, file_name, created_at, recorded_at)
                SELECT id, :equipment, 'file ' || i, CAST(:start AS timestamptz) + make_interval(secs => i), :start
                FROM (SELECT i, gen_random_uuid() AS id FROM generate_series(1, :n) AS i) AS wanted ORDER BY id
                RETURNING id, created_at
            """),
            {"equipment": equipment_id, "start": NOON, "n": n},
        ).all()
    return [row.id for row in sorted(rows, key=lambda r: r.created_at)]


def only_claim(engine: Engine, *, limit: int | None = None, strategy: str = "s2", by: str = "worker") -> Claim:
    """The one claim that a fetch brings."""
    (claim,) = claim_pending(engine, settings=claim_settings(strategy=strategy), claimed_by=by, limit=limit).claims
    return claim


def row_of(engine: Engine, signal_id: UUID) -> Any:
    """The whole row, and whether its lease runs (`is_live`) on the database's clock."""
    with engine.connect() as conn:
        return conn.execute(
            text("SELECT *, coalesce(lease_expires_at >= now(), false) AS is_live FROM raw_signals WHERE id = :id"),
            {"id": signal_id},
        ).one()


def statuses(engine: Engine) -> dict[str, int]:
    with engine.connect() as conn:
        rows = conn.execute(text("SELECT processing_status AS s, count(*) AS n FROM raw_signals GROUP BY 1"))
        return {row.s: row.n for row in rows}


def change(engine: Engine, statement: str, **parameters: Any) -> int:
    """Run one statement of the test's own; returns how many rows it changed."""
    with engine.begin() as conn:
        return conn.execute(text(statement), parameters).rowcount


def expire(engine: Engine, signal_ids: Sequence[UUID]) -> None:
    """As if the lease's time had passed while its worker was dead."""
    change(
        engine,
        "UPDATE raw_signals SET lease_expires_at = now() - interval '1 second' WHERE id = ANY(:ids)",
        ids=list(signal_ids),
    )


def at_work(engine: Engine, signal_ids: Sequence[UUID], *, attempts: int) -> None:
    """As if the own work on these claimed signals had been started that many times, and never ended."""
    change(
        engine,
        "UPDATE raw_signals SET attempts = :attempts, work_started_at = now() WHERE id = ANY(:ids)",
        ids=list(signal_ids),
        attempts=attempts,
    )


def features_of(
    signal_id: UUID,
    equipment_id: UUID,
    *,
    n: int = 3,
    start: datetime = NOON,
    step: timedelta = timedelta(milliseconds=500),
    version: str = VERSION,
    seed: int = 0,
) -> SignalFeatures:
    """`n` windows of numbers that depend on nothing but `seed`."""
    return SignalFeatures(
        raw_id=signal_id,
        equipment_id=equipment_id,
        feature_version=version,
        window_starts=[start + i * step for i in range(n)],
        values=values_of(n, seed),
        null_reasons=[None] * n,
    )


def values_of(n: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, len(COLUMNS)))


def stored_values(conn: Connection, signal_id: UUID) -> NDArray[np.float64]:
    """The stored numbers of a signal, (window, len(COLUMNS)), NaN where they are NULL."""
    rows = conn.execute(
        text(f"SELECT {', '.join(COLUMNS)} FROM features WHERE raw_id = :id ORDER BY window_start"), {"id": signal_id}
    ).all()
    return np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=np.float64).reshape(
        len(rows), len(COLUMNS)
    )
