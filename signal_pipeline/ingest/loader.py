"""CSV files to rows of `raw_signals`: one transaction a file, one report a file.

Here: the order of things, and what a bad file gets. Not here: reading a CSV (`csv_reader`), the SQL (`db.sources`), or
judging samples, which is the work's (a recording that is too short is loaded, and fails there).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Final, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from signal_pipeline.db import counters, sources
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.engine import is_transient, wrapped
from signal_pipeline.db.sources import NewFile, NewSignal
from signal_pipeline.domain import PHASES, FailureReason, RejectionReason, Stage
from signal_pipeline.dsp.validation import check_sample_rate
from signal_pipeline.dsp.windows import WindowGrid, rows_per_batch
from signal_pipeline.errors import CSVLoaderError, FileRejected, SettingsError, SignalError, ValidationFailed
from signal_pipeline.ingest import codec
from signal_pipeline.ingest.csv_reader import CsvBatch, read_batches, sha256_of
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.load_report import FileOutcome, FileReport, report_known
from signal_pipeline.ingest.recorded_at import RecordedAt, recorded_at
from signal_pipeline.ingest.sources import CsvSource, Discovery, discover, equipment_of, printable
from signal_pipeline.settings import FeatureSettings, IngestSettings

log = structlog.get_logger(__name__)

T = TypeVar("T")

ATTEMPTS: Final = 15
"""At one file's transaction, while the database blips: at least half a minute of patience on average."""

MAX_WINDOW_SAMPLES: Final = 2**24
"""A batch holds a window more than its new rows, so the window bounds the memory: 64 MiB a phase."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What a person says about the files. `recorded_at` is for one file; `times` by file name; a rate in Hz."""

    equipment: str | None = None
    sample_rate_hz: float | None = None
    recorded_at: datetime | None = None
    times: Mapping[str, datetime] | None = None
    dialect: CsvDialect = CsvDialect()


def load_files(
    engine: Engine,
    paths: Sequence[Path],
    *,
    options: LoadOptions,
    settings: IngestSettings,
    features: FeatureSettings,
) -> Iterator[FileReport]:
    """Load the CSVs among and below `paths`; the reports come as the files are done, rejected ones first.

    Whatever is wrong with a file stands in its report, and the next one is loaded. Raises `SettingsError` for options
    that cannot work, before any file is loaded, and `DatabaseUnavailable` when the database stays away.
    """
    found = discover(paths, data_roots=settings.data_roots, max_bytes=settings.csv_max_bytes)
    if options.recorded_at is not None and len(found.sources) > 1:
        raise SettingsError(
            f"--recorded-at is the time of one file, and {len(found.sources)} were named; use --times for several"
        )
    return _reports(_Loader(engine, options, settings, features), found)


def _reports(loader: "_Loader", found: Discovery) -> Iterator[FileReport]:
    for rejection in found.rejections:
        yield _told(FileReport(rejection.name, FileOutcome.REJECTED, rejection.reason, rejection.message))
    for source in found.sources:
        started = perf_counter()
        report = loader.load(source)
        yield _told(replace(report, seconds=perf_counter() - started))


def _told(report: FileReport) -> FileReport:
    bad = report.outcome in (FileOutcome.FAILED, FileOutcome.REJECTED)
    fields = report.as_dict()
    fields["signal_ids"] = fields["signal_ids"][:1]
    (log.warning if bad else log.info)(f"file.{report.outcome.value}", **fields)
    return report


@dataclass(frozen=True, slots=True)
class _File:
    """A file before its transaction: what it is called, what is in it (by hash), and whose recording it is."""

    source: CsvSource
    name: str
    path: str
    sha256: str
    recorded: RecordedAt
    equipment: str


@dataclass(frozen=True, slots=True)
class _Loader:
    engine: Engine
    options: LoadOptions
    settings: IngestSettings
    features: FeatureSettings

    def load(self, source: CsvSource) -> FileReport:
        """One file, whatever is in it. Raises only what stops all of them."""
        name = printable(str(source.path.relative_to(source.root)))
        try:
            file = self._looked_at(source, name)
            with wrapped(self.engine):
                return _retrying(lambda: self._known_or_stored(file))
        except FileRejected as error:
            return FileReport(name, FileOutcome.REJECTED, error.reason, str(error))
        except CSVLoaderError as error:  # only of a file that was written to meanwhile: nothing to be kept of it
            return FileReport(name, FileOutcome.REJECTED, error.reason, str(error))
        except OSError as error:
            message = f"{name} cannot be read: {error.strerror}"
            return FileReport(name, FileOutcome.REJECTED, RejectionReason.UNREADABLE, message)

    def _looked_at(self, source: CsvSource, name: str) -> _File:
        return _File(
            source=source,
            name=name,
            path=_path_as_text(source.path),
            sha256=sha256_of(source.path),
            recorded=recorded_at(source, explicit=self.options.recorded_at, times=self.options.times),
            equipment=equipment_of(source.path, self.options.equipment),
        )

    def _known_or_stored(self, file: _File) -> FileReport:
        # The equipment is committed first: a neighbour with another file of the same new motor would have to wait until
        # this file is stored, because its name is unique.
        with self.engine.begin() as conn:
            known = report_known(file.name, sources.find_file(conn, file.sha256))
            if known is not None:
                return known
            equipment_id = sources.ensure_equipment(conn, file.equipment)
        with self.engine.begin() as conn:
            sources.lock_file(conn, file.sha256)
            replaced = sources.find_file(conn, file.sha256, lock=True)
            known = report_known(file.name, replaced)
            if known is not None:
                return known
            hours = sources.delete_file(conn, file.sha256, replaced)
            report = self._stored(conn, file, self._new_file(file, equipment_id))
            sources.settle_hours(conn, hours)
        return report

    def _new_file(self, file: _File, equipment_id: UUID) -> NewFile:
        rate = self.options.sample_rate_hz
        return NewFile(
            sha256=file.sha256,
            path=file.path,
            size_bytes=file.source.size,
            equipment_id=equipment_id,
            sample_rate_hz=rate if rate is not None and math.isfinite(rate) else None,
            recorded_at=file.recorded.at,
        )

    def _stored(self, conn: Connection, file: _File, row: NewFile) -> FileReport:
        """All batches, or one FAILED row that says why not."""
        sources.insert_source(conn, row, dialect=self.options.dialect.to_json())
        try:
            with conn.begin_nested():
                report = self._store_batches(conn, file, row)
        except (SQLAlchemyError, FileRejected, OSError):
            raise
        except SignalError as error:
            failure = Failure(error.reason, Stage.INGEST, str(error))
        except Exception as error:
            log.exception("file.internal_error", name=file.name)
            failure = Failure(FailureReason.INTERNAL_ERROR, Stage.INGEST, f"{type(error).__name__}: {error}")
        else:
            counters.add(conn, {"files_loaded_total": 1, "bytes_read_total": row.size_bytes})
            return report
        return self._store_failure(conn, file, row, failure)
