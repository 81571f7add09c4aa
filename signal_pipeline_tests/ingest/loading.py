"""Recordings to load, and what the database holds afterwards. Not here: tests."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

from signal_pipeline.db.ids import signal_id
from signal_pipeline.db.signals import load_signal
from signal_pipeline.ingest.csv_reader import sha256_of
from signal_pipeline.ingest.load_report import FileReport
from signal_pipeline.ingest.loader import LoadOptions, load_files
from signal_pipeline.ingest.recorded_at import recorded_at
from signal_pipeline.ingest.sources import check_source
from signal_pipeline.processing.load import Recording, load_recording
from signal_pipeline.settings import FeatureSettings, IngestSettings
from signal_pipeline_tests.db.rows import change

HEADER: Final = "current_R,current_S,current_T\n"
FS: Final = 1000.0
WINDOW: Final = 100
HOP: Final = 50
FEATURES: Final = FeatureSettings(window_ms=100, window_overlap=0.5)  # WINDOW and HOP at FS


def samples_of(n_rows: int, *, seed: int = 0, missing: float = 0.0) -> NDArray[np.float32]:
    """Noise of shape (3, n_rows), of which a share is `missing` (NaN)."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(3, n_rows)).astype(np.float32)
    samples[rng.random(samples.shape) < missing] = np.nan
    return samples


def csv_of(samples: NDArray[np.float32], *, header: str = HEADER) -> str:
    """`samples` (3, n) as text that gives the same float32 again; NaN as an empty cell."""
    rows = samples.T.astype(np.float64).tolist()
    return header + "".join(",".join("" if math.isnan(cell) else repr(cell) for cell in row) + "\n" for row in rows)


def load(
    engine: Engine,
    *paths: Path,
    settings: IngestSettings | None = None,
    sample_rate_hz: float | None = FS,
    **options: Any,
) -> list[FileReport]:
    return list(
        load_files(
            engine,
            paths,
            options=LoadOptions(sample_rate_hz=sample_rate_hz, **options),
            settings=settings or IngestSettings(),
            features=FEATURES,
        )
    )


def load_one(engine: Engine, path: Path, **options: Any) -> FileReport:
    (report,) = load(engine, path, **options)
    return report


def signals(engine: Engine) -> list[Any]:
    """All rows of `raw_signals`, by file and place in it."""
    with engine.connect() as conn:
        return list(conn.execute(text("SELECT * FROM raw_signals ORDER BY file_name, first_row")))


def file_sources(engine: Engine) -> list[Any]:
    with engine.connect() as conn:
        return list(conn.execute(text("SELECT * FROM sources ORDER BY path")))


def read_back(engine: Engine, wanted: UUID, settings: IngestSettings | None = None) -> Recording:
    """The recording as the work on this signal sees it."""
    with engine.connect() as conn:
        signal = load_signal(conn, wanted)
    return load_recording(signal, settings or IngestSettings())


def fail(engine: Engine, wanted: UUID) -> None:
    """As if the work on this signal had failed."""
    lease = "claim_token = gen_random_uuid(), claimed_by = 'test', lease_expires_at = now()"
    nobody = "claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL"
    change(engine, f"UPDATE raw_signals SET processing_status = 'processing', {lease} WHERE id = :id", id=wanted)
    change(engine, f"UPDATE raw_signals SET processing_status = 'failed', {nobody} WHERE id = :id", id=wanted)


def id_of(path: Path, batch_index: int) -> UUID:
    """The id that this batch of a file will have, whose time is that of its name or its modification."""
    found = check_source(path, data_roots=(), max_bytes=2**40)
    return signal_id(sha256_of(path), batch_index, recorded_at(found).at)


@contextmanager
def stuck_at_batch(engine: Engine, path: Path, batch_index: int) -> Iterator[Connection]:
    """Whoever loads this file now waits in the middle of its transaction, before this batch, until the block ends.

    Another transaction has inserted the batch's id, and has not decided yet: the loader must wait for it.
    """
    with engine.connect() as conn, conn.begin() as transaction:
        equipment = conn.execute(text("SELECT gen_random_uuid()")).scalar_one()
        conn.execute(text("INSERT INTO equipment (id, name) VALUES (:id, 'a stumbling block')"), {"id": equipment})
        conn.execute(
            text("INSERT INTO raw_signals (id, equipment_id, first_row) VALUES (:id, :equipment, 0)"),
            {"id": id_of(path, batch_index), "equipment": equipment},
        )
        yield conn
        transaction.rollback()


def wait_for_stuck(engine: Engine, *, n: int = 1, event: str = "transactionid") -> Sequence[int]:
    """The process ids of the `n` backends of this database that wait for such a lock, as soon as there are as many."""
    waiting = text("""
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = :event
    """)
    for _ in range(1500):
        with engine.connect() as conn:
            pids = conn.execute(waiting, {"event": event}).scalars().all()
        if len(pids) == n:
            return pids
        time.sleep(0.02)
    raise TimeoutError(f"after half a minute {len(pids)} and not {n} backends wait for a {event} lock")


def wait_until_gone(engine: Engine, pid: int) -> None:
    """Until the server has noticed that this backend's client is dead, and has rolled its transaction back."""
    for _ in range(1500):
        with engine.connect() as conn:
            there = conn.execute(text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid})
            if not there.scalar_one():
                return
        time.sleep(0.02)
    raise TimeoutError(f"backend {pid} is still there after half a minute")
