"""The work on one signal, up to but not including its first write: load, validate, extract, diagnose.

Pure of side effects but reading. Not here: which signals, in how many threads, and storing (`extract`).
"""

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from uuid import UUID

from signal_pipeline.db.claims import Failure
from signal_pipeline.db.diagnostics import StoredDiagnosis
from signal_pipeline.db.features import SignalFeatures, window_time
from signal_pipeline.db.signals import StoredSignal, load_signal
from signal_pipeline.domain import Stage
from signal_pipeline.dsp.extract import FeatureBlock, extract_features
from signal_pipeline.dsp.gaps import max_gap_samples
from signal_pipeline.dsp.validation import ValidationSummary, check_sample_rate, validate_record
from signal_pipeline.dsp.version import feature_version
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline.errors import ValidationFailed
from signal_pipeline.ingest import codec
from signal_pipeline.processing.diagnose import diagnose_loaded
from signal_pipeline.processing.embed import embed_windows
from signal_pipeline.processing.load import Recording, load_recording
from signal_pipeline.processing.worker import Worker, retrying
from signal_pipeline.settings import FeatureSettings


@dataclass(slots=True)
class Progress:
    """Where the work on a signal stands, and how long each stage took (s)."""

    stage: Stage = Stage.LOAD
    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=perf_counter)

    def enter(self, stage: Stage) -> None:
        now = perf_counter()
        self.seconds[self.stage.value] = round(now - self._since, 6)
        self.stage, self._since = stage, now


@dataclass(frozen=True, slots=True)
class Validated:
    """A signal whose samples are those of a measurement, on its window grid."""

    signal: StoredSignal
    recording: Recording
    grid: WindowGrid
    max_gap_samples: int
    summary: ValidationSummary

    @property
    def windows(self) -> range:
        """Numbers of the windows that this signal owns on its file's grid."""
        return self.grid.owned(self.signal.first_row, self.recording.n_samples - self.signal.lead_in)


@dataclass(frozen=True, slots=True)
class Extracted:
    """One signal's features, not stored yet; what goes into `meta`; and what people are shown.

    `backfilled` samples come from the signal's CSV and are to be kept; `diagnosis` only if it was asked for, and if the
    signal is a record by itself.
    """

    features: SignalFeatures
    meta: dict[str, Any]
    details: dict[str, Any]
    backfilled: "Backfilled | None"
    diagnosis: StoredDiagnosis | Failure | None

    @property
    def n_bytes(self) -> int:
        """What it holds while it waits to be stored: its samples, and its features."""
        samples = sum(len(blob or b"") for blob in self.backfilled.blobs) if self.backfilled is not None else 0
        embedding = self.features.embedding
        return samples + self.features.values.nbytes + (embedding.nbytes if embedding is not None else 0)


@dataclass(frozen=True, slots=True)
class Backfilled:
    """Samples as they are stored, phases (a, b, c): blobs wait for their transaction in a third of the memory."""

    blobs: tuple[bytes | None, ...]
    samples_count: int

    @classmethod
    def of(cls, recording: Recording) -> "Backfilled":
        rows = zip(recording.phases, recording.present, strict=True)
        return cls(tuple(codec.encode(row) if there else None for row, there in rows), recording.n_samples)


def validate_signal(worker: Worker, signal_id: UUID, progress: Progress) -> Validated:
    """Load and validate. Raises a `SignalError` that says what is wrong, and where."""
    signal = retrying(lambda: _load_row(worker, signal_id))
    _check_start(signal)
    recording = load_recording(signal, worker.settings.ingest)
    progress.enter(Stage.VALIDATE)
    grid = _grid(signal, worker.settings.features)
    _check_end(signal, grid, n_samples=recording.n_samples)
    _check_lead_in(signal, grid, n_samples=recording.n_samples)
    max_gap = max_gap_samples(grid.fs, worker.settings.features.max_gap_ms)
    summary = validate_record(
        recording.phases,
        fs=grid.fs,
        present=recording.present,
        record_rows=recording.record_rows,
        grid=grid,
        max_gap_samples=max_gap,
        whole=recording.whole,
    )
    return Validated(signal, recording, grid, max_gap, summary)


def extract_signal(
    worker: Worker, signal_id: UUID, progress: Progress, *, with_diagnosis: bool = False, threads: int = 1
) -> Extracted:
    """Load, validate and extract in so many threads, and diagnose while the samples are there.

    Raises a `SignalError` that says what is wrong, and where.
    """
    valid = validate_signal(worker, signal_id, progress)
    progress.enter(Stage.EXTRACT)
    found, block, embedding = _features(worker, valid, threads)
    diagnosis = None
    if with_diagnosis and valid.recording.whole:
        progress.enter(Stage.DIAGNOSE)
        diagnosis = diagnose_loaded(worker, valid.signal, valid.recording)
    progress.enter(Stage.STORE)
    kept = valid.recording.from_csv and worker.settings.ingest.retain_raw_signals
    backfilled = Backfilled.of(valid.recording) if kept else None
    meta = _meta(valid, block, found, embedding=embedding)
    return Extracted(found, meta, _details(valid, block, progress), backfilled, diagnosis)


def _features(worker: Worker, valid: Validated, threads: int) -> tuple[SignalFeatures, FeatureBlock, str | None]:
    """The signal's features, where they come from, and the version of their embedding."""
    block = extract_features(
        valid.recording.phases,
        grid=valid.grid,
        start_row=valid.recording.start_row,
        windows=valid.windows,
        present=valid.recording.present,
        max_gap_samples=valid.max_gap_samples,
        bands_hz=worker.settings.features.feature_bands_hz,
        workers=threads,
    )
    version = current_version(worker.settings.features)
    vectors, embedding = embed_windows(block.values, feature_version=version, settings=worker.settings.models)
    found = SignalFeatures(
        raw_id=valid.signal.id,
        equipment_id=valid.signal.equipment_id,
        feature_version=version,
        window_starts=[window_time(valid.signal.recorded_at, int(row), valid.grid.fs) for row in block.start_rows],
        values=block.values,
        null_reasons=block.null_reasons,
        embedding=vectors,
    )
    return found, block, embedding


def _details(valid: Validated, block: FeatureBlock, progress: Progress) -> dict[str, Any]:
    return {
        "windows": len(block.window_numbers),
        "windows_skipped": len(block.skipped),
        "samples": valid.recording.n_samples,
        "sample_rate_hz": valid.grid.fs,
        "seconds": dict(progress.seconds),
    }


def _meta(valid: Validated, block: FeatureBlock, found: SignalFeatures, *, embedding: str | None) -> dict[str, Any]:
    windows = len(found.window_starts)
    return {
        "validation": valid.summary.with_skipped(block.skipped).as_dict(),
        "features": {"version": found.feature_version, "windows": windows, "embedding": embedding},
    }


def _load_row(worker: Worker, signal_id: UUID) -> StoredSignal:
    with worker.engine.connect() as conn:
        return load_signal(conn, signal_id)


def _grid(signal: StoredSignal, settings: FeatureSettings) -> WindowGrid:
    """The signal's window grid. Raises `ValidationFailed` for a sample rate that is none."""
    fs = signal.sample_rate_hz
    if fs is None:
        raise ValidationFailed("sample_rate_hz is not set. Load the file with --sample-rate, in Hz.")
    check_sample_rate(fs)
    try:
        return WindowGrid.for_rate(fs, window_ms=settings.window_ms, overlap=settings.window_overlap)
    except ValueError as error:
        raise ValidationFailed(f"sample_rate_hz: {error}") from error


def _check_start(signal: StoredSignal) -> None:
    """A time in the future would make everything that its motor sends until then late (docs/decisions/0106)."""
    if signal.recorded_at > signal.latest:
        raise ValidationFailed(
            f"recorded_at is {signal.recorded_at.isoformat()}, in the future: the database's clock says "
            f"{signal.read_at.isoformat(timespec='seconds')}; set the time of the record"
        )


def _check_end(signal: StoredSignal, grid: WindowGrid, *, n_samples: int) -> None:
    """The same of the signal's last row, which lies later: a file of days that is dated today, or a senseless place."""
    last_row = signal.first_row - signal.lead_in + n_samples
    if last_row / grid.fs > (signal.latest - signal.recorded_at).total_seconds():
        raise ValidationFailed(
            f"row {last_row} at {grid.fs:g} Hz, in a record that begins at {signal.recorded_at.isoformat()}, lies in "
            f"the future: the database's clock says {signal.read_at.isoformat(timespec='seconds')}; set the time of "
            "the record, or its rate"
        )


def _check_lead_in(signal: StoredSignal, grid: WindowGrid, *, n_samples: int) -> None:
    """A batch of a split file holds the rows before it that the windows of its day needed, and no more."""
    if signal.lead_in > n_samples:
        raise ValidationFailed(f"lead_in={signal.lead_in} rows of a signal that holds {n_samples} samples")
    needed = min(signal.first_row, grid.window_length - 1)
    if signal.lead_in < needed:
        raise ValidationFailed(
            f"this batch was loaded for windows of at most {signal.lead_in + 1} samples, and WINDOW_MS now asks for "
            f"{grid.window_length}: set it back, or ingest the file again"
        )


def current_version(settings: FeatureSettings) -> str:
    """The `feature_version` of what these settings compute."""
    return feature_version(
        window_ms=settings.window_ms,
        overlap=settings.window_overlap,
        max_gap_ms=settings.max_gap_ms,
        bands_hz=settings.feature_bands_hz,
    )
