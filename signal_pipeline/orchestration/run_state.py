"""What one run knows about itself: its batch, how it got it, and what became of each signal so far."""

from dataclasses import dataclass, field, replace
from uuid import UUID

from dagster import DagsterRun

from signal_pipeline.db.claims import Failure
from signal_pipeline.db.diagnostics import StoredDiagnosis
from signal_pipeline.processing.batch import Batch, Outcomes

CLAIM_TAG = "signal_pipeline/claim"
"""Run tag with the claim's token: set by the sensor and by `process`; a person's run gets it when it has claimed."""


@dataclass(frozen=True)
class RunState:
    """Passed from op to op. `pictured`: of how many signals people get pictures."""

    batch: Batch
    alive: tuple[UUID, ...]
    failed: dict[UUID, Failure] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    diagnosed: dict[UUID, StoredDiagnosis | Failure] = field(default_factory=dict)
    pictured: int = 0

    def after(self, outcomes: Outcomes) -> "RunState":
        """The state when a step has dealt with all that were alive."""
        return replace(
            self,
            alive=tuple(outcomes.done),
            failed=self.failed | outcomes.failed,
            diagnosed=self.diagnosed | outcomes.diagnosed,
        )

    @property
    def is_clean(self) -> bool:
        return not self.failed and not self.refused

    def complaint(self) -> str:
        """What a person reads in the failed run: how many, and the first few with their reasons."""
        bad = {str(i): f"{f.reason.value}: {f.message}" for i, f in self.failed.items()} | self.refused
        total = len(self.alive) + len(bad)
        first = "\n".join(f"  {key} {why}" for key, why in list(bad.items())[:10])
        more = f"\n  … and {len(bad) - 10} more" if len(bad) > 10 else ""
        return f"{len(bad)} of {total} signals failed or were refused; the others are done.\n{first}{more}"


def sensor_token(run: DagsterRun) -> UUID | None:
    """The token under which somebody claimed this run's signals in advance.

    None for a person's run. A re-execution carries its parent's tags, but the parent has spent that token.
    """
    token = run.tags.get(CLAIM_TAG)
    return UUID(token) if token and run.parent_run_id is None else None
