"""A signal's samples: from its blobs, or read again from its CSV when the row holds none.

Not here: judging the samples (`dsp.validation`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.db.signals import StoredSignal
from signal_pipeline.domain import PHASES, FailureReason, RejectionReason
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline.errors import CorruptBlob, CSVLoaderError, FileRejected, SettingsError
from signal_pipeline.ingest import codec
from signal_pipeline.ingest.csv_reader import read_batches, read_rows, sha256_of
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.sources import check_source
from signal_pipeline.settings import IngestSettings

MAX_ROWS = 32 * 1024 * 1024
"""Of a CSV that is read whole; 128 MiB a phase."""

MAX_SAMPLES = 48 * 1024 * 1024
"""Of a row with blobs: the largest CSV_BATCH_SIZE and the largest window before it; 192 MiB a phase."""

FAILURES = {
    RejectionReason.NOT_FOUND: FailureReason.FILE_MISSING,
    RejectionReason.TOO_LARGE: FailureReason.TOO_LARGE,
}


@dataclass(frozen=True, slots=True)
class Recording:
    """Samples of one signal.

    `phases` float32 (3, n_samples), amperes, NaN where a sample is missing; `present`, which phases were recorded at
    all; `start_row`, the file's row of the first sample; `record_rows`, how many rows the whole file has.
    """

    phases: NDArray[np.float32]
    present: tuple[bool, bool, bool]
    start_row: int
    record_rows: int
    from_csv: bool

    @property
    def n_samples(self) -> int:
        return int(self.phases.shape[1])

    @property
    def whole(self) -> bool:
        """Whether this is the whole record, not a batch of a split one."""
        return self.n_samples == self.record_rows


def load_recording(signal: StoredSignal, settings: IngestSettings) -> Recording:
    """The signal's samples. Raises `CorruptBlob` or `CSVLoaderError`, each naming what is wrong and where."""
    if signal.has_samples:
        phases = _decode(signal)
        present = tuple(blob is not None for blob in signal.phases)
    else:
        phases = _read_again(signal, settings)
        recorded = signal.meta.get("phases")
        present = tuple(
            p in recorded if recorded is not None else not bool(np.isnan(phases[i]).all()) for i, p in enumerate(PHASES)
        )
    start_row = signal.first_row - signal.lead_in
    # A file whose content was bad has a source without rows: nobody could count them then.
    known_rows = signal.source.n_rows if signal.source else 0
    record_rows = known_rows or start_row + phases.shape[1]
    return Recording(
        phases,
        present=(present[0], present[1], present[2]),
        start_row=start_row,
        record_rows=record_rows,
        from_csv=not signal.has_samples,
    )


def _decode(signal: StoredSignal) -> NDArray[np.float32]:
    if signal.samples_count is None:
        raise CorruptBlob("samples_count is not set: without it a blob's size cannot be checked before it is unpacked")
    if signal.samples_count > MAX_SAMPLES:
        raise CorruptBlob(
            f"the row claims {signal.samples_count} samples; at most {MAX_SAMPLES} are held in memory: split it",
            reason=FailureReason.TOO_LARGE,
        )
    phases = np.full((len(PHASES), max(0, signal.samples_count)), np.nan, dtype=np.float32)
    for i, (name, blob, crc32) in enumerate(zip(PHASES, signal.phases, signal.checksums, strict=True)):
        if blob is None:
            continue
        try:
            phases[i] = codec.decode(blob, samples_count=signal.samples_count, crc32=crc32)
        except CorruptBlob as error:
            raise CorruptBlob(f"phase_{name}: {error}") from error
    return phases


def _read_again(signal: StoredSignal, settings: IngestSettings) -> NDArray[np.float32]:
    """The signal's rows of its CSV, refused if the file is gone or is not the one that was loaded.

    Every opening looks again whether the path leads to a file without a link on the way (`open_csv`), so what is put
    in its place after the check is not read either.
    """
    try:
        return _rows_of_csv(signal, settings)
    except FileRejected as error:
        reason = FAILURES.get(error.reason, FailureReason.CSV_ERROR)
        raise CSVLoaderError(str(error), reason=reason) from error


def _rows_of_csv(signal: StoredSignal, settings: IngestSettings) -> NDArray[np.float32]:
    name = signal.source.path if signal.source else signal.file_name
    if name is None:
        raise CSVLoaderError(
            "no samples and no file name: nothing to process. Store phase_a/b/c, or name a CSV in file_name.",
            reason=FailureReason.FILE_MISSING,
        )
    start_row = _checked_start(signal)
    dialect = _stored_dialect(signal)
    byte_offset = _checked_offset(signal)
    path = _checked(Path(name), signal.source.sha256 if signal.source else signal.file_hash, settings)
    if signal.source is None or signal.samples_count is None or byte_offset is None:
        return _read_whole(path, signal, dialect)
    return read_rows(path, dialect=dialect, start_row=start_row, n_rows=signal.samples_count, byte_offset=byte_offset)


def _checked_start(signal: StoredSignal) -> int:
    """The file's row of the first sample, if there can be as many as are claimed. Others may have written them."""
    start, n = signal.first_row - signal.lead_in, signal.samples_count
    if n is not None and n < 1:
        raise CSVLoaderError(f"the row claims {n} samples; at least 1 is read from its file")
    if n is not None and n > MAX_SAMPLES:
        raise CSVLoaderError(
            f"the row claims {n} samples; at most {MAX_SAMPLES} are held in memory: split it",
            reason=FailureReason.TOO_LARGE,
        )
    return start


def _checked_offset(signal: StoredSignal) -> int | None:
    """Where the first row begins in the file, in bytes; None where nobody noted it."""
    offset = signal.meta.get("byte_offset")
    if offset is None or (type(offset) is int and 0 <= offset < 2**63):
        return offset
    raise CSVLoaderError(f"meta.byte_offset is {str(offset)[:40]!r}; it is a number of bytes")


def _stored_dialect(signal: StoredSignal) -> CsvDialect:
    if signal.source is None:
        return CsvDialect()
    try:
        return CsvDialect.from_json(signal.source.dialect)
    except (ValueError, SettingsError) as error:
        raise CSVLoaderError(f"how its file is to be read is not known any more: {error}") from error


def _checked(path: Path, sha256: str | None, settings: IngestSettings) -> Path:
    """The resolved path, if the file may be read and still is the one that was loaded."""
    source = check_source(path, data_roots=settings.data_roots, max_bytes=settings.csv_max_bytes)
    if sha256 is not None and sha256_of(source.path) != sha256:
        raise CSVLoaderError(
            f"{source.name} has changed since it was loaded (its SHA-256 was {sha256[:12]}…). "
            "Put the old file back, or ingest the new one.",
            reason=FailureReason.FILE_CHANGED,
        )
    return source.path


def _read_whole(path: Path, signal: StoredSignal, dialect: CsvDialect) -> NDArray[np.float32]:
    """All rows of a CSV that another program registered by name only, or that could not be read when it was loaded."""
    any_grid = WindowGrid(1.0, window_length=2, hop_length=1)
    batches = iter(read_batches(path, dialect=dialect, grid=any_grid, batch_rows=MAX_ROWS))
    samples = next(batches).samples
    if next(batches, None) is not None:
        raise CSVLoaderError(
            f"more than {MAX_ROWS} rows in one signal; load it with `signal-pipeline ingest`, which splits it",
            reason=FailureReason.TOO_LARGE,
        )
    start = _checked_start(signal)
    end = samples.shape[1] if signal.samples_count is None else start + signal.samples_count
    if end > samples.shape[1]:
        raise CSVLoaderError(
            f"the row promises rows {start + 1} to {end}, the file has {samples.shape[1]}",
            reason=FailureReason.FILE_CHANGED,
        )
    return np.ascontiguousarray(samples[:, start:end])
