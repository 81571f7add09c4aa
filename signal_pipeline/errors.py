"""Every error that this project raises on purpose.

Three families, so that code can tell them apart by type: `SignalError` is permanent and fails one signal
(never retried), `TransientError` may go away and is retried with backoff, and the rest stop the command or
the run that met them. Messages name the value, the place and the remedy.
"""

from typing import ClassVar

from signal_pipeline.domain import FailureReason, RejectionReason


class SignalPipelineError(Exception):
    """Base of all errors of this project."""


class SettingsError(SignalPipelineError):
    """A setting has a value that cannot work; names the variable and what it accepts."""


class SignalError(SignalPipelineError):
    """Permanent: this signal cannot be processed as it is. Becomes FAILED with `meta.failure`."""

    default_reason: ClassVar[FailureReason]

    def __init__(self, message: str, *, reason: FailureReason | None = None) -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason


class ValidationFailed(SignalError):
    """The samples or the sample rate are not those of a measurement."""

    default_reason = FailureReason.VALIDATION_FAILED


class InsufficientData(SignalError):
    """The recording is shorter than one window."""

    default_reason = FailureReason.INSUFFICIENT_DATA


class CSVLoaderError(SignalError):
    """A CSV was opened, and its content is not what was promised; names row, column and value."""

    default_reason = FailureReason.CSV_ERROR


class CorruptBlob(SignalError):
    """A stored phase cannot be decompressed to the samples that its row claims."""

    default_reason = FailureReason.CORRUPT_BLOB


class FileRejected(SignalPipelineError):
    """A file gets no row: it cannot or must not be read. Reported by ingest, exit code 1."""

    def __init__(self, message: str, *, reason: RejectionReason) -> None:
        super().__init__(message)
        self.reason = reason


class ClaimLost(SignalPipelineError):
    """Another worker owns the signal now. Stop, and write nothing."""


class TransientError(SignalPipelineError):
    """May go away by itself: retried with backoff, never turned into a failed signal."""


class DatabaseUnavailable(TransientError):
    """The database does not answer; names host and port, never the password."""


class FruitlessRuns(SignalPipelineError):
    """Runs end before they finish anything, and no signal is to blame; says why the last one did."""


class ManifestError(SignalPipelineError):
    """A model's manifest is broken, of another feature set, or tampered with. The pipeline goes on without it."""
