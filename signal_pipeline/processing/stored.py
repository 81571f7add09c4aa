"""What is stored already: the inputs of a run that makes only some assets."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text

from signal_pipeline.db.claims import Failure
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.processing.batch import Outcome, Outcomes
from signal_pipeline.processing.worker import Worker

COUNTS = text("SELECT raw_id, count(*) AS windows FROM features WHERE raw_id = ANY(:ids) GROUP BY raw_id")


def require_features(worker: Worker, signal_ids: Sequence[UUID]) -> Outcomes:
    """Which of `signal_ids` have stored features, and how many windows; the others cannot be worked on."""
    with worker.engine.connect() as conn:
        counts = {row.raw_id: row.windows for row in conn.execute(COUNTS, {"ids": list(signal_ids)})}
    missing = Failure(
        FailureReason.INSUFFICIENT_DATA, Stage.LOAD, "no features are stored; materialize `features` first"
    )
    return Outcomes(
        done={i: Outcome({"windows": counts[i]}) for i in signal_ids if i in counts},
        failed={i: missing for i in signal_ids if i not in counts},
    )
