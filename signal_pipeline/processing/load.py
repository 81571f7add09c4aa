"""A signal's samples: from its blobs, or read again from its CSV when the row holds none.

Not here: judging the samples (`dsp.validation`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.db.signals import StoredSignal
from signal_pipeline.domain import PHASES, FailureReason
from signal_pipeline.errors import CorruptBlob, CSVLoaderError, FileRejected
from signal_pipeline.ingest import codec
from signal_pipeline.ingest.csv_reader import read_rows, sha256_of
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.sources import check_readable
from signal_pipeline.settings import IngestSettings


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
    record_rows = signal.source.n_rows if signal.source else start_row + phases.shape[1]
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
    phases = np.full((len(PHASES), signal.samples_count), np.nan, dtype=np.float32)
    for i, (name, blob, expected) in enumerate(zip(PHASES, signal.phases, signal.checksums, strict=True)):
        if blob is None:
            continue
        found = codec.checksum(blob)
        if expected is not None and found != expected:
            raise CorruptBlob(f"phase_{name}: CRC32 is {found:#010x}, the row says {expected:#010x}")
        try:
            phases[i] = codec.decode(blob, samples_count=signal.samples_count)
        except CorruptBlob as error:
            raise CorruptBlob(f"phase_{name}: {error}") from error
    return phases


def _read_again(signal: StoredSignal, settings: IngestSettings) -> NDArray[np.float32]:
    """The signal's rows of its CSV, refused if the file is gone or is not the one that was loaded."""
    name = signal.source.path if signal.source else signal.file_name
    if name is None:
        raise CSVLoaderError(
            "no samples and no file name: nothing to process. Store phase_a/b/c, or name a CSV in file_name.",
            reason=FailureReason.FILE_MISSING,
        )
    path = Path(name)
    try:
        check_readable(path, data_roots=settings.data_roots, max_bytes=settings.csv_max_bytes)
    except FileRejected as error:
        reason = FailureReason.TOO_LARGE if error.reason == "too_large" else FailureReason.FILE_MISSING
        raise CSVLoaderError(str(error), reason=reason) from error
    expected = signal.source.sha256 if signal.source else signal.file_hash
    if expected is not None and sha256_of(path) != expected:
        raise CSVLoaderError(
            f"{path.name} has changed since it was loaded (SHA-256 is not {expected[:12]}…). "
            "Put the old file back, or ingest the new one.",
            reason=FailureReason.FILE_CHANGED,
        )
    dialect = CsvDialect.from_json(signal.source.dialect) if signal.source else CsvDialect()
    return read_rows(
        path,
        dialect=dialect,
        start_row=signal.first_row - signal.lead_in,
        n_rows=signal.samples_count,
        byte_offset=signal.meta.get("byte_offset"),
    )
