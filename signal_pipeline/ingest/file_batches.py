"""One file's batches as rows: read, encoded and inserted one after the other, in memory that a batch bounds.

Here: the file's window grid, a batch's blobs, and what `meta` says of where it came from. Not here: transactions, and
what becomes of a file that cannot be stored (`loader`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from signal_pipeline.db import sources
from signal_pipeline.db.sources import NewFile, NewSignal
from signal_pipeline.domain import PHASES, FailureReason
from signal_pipeline.dsp.validation import check_sample_rate
from signal_pipeline.dsp.windows import WindowGrid, rows_per_batch
from signal_pipeline.errors import CSVLoaderError, ValidationFailed
from signal_pipeline.ingest import codec
from signal_pipeline.ingest.csv_reader import CsvBatch, CsvFacts, read_batches
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.side_by_side import side_by_side
from signal_pipeline.ingest.sources import printable
from signal_pipeline.settings import FeatureSettings

MAX_WINDOW_SAMPLES: Final = 2**24
"""A batch holds up to a window more than its new rows, so the window bounds the memory: 64 MiB a phase."""


@dataclass(frozen=True, slots=True)
class StoredBatches:
    """The rows of one file, in its order, and what is known of the file now."""

    signal_ids: tuple[UUID, ...]
    facts: CsvFacts


def grid_of_rate(fs: float | None, features: FeatureSettings, *, name: str) -> WindowGrid:
    """The window grid at `fs` Hz. Raises `ValidationFailed`, naming the file and the value, for a rate that is none."""
    if fs is None:
        raise ValidationFailed(f"{name}: no sample rate; give it with --sample-rate, in Hz")
    try:
        check_sample_rate(fs)
        grid = WindowGrid.for_rate(fs, window_ms=features.window_ms, overlap=features.window_overlap)
    except (ValidationFailed, ValueError) as error:
        raise ValidationFailed(f"{name}: {error}") from error
    if grid.window_length > MAX_WINDOW_SAMPLES:
        raise ValidationFailed(
            f"{name}: a window of {features.window_ms:g} ms at {fs:g} Hz holds {grid.window_length} samples; at most "
            f"{MAX_WINDOW_SAMPLES} are held in memory: is the rate in hertz? Else lower WINDOW_MS"
        )
    return grid


def store_batches(
    conn: Connection,
    file: NewFile,
    *,
    grid: WindowGrid,
    csv_batch_size: int,
    dialect: CsvDialect,
    recorded_at_source: str,
) -> StoredBatches:
    """Insert every batch of the file, whose source is there already, and then what is known only at its end.

    Raises what reading raises (`csv_reader.BatchReader`), also when the file is no longer the one with `file.sha256`;
    then the caller rolls back what was inserted.
    """
    batch_rows = rows_per_batch(csv_batch_size, grid)
    reader = read_batches(Path(file.path), dialect=dialect, grid=grid, batch_rows=batch_rows)
    signal_ids = tuple(
        [
            sources.insert_signal(conn, file, _as_signal(batch, recorded_at_source=recorded_at_source))
            for batch in reader
        ]
    )
    facts = reader.facts
    if facts.sha256 != file.sha256:
        raise changed(Path(file.path).name)
    sources.finish_file(
        conn,
        file,
        n_rows=facts.n_rows,
        size_bytes=facts.n_bytes,
        dialect=facts.dialect.to_json(),
        batches=len(signal_ids),
        recorded=[phase for phase, has_values in zip(PHASES, facts.column_has_values, strict=True) if has_values],
    )
    return StoredBatches(signal_ids, facts)


def changed(name: str) -> CSVLoaderError:
    """The error for a file whose content is no longer the one that was hashed."""
    return CSVLoaderError(
        f"{printable(name)}: changed while it was loaded; load it when it is complete",
        reason=FailureReason.FILE_CHANGED,
    )


def _as_signal(read: CsvBatch, *, recorded_at_source: str) -> NewSignal:
    batch = read.batch
    blobs = [blob for _, blob in side_by_side(codec.encode, read.samples)]
    return NewSignal(
        batch_index=batch.index,
        first_row=batch.first_row,
        lead_in=batch.lead_in,
        samples_count=batch.n_samples,
        phases=blobs,
        checksums=[codec.checksum(blob) for blob in blobs],
        meta={
            "batch_index": batch.index,
            "batches": 1,  # this and the phases as if the file were one whole batch, until its end is known
            "phases": list(PHASES),
            "byte_offset": read.byte_offset,
            "recorded_at_source": recorded_at_source,
            "source": {"first_row": batch.first_row, "rows": batch.n_rows},
        },
    )
