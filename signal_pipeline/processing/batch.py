"""A batch under way: which signals, under which token, and what became of each. Plain data, passed along."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from signal_pipeline.db.claims import Failure
from signal_pipeline.db.diagnostics import StoredDiagnosis


@dataclass(frozen=True, slots=True)
class Batch:
    """Signals under one token.

    `whole`: this run owns the status; else it borrowed the signals for some assets. `recompute`: a person asked, so
    stored features are computed again even if they are up to date.
    """

    token: UUID
    signal_ids: tuple[UUID, ...]
    whole: bool = True
    recompute: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """One signal went through a step; `details` are counts and durations for people."""

    details: dict[str, Any]


@dataclass(slots=True)
class Outcomes:
    """What a step did, by signal; `diagnosed`, what extraction found out on its way, to be told by the diagnosis."""

    done: dict[UUID, Outcome] = field(default_factory=dict)
    failed: dict[UUID, Failure] = field(default_factory=dict)
    diagnosed: dict[UUID, StoredDiagnosis | Failure] = field(default_factory=dict)
