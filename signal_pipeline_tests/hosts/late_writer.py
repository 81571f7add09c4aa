"""A worker that claims what is pending, computes, and writes only when it is told to: by then it may be too late.

`python late_writer.py DATABASE_URL LEASE_SECONDS`: prints the ids that it claimed, waits for a line, tries to write
in each way there is, and prints as JSON what came of each.
"""

import json
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection

from signal_pipeline.db import claims
from signal_pipeline.db.claims import Failure
from signal_pipeline.db.engine import create_engine
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.errors import ClaimLost
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker, retrying
from signal_pipeline.settings import ClaimSettings, DatabaseSettings, Settings


def main(url: str, lease_seconds: float) -> None:
    settings = Settings(claims=ClaimSettings(claim_lease_seconds=lease_seconds))
    worker = Worker(create_engine(url, DatabaseSettings()), settings, "late")
    (claim,) = claims.claim_pending(worker.engine, settings=settings.claims, claimed_by=worker.name).claims
    token, ids = claim.token, claim.signal_ids
    print(json.dumps([str(i) for i in ids]), flush=True)
    sys.stdin.readline()
    failure = Failure(FailureReason.INTERNAL_ERROR, Stage.FINALIZE, "too late")
    answers = {
        "heartbeat": len(retrying(lambda: claims.renew(worker.engine, token, lease_seconds=lease_seconds))),
        "fence": refused(worker, lambda conn: claims.fence(conn, token, ids)),
        "complete": refused(worker, lambda conn: claims.complete(conn, token, ids)),
        "fail": refused(worker, lambda conn: claims.fail(conn, token, ids, failure)),
        "everything": everything(worker, token, ids),
    }
    print(json.dumps(answers), flush=True)


def refused(worker: Worker, write: Callable[[Connection], Any]) -> str:
    def transaction() -> None:
        with worker.engine.begin() as conn:
            write(conn)

    try:
        retrying(transaction)
    except ClaimLost:
        return "refused"
    return "written"


def everything(worker: Worker, token: UUID, ids: tuple[UUID, ...]) -> str:
    try:
        run_batch(worker, Batch(token, ids))
    except ClaimLost:
        return "refused"
    return "written"


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the answers are on the other
    main(sys.argv[1], float(sys.argv[2]))
