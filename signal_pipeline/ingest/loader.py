"""CSV files to rows of `raw_signals`: one transaction a file, one report a file.

Here: the order of things, and what a bad file gets. Not here: reading and storing its batches (`file_batches`), the SQL
(`db.sources`), or judging samples, which is the work's (a recording that is too short is loaded, and fails there).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Final, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from signal_pipeline.db import counters, sources
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.engine import is_transient, wrapped
from signal_pipeline.db.ids import source_id
from signal_pipeline.db.sources import KnownSignal, NewFile
from signal_pipeline.domain import FailureReason, RejectionReason, Stage, Status
from signal_pipeline.errors import CSVLoaderError, FileRejected, SettingsError, SignalError
from signal_pipeline.ingest.csv_reader import sha256_of
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.file_batches import changed, grid_of_rate, store_batches
from signal_pipeline.ingest.load_report import FileOutcome, FileReport, report_kept, report_known, report_replaced
from signal_pipeline.ingest.recorded_at import RecordedAt, check_not_ahead, recorded_at
from signal_pipeline.ingest.sources import CsvSource, Discovery, discover, equipment_of, printable
from signal_pipeline.settings import FeatureSettings, IngestSettings

log = structlog.get_logger(__name__)

T = TypeVar("T")

ATTEMPTS: Final = 20
"""At one file's transaction while the database blips, with pauses of up to 5 s."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What a person says of the files: `recorded_at` of one, `times` by file name (UTC); the sample rate in Hz.

    `replace`: known files, and what was loaded from their paths before, make way for what is read now.
    """

    equipment: str | None = None
    sample_rate_hz: float | None = None
    recorded_at: datetime | None = None
    times: Mapping[str, datetime] | None = None
    dialect: CsvDialect = field(default_factory=CsvDialect)
    replace: bool = False


class _NothingReplaced(Exception):
    """Rolls a file's transaction back: what it was to replace is better than this."""


def load_files(
    engine: Engine, paths: Sequence[Path], *, options: LoadOptions, settings: IngestSettings, features: FeatureSettings
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
        yield _logged(FileReport(rejection.name, FileOutcome.REJECTED, rejection.reason, rejection.message))
    for source in found.sources:
        started = perf_counter()
        report = loader.load(source)
        yield _logged(replace(report, seconds=perf_counter() - started))


def _logged(report: FileReport) -> FileReport:
    write = log.warning if report.outcome in (FileOutcome.FAILED, FileOutcome.REJECTED) else log.info
    write(
        f"file.{report.outcome.value}",
        file=report.name,
        signal=str(report.signal_ids[0]) if report.signal_ids else None,
        reason=report.reason and report.reason.value,
        message=report.message,
        rows=report.n_rows,
        batches=report.n_batches,
        seconds=round(report.seconds, 3),
    )
    return report


@dataclass(frozen=True, slots=True)
class _File:
    """A file before its transaction. `name` is for people, `path` for the database."""

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
        except (FileRejected, CSVLoaderError) as error:  # the latter: written to while it was read, so no content yet
            return FileReport(name, FileOutcome.REJECTED, error.reason, str(error))
        except OSError as error:
            message = f"{name} cannot be read: {error.strerror}"
            return FileReport(name, FileOutcome.REJECTED, RejectionReason.UNREADABLE, message)

    def _looked_at(self, source: CsvSource, name: str) -> _File:
        return _File(
            source=source,
            name=name,
            path=_as_text(source.path),
            sha256=sha256_of(source.path),
            recorded=recorded_at(source, explicit=self.options.recorded_at, times=self.options.times),
            equipment=equipment_of(source.path, self.options.equipment),
        )

    def _known_or_stored(self, file: _File) -> FileReport:
        # The equipment is committed before the file: its name is unique, and a neighbour with another file of the same
        # new motor would have to wait until all of this one is stored.
        with self.engine.begin() as conn:
            found = self._found(conn, file)
            known = report_known(file.name, found, replace=self.options.replace)
            if known is not None:
                return _followed(conn, file, found, known)
            equipment_id = sources.ensure_equipment(conn, file.equipment)
        try:
            with self.engine.begin() as conn:
                return self._known_or_replaced(conn, file, equipment_id)
        except _NothingReplaced as kept:
            return report_kept(kept.args[0])

    def _known_or_replaced(self, conn: Connection, file: _File, equipment_id: UUID) -> FileReport:
        sources.lock_file(conn, file.sha256)
        replaced = self._found(conn, file, lock=True)
        known = report_known(file.name, replaced, replace=self.options.replace)
        if known is not None:
            return known
        hours = sources.delete_signals(conn, replaced)
        report = self._stored(conn, file, equipment_id, replaced)
        if self.options.replace:
            if report.outcome is FileOutcome.FAILED and any(one.status is not Status.FAILED for one in replaced):
                raise _NothingReplaced(report)
            sources.forget_earlier_versions(conn, file.path, sha256=file.sha256)
            report = report_replaced(report, replaced) if report.outcome is FileOutcome.NEW else report
        sources.settle_hours(conn, hours)
        return report

    def _found(self, conn: Connection, file: _File, *, lock: bool = False) -> tuple[KnownSignal, ...]:
        versions_of = file.path if self.options.replace else None
        return sources.find_file(conn, file.sha256, lock=lock, versions_of=versions_of)

    def _stored(self, conn: Connection, file: _File, equipment_id: UUID, replaced: Sequence[KnownSignal]) -> FileReport:
        """All batches; or, for bad content, one FAILED row that says what is wrong."""
        row = self._new_file(file, equipment_id, replaced)
        row = sources.put_source(conn, row, dialect=self.options.dialect.to_json())
        try:
            with conn.begin_nested():
                check_not_ahead(file.recorded, now=sources.clock(conn))
                return self._store_batches(conn, file, row)
        except (SQLAlchemyError, FileRejected, OSError):
            raise
        except SignalError as error:
            if error.reason is FailureReason.FILE_CHANGED:
                raise
            failure = Failure(error.reason, Stage.INGEST, str(error))
        except Exception as error:  # contract row 12: anything else fails this file, and the others go on
            log.exception("file.internal_error", file=file.name)
            failure = Failure(FailureReason.INTERNAL_ERROR, Stage.INGEST, f"{type(error).__name__}: {error}")
        if sha256_of(file.source.path) != file.sha256:
            raise changed(file.source.path.name)
        return self._store_failure(conn, file, row, failure)

    def _store_batches(self, conn: Connection, file: _File, row: NewFile) -> FileReport:
        began = perf_counter()
        stored = store_batches(
            conn,
            row,
            grid=grid_of_rate(self.options.sample_rate_hz, self.features, name=file.source.name),
            csv_batch_size=self.settings.csv_batch_size,
            dialect=self.options.dialect,
            recorded_at_source=file.recorded.source,
        )
        amounts = {"files_loaded_total": 1, "bytes_read_total": stored.facts.n_bytes}
        counters.add(conn, amounts, {Stage.INGEST: [perf_counter() - began]})
        return FileReport(
            file.name,
            FileOutcome.NEW,
            signal_ids=stored.signal_ids,
            n_rows=stored.facts.n_rows,
            n_batches=len(stored.signal_ids),
            recorded_at_source=file.recorded.source,
        )

    def _store_failure(self, conn: Connection, file: _File, row: NewFile, failure: Failure) -> FileReport:
        meta = {"batch_index": 0, "recorded_at_source": file.recorded.source}
        signal_id = sources.insert_failed(conn, row, meta=meta, failure=failure)
        counters.add(conn, {"bytes_read_total": row.size_bytes, counters.failed(failure.stage, failure.reason): 1})
        return FileReport(
            file.name, FileOutcome.FAILED, failure.reason, failure.message, signal_ids=(signal_id,), n_batches=1
        )

    def _new_file(self, file: _File, equipment_id: UUID, replaced: Sequence[KnownSignal]) -> NewFile:
        rate = self.options.sample_rate_hz
        return NewFile(
            sha256=file.sha256,
            path=file.path,
            size_bytes=file.source.size,
            equipment_id=equipment_id,
            sample_rate_hz=rate if rate is not None and math.isfinite(rate) else None,
            recorded_at=file.recorded.at,
            source_id=source_id(file.sha256, file.recorded.at),
            kept={one.batch_index: one.id for one in reversed(replaced) if one.batch_index is not None},
        )


def _followed(conn: Connection, file: _File, found: Sequence[KnownSignal], known: FileReport) -> FileReport:
    """A known file that is no longer where it was loaded from: it is read from here, should it be needed again."""
    before = found[0].file_name
    if before is None or before == file.path or not _is_gone(before):
        return known
    sources.find_file(conn, file.sha256, lock=True)
    sources.move_file(conn, file.sha256, path=file.path)
    return replace(known, message=f"{known.message}; it is no longer there, and is read from here from now on")


def _is_gone(path: str) -> bool:
    """Whether nothing lies there. A folder that may not be looked into is no proof."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _as_text(path: Path) -> str:
    """`path` as the database can hold it. Raises `FileRejected` where a folder's name is no text."""
    text = str(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FileRejected(
            f"{printable(text)}: a folder's name in it is not UTF-8, and the database could not hold it; rename it",
            reason=RejectionReason.UNREADABLE,
        ) from error
    return text


def _retrying(transaction: Callable[[], T]) -> T:
    """Do a file's whole transaction again, with backoff, while the database blips; other errors pass through."""
    policy = Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        reraise=True,
    )
    return policy(transaction)
