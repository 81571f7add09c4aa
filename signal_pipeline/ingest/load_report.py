"""What became of each file that was to be loaded, for people and programs; and when a known file is left as it is.

Here: plain data and the decision about what is known. Not here: loading (`loader`), or any printing.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

from signal_pipeline.counted import counted
from signal_pipeline.db.sources import KnownSignal
from signal_pipeline.domain import FailureReason, RejectionReason, Status
from signal_pipeline.ingest.sources import printable


class FileOutcome(StrEnum):
    """What loading a file came to."""

    NEW = "new"
    KNOWN = "known"
    FAILED = "failed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file's outcome. `name` and `message` are printable; a rejected file has no signals, a failed one has one.

    `signal_ids` in the file's order; `n_rows` and `n_batches` of what is in the database now; `reason` only for failed
    and rejected files, `message` also for known ones and those that replaced something;
    `recorded_at_source` (see `recorded_at`) of new ones.
    """

    name: str
    outcome: FileOutcome
    reason: FailureReason | RejectionReason | None = None
    message: str = ""
    signal_ids: tuple[UUID, ...] = ()
    n_rows: int = 0
    n_batches: int = 0
    seconds: float = 0.0
    recorded_at_source: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "name": self.name,
            "outcome": self.outcome.value,
            "reason": None if self.reason is None else self.reason.value,
            "message": self.message,
            "signal_ids": [str(signal_id) for signal_id in self.signal_ids],
            "n_rows": self.n_rows,
            "n_batches": self.n_batches,
            "seconds": round(self.seconds, 6),
            "recorded_at_source": self.recorded_at_source,
        }


def report_known(name: str, signals: Sequence[KnownSignal], *, replace: bool = False) -> FileReport | None:
    """The report for a file whose rows stay as they are; None if it is to be loaded.

    That is so if it is not known, and if one of its signals has FAILED: then all of them are replaced, completed ones,
    too, because the rows of a file come from one reading of it (its rate and columns may have been the mistake); with
    `replace` whatever became of them. But never while somebody works on one of them.
    """
    failed = sum(signal.status is Status.FAILED for signal in signals)
    holder = next((signal for signal in signals if signal.held_by is not None), None)
    if not signals or ((failed or replace) and holder is None):
        return None
    message = _origin(signals[0])
    if (failed or replace) and holder is not None:
        why = f"{failed} of its {len(signals)} signals failed" if failed else "it was to be replaced"
        message += (
            f"; {why}, but {printable(str(holder.held_by))} is at work on it "
            f"until {holder.held_until:%Y-%m-%d %H:%M:%S} UTC: load it again after that"
        )
    return FileReport(
        name,
        FileOutcome.KNOWN,
        message=message,
        signal_ids=tuple(signal.id for signal in signals),
        n_rows=sum(signal.n_rows for signal in signals),
        n_batches=len(signals),
    )


def report_replaced(report: FileReport, replaced: Sequence[KnownSignal]) -> FileReport:
    """The same with what has gone, for a file that a person wanted to replace it."""
    if not replaced:
        return report
    signals = counted(len(replaced), "signal")
    return dataclasses.replace(report, message=f"replaces {signals}, {_origin(replaced[0])}")


def report_kept(report: FileReport) -> FileReport:
    """A file that was to replace good signals, and cannot be read that way: nothing was changed."""
    message = f"{report.message.rstrip('.')}; what was loaded before stays as it is"
    return FileReport(report.name, FileOutcome.REJECTED, report.reason, message)


def _origin(signal: KnownSignal) -> str:
    known_as = "" if signal.file_name is None else f" as {printable(Path(signal.file_name).name)}"
    return f"loaded{known_as} for {printable(signal.equipment)} on {signal.created_at:%Y-%m-%d %H:%M:%S} UTC"
