"""What became of each file that was to be loaded, for people and programs; and when a known file is left as it is.

Here: plain data and the decision about what is known. Not here: loading (`loader`), or any printing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

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
    and rejected files, `message` for known ones, too.
    """

    name: str
    outcome: FileOutcome
    reason: FailureReason | RejectionReason | None = None
    message: str = ""
    signal_ids: tuple[UUID, ...] = ()
    n_rows: int = 0
    n_batches: int = 0
    seconds: float = 0.0

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
        }


def report_known(name: str, signals: Sequence[KnownSignal]) -> FileReport | None:
    """The report for a file whose rows stay as they are; None if it is to be loaded.

    That is so if it is not known, and if one of its signals has FAILED: then all of them are replaced, completed ones,
    too, because the rows of a file come from one reading of it (its rate and columns may have been the mistake). But
    never while somebody works on one of them.
    """
    failed = sum(signal.status is Status.FAILED for signal in signals)
    holder = next((signal for signal in signals if signal.held_by is not None), None)
    if not signals or (failed and holder is None):
        return None
    first = signals[0]
    known_as = "" if first.file_name is None else f" as {printable(Path(first.file_name).name)}"
    message = f"loaded{known_as} for {printable(first.equipment)} on {first.created_at:%Y-%m-%d %H:%M:%S} UTC"
    if failed and holder is not None:
        message += (
            f"; {failed} of its {len(signals)} signals failed, but {printable(str(holder.held_by))} is at work on it "
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
