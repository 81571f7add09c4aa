"""Taking signals from the queue, keeping them, and letting them go: the claim.

A claim is a token on rows plus a lease on the database's clock. Whoever lost it can change nothing, because every
write says `claim_token = :token`. Not here: the work itself, and any decision of Dagster's.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import uniform
from time import sleep
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, TextClause

from signal_pipeline.db import claim_sql, counters
from signal_pipeline.db.finalizing import Finalizing
from signal_pipeline.db.json_values import clean_text
from signal_pipeline.domain import FailureReason, Stage, Status
from signal_pipeline.errors import ClaimLost
from signal_pipeline.settings import ClaimSettings, ClaimStrategy

S1_LOOKS: Final = 20
"""At what waits, in one fetch by S1. An empty fetch ends `process`, so it must mean that nothing waits."""

S1_PAUSE_SECONDS: Final = 0.01
"""At most, after the first look that came to nothing; each further pause may last so much longer."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Signals held under one token, oldest first."""

    token: UUID
    signal_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Claimed:
    """What one fetch brought: claims to work on, and poison that was buried on the way."""

    claims: tuple[Claim, ...]
    crash_looped: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a signal failed: what `meta.failure` will hold, with the database's time as `at`."""

    reason: FailureReason
    stage: Stage
    message: str

    def as_dict(self) -> dict[str, str]:
        fields = {"reason": self.reason.value, "stage": self.stage.value, "message": self.message[:4000]}
        return {key: clean_text(value) for key, value in fields.items()}


def claim_pending(engine: Engine, *, settings: ClaimSettings, claimed_by: str, limit: int | None = None) -> Claimed:
    """Claim up to `limit` (default: CLAIM_BATCH_SIZE) pending or expired signals, by CLAIM_STRATEGY."""
    n = settings.claim_batch_size if limit is None else limit
    parameters = {
        "claimed_by": claimed_by,
        "lease_seconds": settings.claim_lease_seconds,
        "max_attempts": settings.claim_max_attempts,
        "token": uuid4(),
        "n": n,
        "shards": counters.SHARDS,
    }
    take = _take_batch if settings.claim_strategy is ClaimStrategy.S2 else _take_one_by_one
    with engine.connect() as conn:
        # each statement is a transaction of its own: one that takes counts, too, and needs no other beside it
        taken, poison = take(conn.execution_options(isolation_level="AUTOCOMMIT"), parameters)
    buried = _bury_crash_loops(engine, settings.claim_max_attempts) if poison else ()
    return Claimed(_grouped(taken), buried)


def _bury_crash_loops(engine: Engine, max_attempts: int) -> tuple[UUID, ...]:
    """What killed its worker `max_attempts` times -> failed. A fetch that died before it: the next one does it."""
    with engine.begin() as conn:
        buried = tuple(conn.execute(claim_sql.BURY_CRASH_LOOPS, {"max_attempts": max_attempts}).scalars())
        counters.add(conn, {counters.failed(Stage.CLAIM, FailureReason.CRASH_LOOP): len(buried)})
    return buried


def _take_batch(conn: Connection, parameters: dict[str, Any]) -> tuple[Sequence[Any], bool]:
    """What was taken, and whether poison is left behind: that comes with each fetch, an empty one included."""
    rows = conn.execute(claim_sql.CLAIM_BATCH, parameters).all()
    return [row for row in rows if row.claim_token is not None], rows[0].poison


def _take_one_by_one(conn: Connection, parameters: dict[str, Any]) -> tuple[Sequence[Any], bool]:
    """S1, which looks without locking: while others take all that it saw, it looks again, after a random pause.

    What is left behind it does not see; that has to be looked for each time.
    """
    for look in range(S1_LOOKS):
        candidates = conn.execute(claim_sql.CANDIDATES, parameters).scalars().all()
        # one that another worker took first is skipped
        taken = [row for i in candidates for row in conn.execute(claim_sql.CLAIM_ONE, {**parameters, "id": i})]
        if taken or not candidates:
            return taken, True
        sleep(uniform(0, S1_PAUSE_SECONDS * (look + 1)))  # noqa: S311  who waits how long is no secret
    return [], True


def already_extracted(engine: Engine, token: UUID, *, version: str) -> dict[UUID, int]:
    """Held signals whose features of `version` are stored already (their batch died later), with their windows."""
    with engine.connect() as conn:
        rows = conn.execute(claim_sql.ALREADY_EXTRACTED, {"token": token, "version": version})
        return {row.id: row.windows for row in rows}


def _grouped(rows: Iterable[Any]) -> tuple[Claim, ...]:
    """By token; S1 brings row by row what has one. Both the claims and the signals of each oldest first."""
    by_token: dict[UUID, list[UUID]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r.created_at, r.ids)):
        by_token[row.claim_token] += row.ids
    return tuple(Claim(token, tuple(ids)) for token, ids in by_token.items())


@dataclass(frozen=True, slots=True)
class Requested:
    """What a person's request got: a claim (perhaps on nothing), and why each other signal was refused."""

    claim: Claim
    refused: dict[UUID, str]


def claim_requested(
    engine: Engine,
    signal_ids: Sequence[UUID],
    *,
    token: UUID,
    settings: ClaimSettings,
    claimed_by: str,
    whole: bool,
) -> Requested:
    """Claim what a person asked for, whatever its state; `whole=False` borrows without changing the status.

    `token` is the caller's, who may have to write it down before it is in use. A signal that is unknown, or that a
    live worker holds, is refused by name; its neighbours are claimed.
    """
    parameters = {"token": token, "claimed_by": claimed_by, "lease_seconds": settings.claim_lease_seconds}
    with engine.begin() as conn:
        rows = {row.id: row for row in conn.execute(claim_sql.LOCK_REQUESTED, {"ids": list(signal_ids)})}
        refused = {i: reason for i in signal_ids if (reason := _refusal(rows.get(i))) is not None}
        taken = [i for i in dict.fromkeys(signal_ids) if i not in refused]
        conn.execute(claim_sql.A_PERSON_ASKS)
        conn.execute(claim_sql.TAKE_REQUESTED, {**parameters, "ids": taken, "whole": whole})
        if whole:
            left = sum(rows[i].processing_status == Status.PROCESSING for i in taken)
            counters.add(conn, {"claims_total": len(taken), "reclaims_total": left})
    return Requested(Claim(token, tuple(taken)), refused)


def _refusal(row: Any | None) -> str | None:
    if row is None:
        return "is not in raw_signals"
    if row.is_live:
        return f"is held by {row.claimed_by} until {row.lease_expires_at:%Y-%m-%d %H:%M:%S} UTC; try again after that"
    return None


def held(engine: Engine, token: UUID) -> Claim:
    """The signals that still carry `token`, oldest first. Raises `ClaimLost` if there is none."""
    with engine.connect() as conn:
        ids = conn.execute(claim_sql.HELD, {"token": token}).scalars().all()
    if not ids:
        raise ClaimLost(f"no signal carries the claim {token} any more: its lease ended and others took over")
    return Claim(token, tuple(ids))


def renew(engine: Engine, token: UUID, *, lease_seconds: float) -> frozenset[UUID]:
    """Prolong the lease; returns the signals that are still held."""
    with engine.begin() as conn:
        rows = conn.execute(claim_sql.RENEW, {"token": token, "lease_seconds": lease_seconds})
        return frozenset(rows.scalars())


def fence(conn: Connection, token: UUID, signal_ids: Sequence[UUID]) -> None:
    """Lock the rows against everybody else for this transaction. Raises `ClaimLost` if one is not ours any more."""
    ours = conn.execute(claim_sql.FENCE, {"ids": list(signal_ids), "token": token}).scalars().all()
    _all_ours(conn, signal_ids, ours)


def start_work(
    engine: Engine, token: UUID, signal_id: UUID, *, lease_seconds: float, ended: Iterable[UUID] = ()
) -> int:
    """Count an attempt at this signal's own work, committed before the work begins; returns how many there were.

    `ended`: signals of the claim whose own work is over, though its results are not stored yet. Naming them here costs
    nothing, and should the worker die they are not taken for what killed it. Raises `ClaimLost`.
    """
    ids = [signal_id, *ended]
    parameters = {"id": signal_id, "ids": ids, "token": token, "lease_seconds": lease_seconds}
    with engine.begin() as conn:
        attempts = {row.id: row.attempts for row in conn.execute(claim_sql.START_WORK, parameters)}
    if signal_id not in attempts:
        _count_refused(engine, 1)
        raise ClaimLost(f"signal {signal_id} does not carry the claim {token} any more")
    return int(attempts[signal_id])


def complete(conn: Connection, token: UUID, signal_ids: Sequence[UUID], finalizing: Finalizing | None = None) -> bool:
    """processing -> completed. Raises `ClaimLost` if one is not ours any more; the caller's transaction rolls back.

    False if an earlier try of `finalizing` has landed: all that goes with it is written, and counted.
    """
    parameters = {"ids": list(signal_ids), "token": token}
    return _finalize(conn, claim_sql.COMPLETE, parameters, finalizing or Finalizing())


def fail(
    conn: Connection,
    token: UUID,
    signal_ids: Sequence[UUID],
    failure: Failure,
    finalizing: Finalizing | None = None,
) -> bool:
    """processing -> failed, with the reason in `meta.failure`. Raises and returns as `complete` does."""
    parameters = {"ids": list(signal_ids), "token": token, "failure": json.dumps(failure.as_dict())}
    return _finalize(conn, claim_sql.FAIL, parameters, finalizing or Finalizing())


def _finalize(conn: Connection, statement: TextClause, parameters: dict[str, Any], finalizing: Finalizing) -> bool:
    rows = conn.execute(statement, parameters).all()
    if not rows and finalizing.has_landed(conn, parameters["ids"]):
        return False
    _all_ours(conn, parameters["ids"], [row.id for row in rows])
    finalizing.tried_at.update(row.finalized_at for row in rows)
    return True


def fail_all(
    conn: Connection, token: UUID, failure: Failure, *, signal_ids: Sequence[UUID] | None = None
) -> tuple[UUID, ...]:
    """Whatever the token still holds in processing (of `signal_ids`, if given) -> failed."""
    ids = conn.execute(claim_sql.HELD, {"token": token}).scalars().all() if signal_ids is None else signal_ids
    parameters = {"ids": list(ids), "token": token, "failure": json.dumps(failure.as_dict())}
    return tuple(conn.execute(claim_sql.FAIL, parameters).scalars())


def _all_ours(conn: Connection, asked: Sequence[UUID], ours: Sequence[UUID]) -> None:
    lost = sorted(set(asked) - set(ours))
    if lost:
        _count_refused(conn.engine, len(lost))
        raise ClaimLost(
            f"{len(lost)} of {len(asked)} signals were taken over, the first: {lost[0]}; nothing was written"
        )


def _count_refused(engine: Engine, n: int) -> None:
    """Writes of a worker that had lost its claim; by themselves, because the transaction that tried is rolled back."""
    with engine.begin() as conn:
        counters.add(conn, {"stale_writes_refused_total": n})


def give_back(engine: Engine, token: UUID) -> tuple[UUID, ...]:
    """End a loan: a run of some assets returns token and lease; the status was never changed.

    A signal of a dead worker that was borrowed keeps its claim, run out: the next fetch takes it.
    """
    with engine.begin() as conn:
        return tuple(conn.execute(claim_sql.GIVE_BACK, {"token": token}).scalars())


def let_go(engine: Engine, token: UUID, *, signal_ids: Sequence[UUID] | None = None) -> tuple[UUID, ...]:
    """Stop politely: what is not final (of `signal_ids`, if given) can be claimed by the next worker at once."""
    ids = None if signal_ids is None else list(signal_ids)
    with engine.begin() as conn:
        return tuple(conn.execute(claim_sql.LET_GO, {"token": token, "ids": ids}).scalars())


@dataclass(frozen=True, slots=True)
class OwnClaim:
    """A claim of one Dagster instance: whether its lease still runs, and whether less is left of it than was asked."""

    claim: Claim
    is_live: bool
    is_due: bool


def own_claims(engine: Engine, *, claimed_by: str, due_below: float = 0) -> tuple[OwnClaim, ...]:
    """The claims in processing that `claimed_by`, or a part of it (`claimed_by/…`), took; oldest first.

    Due are those that have less than `due_below` seconds left; expired ones always are.
    """
    with engine.connect() as conn:
        rows = conn.execute(claim_sql.OWN_CLAIMS, {"claimed_by": claimed_by, "due_below": due_below}).all()
    return tuple(OwnClaim(Claim(row.claim_token, tuple(row.ids)), row.is_live, row.is_due) for row in rows)


def retry_failed(engine: Engine, *, reason: FailureReason | None = None) -> tuple[UUID, ...]:
    """A person asks: failed -> pending, attempts counted anew. `meta.failure` stays until the signal succeeds."""
    with engine.begin() as conn:
        return tuple(conn.execute(claim_sql.RETRY_FAILED, {"reason": reason}).scalars())
