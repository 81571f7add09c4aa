"""Rows to process: small recordings put straight into `raw_signals`, without a file; and what became of them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from signal_pipeline.db import counters
from signal_pipeline.db.models import Equipment, RawSignal
from signal_pipeline.ingest import codec

FS = 1000.0
MIDNIGHT = datetime(2025, 8, 25, tzinfo=UTC)
NAMESPACE = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def recording(*, seconds: float = 2.0, fs: float = FS, seed: int = 0) -> NDArray[np.float32]:
    """Three phases of a 50 Hz current with noise, float32 (3, n)."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * fs)) / fs
    phases = [10 * np.cos(2 * np.pi * (50 * t - k / 3)) for k in range(3)]
    return np.asarray(phases + rng.normal(0, 0.1, (3, t.size)), dtype=np.float32)


def current(seed: int | tuple[int, ...], *, seconds: float, fault: float = 0.0) -> NDArray[np.float32]:
    """Three phases at 50 Hz with harmonics and noise, float32 (3, n); `fault` takes that share of phase b away."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * FS)) / FS
    level = 10 * (1 + 0.02 * rng.normal())
    rows = []
    for k in range(3):
        amplitude = level * (1 - fault if k == 1 else 1) * (1 + 0.002 * rng.normal())
        angle = 2 * np.pi * (50 * t - k / 3)
        rows.append(amplitude * (np.cos(angle) + 0.02 * np.cos(5 * angle) + 0.01 * np.cos(7 * angle)))
    return np.asarray(rows + rng.normal(0, 0.1, (3, t.size)), dtype=np.float32)


def insert_signals(engine: Engine, n: int, *, equipment: str = "M1", **changes: Any) -> list[UUID]:
    """`n` pending signals an hour apart; `changes` overrides columns of each. Ids depend on equipment and number."""
    phases = changes.pop("phases", None)
    ids = [uuid5(NAMESPACE, f"{equipment}:{i}") for i in range(n)]
    with engine.begin() as conn:
        values = {"id": uuid5(NAMESPACE, equipment), "name": equipment}
        conn.execute(upsert(Equipment).values(values).on_conflict_do_nothing())
        equipment_id = conn.execute(select(Equipment.id).where(Equipment.name == equipment)).scalar_one()
        rows = []
        for i, signal_id in enumerate(ids):
            samples = recording(seed=i) if phases is None else phases
            blobs = [codec.encode(row) for row in samples]
            rows.append(
                {
                    "id": signal_id,
                    "equipment_id": equipment_id,
                    "sample_rate_hz": FS,
                    "recorded_at": MIDNIGHT + timedelta(hours=i),
                    "samples_count": samples.shape[1],
                    **{f"phase_{p}": blob for p, blob in zip("abc", blobs, strict=True)},
                    **{f"crc32_{p}": codec.checksum(blob) for p, blob in zip("abc", blobs, strict=True)},
                    **changes,
                }
            )
        conn.execute(insert(RawSignal), rows)
    return ids


def statuses(engine: Engine) -> dict[UUID, str]:
    """The status of every signal."""
    with engine.connect() as conn:
        return {row.id: row.processing_status for row in conn.execute(text("SELECT * FROM raw_signals"))}


def failures(engine: Engine) -> dict[UUID, str]:
    """The reason of every failed signal."""
    with engine.connect() as conn:
        rows = conn.execute(
            text("SELECT id, meta -> 'failure' ->> 'reason' AS r FROM raw_signals WHERE processing_status = 'failed'")
        )
        return {row.id: row.r for row in rows}


def count(engine: Engine, table: str) -> int:
    with engine.connect() as conn:
        return int(conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def features_hash(engine: Engine) -> str:
    """One hash over all features, identity numbers left out."""
    query = """
        SELECT md5(string_agg(md5((to_jsonb(f) - 'id')::text), '' ORDER BY f.raw_id, f.window_start)) FROM features AS f
    """
    with engine.connect() as conn:
        return str(conn.execute(text(query)).scalar_one())


def change(engine: Engine, statement: str, **parameters: Any) -> int:
    """Run one statement of the test's own; returns how many rows it changed."""
    with engine.begin() as conn:
        return conn.execute(text(statement), parameters).rowcount


def value(engine: Engine, query: str, **parameters: Any) -> Any:
    """The one value that a query gives."""
    with engine.connect() as conn:
        return conn.execute(text(query), parameters).scalar_one()


def row(engine: Engine, signal_id: UUID) -> Any:
    """The whole row of a signal, and whether its lease runs (`is_live`) on the database's clock."""
    query = "SELECT *, coalesce(lease_expires_at >= now(), false) AS is_live FROM raw_signals WHERE id = :id"
    with engine.connect() as conn:
        return conn.execute(text(query), {"id": signal_id}).one()


def expire(engine: Engine, signal_ids: Sequence[UUID] | None = None) -> None:
    """As if the time of these leases (default: all) had passed while their worker was dead."""
    where = "lease_expires_at IS NOT NULL" if signal_ids is None else "id = ANY(:ids)"
    statement = f"UPDATE raw_signals SET lease_expires_at = now() - interval '1 second' WHERE {where}"
    change(engine, statement, **({} if signal_ids is None else {"ids": list(signal_ids)}))


def steal(engine: Engine, signal_ids: Sequence[UUID]) -> None:
    """As if the lease had run out and another worker had claimed the signals."""
    change(
        engine,
        "UPDATE raw_signals SET claim_token = gen_random_uuid(), claimed_by = 'thief', "
        "lease_expires_at = now() + interval '1 hour' WHERE id = ANY(:ids)",
        ids=list(signal_ids),
    )


def failure(engine: Engine, signal_id: UUID) -> dict[str, str]:
    """`meta.failure` of a signal."""
    found: dict[str, str] = row(engine, signal_id).meta["failure"]
    return found


def totals(engine: Engine) -> dict[str, int]:
    """All counters by name."""
    with engine.connect() as conn:
        return counters.totals(conn)


EFFORT = {"claims_total", "reclaims_total", "stale_writes_refused_total"}
"""What differs when the same is done by more workers, or by some that are killed on the way."""


def achievements(engine: Engine) -> dict[str, int]:
    """The counters of what was done, however often it was tried."""
    return {name: n for name, n in totals(engine).items() if name not in EFFORT}
