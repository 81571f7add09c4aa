"""The words of the system: phases, states, stages and reasons.

Here: closed lists that the database, the pipeline and its readers must agree on. Not here: behaviour.
`Status` is mirrored by a CHECK constraint, and a test compares the two; the others live in JSON.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Final

PHASES: Final = ("a", "b", "c")
"""Column suffixes of the phases, in the order R, S, T; the order of axis 0 in every array."""

PHASE_NAMES: Final = ("R", "S", "T")
"""The names a person uses for the same three phases."""


MAX_AHEAD: Final = timedelta(days=1)
"""So far ahead of the clock may a recording lie. Clocks are minutes off, zones hours; beyond this it is a mistake."""


class Status(StrEnum):
    """State of a raw signal: pending -> processing -> completed or failed."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Stage(StrEnum):
    """Where in the pipeline something happened; the `stage` of `meta.failure`, of metrics, and of lines on failures."""

    INGEST = "ingest"
    CLAIM = "claim"
    LOAD = "load"
    VALIDATE = "validate"
    EXTRACT = "extract"
    STORE = "store"
    DIAGNOSE = "diagnose"
    SCORE = "score"
    FORECAST = "forecast"
    FINALIZE = "finalize"


class FailureReason(StrEnum):
    """Why a signal is FAILED; the `reason` of `meta.failure`."""

    VALIDATION_FAILED = "validation_failed"
    INSUFFICIENT_DATA = "insufficient_data"
    CSV_ERROR = "csv_error"
    FILE_MISSING = "file_missing"
    FILE_CHANGED = "file_changed"
    CORRUPT_BLOB = "corrupt_blob"
    TOO_LARGE = "too_large"
    CRASH_LOOP = "crash_loop"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"


class Severity(StrEnum):
    """How far a value lies above its bands, mildest first."""

    HEALTHY = "healthy"
    INCIPIENT = "incipient"
    MODERATE = "moderate"
    SEVERE = "severe"


class RejectionReason(StrEnum):
    """Why a file got no row at all: it cannot be read, must not be read, or would be too much to read."""

    NOT_FOUND = "not_found"
    UNREADABLE = "unreadable"
    NOT_A_FILE = "not_a_file"
    OUTSIDE_DATA_ROOT = "outside_data_root"
    TOO_LARGE = "too_large"
