"""From a CSV to features in Postgres, against the bare sum of its parts.

    python benchmarks/ingest.py [--rows 1500000] [--fs 25600] [--runs 5]

Ours: `load_files`, a claim, and `run_batch` (validation, all features, hours, diagnosis without a plate, completion),
in one process, into an empty database, until the signal is completed. The parts, on the same file and server, in the
same run: pyarrow parses the CSV; scipy's bare float32 rfft of the same windows; binary COPY of the same bytes
(compressed phases and feature rows) into tables without an index. Interleaved, medians. Not in the parts: SHA-256,
compression, validation, every feature, the hourly summary, all constraints and the states of the queue.
"""

import argparse
import io
import json
import struct
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pyarrow import csv
from sqlalchemy import Engine, text

from benchmarks.measuring import connect
from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.db import copy_binary, migrate
from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.embedded import embedded_server
from signal_pipeline.db.engine import create_engine
from signal_pipeline.dsp.warm_up import warm_up
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline.ingest import codec
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.loader import LoadOptions, load_files
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings
from signal_pipeline.synthetic import Condition, Motor, simulate
from signal_pipeline.synthetic.fleet import csv_bytes

COPY_FEATURES = f"COPY bare_features (window_start, {', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)"
COPY_PHASES = "COPY bare_phases (a, b, c) FROM STDIN (FORMAT binary)"


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(engine: Engine, settings: Settings, path: Path, fs: float) -> dict[str, float]:
    """Seconds of loading and of processing one file."""
    with engine.begin() as conn:
        conn.execute(text("TRUNCATE raw_signals, sources, features, hourly_feature_summary, equipment CASCADE"))
    at = datetime(2025, 8, 25, tzinfo=UTC)
    options = LoadOptions(sample_rate_hz=fs, recorded_at=at, equipment="pump", dialect=CsvDialect())
    worker = Worker(engine, settings, "benchmark")

    def load() -> None:
        list(load_files(engine, [path], options=options, settings=settings.ingest, features=settings.features))

    def process() -> None:
        for claim in claim_pending(engine, settings=settings.claims, claimed_by="benchmark").claims:
            run_batch(worker, Batch(claim.token, claim.signal_ids))

    found = {"load": seconds(load), "process": seconds(process)}
    with engine.connect() as conn:
        states = conn.execute(text("SELECT DISTINCT processing_status FROM raw_signals")).scalars().all()
    if states != ["completed"]:
        raise RuntimeError(f"the file ended as {states}, not completed")
    return found


def bare_rfft(phases: NDArray[np.float32], grid: WindowGrid) -> None:
    """Eight windows a call, the size at which it is fastest."""
    windows = np.lib.stride_tricks.sliding_window_view(phases, grid.window_length, axis=1)[:, :: grid.hop_length]
    for first in range(0, windows.shape[1], 8):
        scipy.fft.rfft(windows[:, first : first + 8], axis=-1)


def bare_copy(url: str, phases: list[bytes], features: bytes) -> None:
    """The same bytes into tables with nothing to check."""
    body = io.BytesIO()
    body.write(copy_binary.SIGNATURE + struct.pack("!h", 3))
    for blob in phases:
        body.write(copy_binary.field(blob))
    body.write(copy_binary.TRAILER)
    with connect(url) as conn, conn.transaction(), conn.cursor() as cursor:
        for statement, content in ((COPY_PHASES, body.getvalue()), (COPY_FEATURES, features)):
            with cursor.copy(statement) as copy:
                copy.write(content)


def feature_bytes(n_windows: int) -> bytes:
    values = np.random.default_rng(0).normal(size=(n_windows, len(COLUMNS)))
    prefix = [copy_binary.field(copy_binary.timestamp(datetime(2025, 8, 25, tzinfo=UTC)))] * n_windows
    return copy_binary.encode_rows(prefix, values, n_fields=1 + len(COLUMNS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--fs", type=float, default=25_600.0)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    settings = Settings()
    configure_logging(settings.app, default_level="ERROR")
    grid = WindowGrid.for_rate(
        arguments.fs, window_ms=settings.features.window_ms, overlap=settings.features.window_overlap
    )
    with tempfile.TemporaryDirectory(prefix="signal_pipeline-ingest-") as folder:
        Path(folder).chmod(0o711)
        phases = simulate(Motor(), Condition(), fs=arguments.fs, seconds=arguments.rows / arguments.fs, seed=0)
        path = Path(folder) / "recording.csv"
        path.write_bytes(csv_bytes(phases))
        with embedded_server(Path(folder) / "home") as url:
            migrate.upgrade(url)
            warm_up()
            engine = create_engine(url, settings.database)
            result = measure(engine, url, settings, path, phases=phases, grid=grid, runs=arguments.runs)
            engine.dispose()
    print(json.dumps(result | {"rows": arguments.rows, "fs": arguments.fs, "runs": arguments.runs}))


def measure(
    engine: Engine,
    url: str,
    settings: Settings,
    path: Path,
    *,
    phases: NDArray[np.float32],
    grid: WindowGrid,
    runs: int,
) -> dict[str, object]:
    """Medians over interleaved runs, the first of each thrown away."""
    features = feature_bytes(grid.n_windows(phases.shape[1]))
    blobs = [codec.encode(row) for row in phases]
    with connect(url) as conn:
        conn.execute(
            f"CREATE TABLE bare_features (window_start timestamptz, {', '.join(f'{c} float8' for c in COLUMNS)})"
        )
        conn.execute("CREATE TABLE bare_phases (a bytea, b bytea, c bytea)")
    own: list[dict[str, float]] = []
    parts: list[dict[str, float]] = []
    for run in range(runs + 1):
        one = ours(engine, settings, path, grid.fs)
        with connect(url) as conn:
            conn.execute("TRUNCATE bare_features, bare_phases")
        bare = {
            "parse": seconds(lambda: csv.read_csv(path)),
            "rfft": seconds(lambda: bare_rfft(phases, grid)),
            "copy": seconds(lambda: bare_copy(url, blobs, features)),
        }
        print(f"run {run}: ours {one}, parts {bare}")
        if run:
            own.append(one)
            parts.append(bare)
    total, limit = median(sum(o.values()) for o in own), median(sum(p.values()) for p in parts)
    return {
        "ratio": round(total / limit, 3),
        "seconds": round(total, 3),
        "ours": {name: round(median(o[name] for o in own), 3) for name in own[0]},
        "parts": {name: round(median(p[name] for p in parts), 3) for name in parts[0]},
        "samples_per_second": round(phases.size / total),
    }


if __name__ == "__main__":
    main()
