"""Taking signals from the queue, keeping them, and letting them go: the claim.

A claim is a token on rows plus a lease on the database's clock. Whoever lost it can change nothing, because every
write says `claim_token = :token`. Not here: the work itself, and any decision of Dagster's.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine

from signal_pipeline.db import claim_sql
from signal_pipeline.db.json_values import clean_json
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.errors import ClaimLost, ClaimRefused
from signal_pipeline.settings import ClaimSettings, ClaimStrategy


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

    def as_json(self) -> str:
        fields = {"reason": self.reason, "stage": self.stage, "message": self.message[:4000]}
        return json.dumps(clean_json(fields))


def claim_pending(engine: Engine, *, settings: ClaimSettings, claimed_by: str, limit: int | None = None) -> Claimed:
    """Claim up to `limit` (default: CLAIM_BATCH_SIZE) pending or expired signals, by CLAIM_STRATEGY."""
    n = settings.claim_batch_size if limit is None else limit
    with engine.begin() as conn:
        buried = conn.execute(claim_sql.BURY_CRASH_LOOPS, {"max_attempts": settings.claim_max_attempts}).scalars()
        crash_looped = tuple(buried)
    parameters = {"claimed_by": claimed_by, "lease_seconds": settings.claim_lease_seconds, "token": uuid4()}
    take = _take_batch if settings.claim_strategy is ClaimStrategy.S2 else _take_one_by_one
    return Claimed(_grouped(take(engine, n, parameters)), crash_looped)


def _take_batch(engine: Engine, n: int, parameters: dict[str, Any]) -> list[Any]:
    with engine.begin() as conn:
        return list(conn.execute(claim_sql.CLAIM_BATCH, {**parameters, "n": n}))


def _take_one_by_one(engine: Engine, n: int, parameters: dict[str, Any]) -> list[Any]:
    """S1: each signal in a transaction of its own; one that another worker took first is skipped."""
    with engine.connect() as conn:
        candidates = conn.execute(claim_sql.CANDIDATES, {"n": n}).scalars().all()
        conn.commit()
        taken: list[Any] = []
        for signal_id in candidates:
            taken += conn.execute(claim_sql.CLAIM_ONE, {**parameters, "id": signal_id})
            conn.commit()
    return taken


def _grouped(rows: Iterable[Any]) -> tuple[Claim, ...]:
    by_token: dict[UUID, list[UUID]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r.created_at, r.id)):
        by_token[row.claim_token].append(row.id)
    return tuple(Claim(token, tuple(ids)) for token, ids in by_token.items())


def claim_requested(
    engine: Engine, signal_ids: Sequence[UUID], *, settings: ClaimSettings, claimed_by: str, whole: bool
) -> Claim:
    """Claim exactly what a person asked for, whatever its state; `whole=False` borrows without changing the status.

    Raises `ClaimRefused` if a signal does not exist or is held by a live worker: then nothing is claimed at all.
    """
    token = uuid4()
    with engine.begin() as conn:
        rows = conn.execute(claim_sql.LOCK_REQUESTED, {"ids": list(signal_ids)}).all()
        _refuse_unknown(signal_ids, [row.id for row in rows])
        _refuse_live([row for row in rows if row.is_live])
        conn.execute(claim_sql.A_PERSON_ASKS)
        conn.execute(
            claim_sql.TAKE_REQUESTED,
            {
                "ids": list(signal_ids),
                "token": token,
                "claimed_by": claimed_by,
                "lease_seconds": settings.claim_lease_seconds,
                "whole": whole,
            },
        )
    return Claim(token, tuple(signal_ids))


def _refuse_unknown(asked: Sequence[UUID], found: Sequence[UUID]) -> None:
    unknown = sorted(set(asked) - set(found))
    if unknown:
        raise ClaimRefused(
            f"{len(unknown)} of {len(asked)} asked signals are not in raw_signals, the first: {unknown[0]}. "
            "`signal-pipeline status` counts what is there."
        )


def _refuse_live(live: Sequence[Any]) -> None:
    if live:
        first = live[0]
        raise ClaimRefused(
            f"{len(live)} of the asked signals are being processed elsewhere, the first: {first.id}, held by "
            f"{first.claimed_by} until {first.lease_expires_at:%Y-%m-%d %H:%M:%S} UTC. Try again after that."
        )


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
    _all_ours(signal_ids, ours)


def start_work(engine: Engine, token: UUID, signal_id: UUID, *, lease_seconds: float) -> int:
    """Count an attempt at this signal's own work, committed before the work begins; returns how many there were."""
    parameters = {"id": signal_id, "token": token, "lease_seconds": lease_seconds}
    with engine.begin() as conn:
        attempts = conn.execute(claim_sql.START_WORK, parameters).scalar_one_or_none()
    if attempts is None:
        raise ClaimLost(f"signal {signal_id} does not carry the claim {token} any more; nothing was written")
    return int(attempts)


def complete(conn: Connection, token: UUID, signal_ids: Sequence[UUID]) -> None:
    """processing -> completed. Raises `ClaimLost` if one is not ours any more; the caller's transaction rolls back."""
    done = conn.execute(claim_sql.COMPLETE, {"ids": list(signal_ids), "token": token}).scalars().all()
    _all_ours(signal_ids, done)


def fail(conn: Connection, token: UUID, signal_ids: Sequence[UUID], failure: Failure) -> None:
    """processing -> failed, with the reason in `meta.failure`. Raises `ClaimLost` as `complete` does."""
    parameters = {"ids": list(signal_ids), "token": token, "failure": failure.as_json()}
    done = conn.execute(claim_sql.FAIL, parameters).scalars().all()
    _all_ours(signal_ids, done)


def _all_ours(asked: Sequence[UUID], ours: Sequence[UUID]) -> None:
    lost = sorted(set(asked) - set(ours))
    if lost:
        raise ClaimLost(
            f"{len(lost)} of {len(asked)} signals were taken over, the first: {lost[0]}; nothing was written"
        )


def give_back(engine: Engine, token: UUID) -> tuple[UUID, ...]:
    """End a loan: a run of some assets returns token and lease; the status was never changed."""
    with engine.begin() as conn:
        return tuple(conn.execute(claim_sql.GIVE_BACK, {"token": token}).scalars())


def let_go(engine: Engine, token: UUID) -> tuple[UUID, ...]:
    """Stop politely: what is not final can be claimed by the next worker at once."""
    with engine.begin() as conn:
        return tuple(conn.execute(claim_sql.LET_GO, {"token": token}).scalars())


@dataclass(frozen=True, slots=True)
class LiveClaim:
    """A claim whose lease runs, and whether the work on any of its signals has begun."""

    claim: Claim
    started: bool


def live_claims(engine: Engine, *, claimed_by: str) -> tuple[LiveClaim, ...]:
    """The claims that `claimed_by` holds now, oldest first."""
    with engine.connect() as conn:
        rows = conn.execute(claim_sql.LIVE_CLAIMS, {"claimed_by": claimed_by}).all()
    return tuple(LiveClaim(Claim(row.claim_token, tuple(row.ids)), row.started) for row in rows)


def retry_failed(engine: Engine, *, reason: FailureReason | None = None) -> tuple[UUID, ...]:
    """A person asks: failed -> pending, attempts counted anew. `meta.failure` stays until the signal succeeds."""
    with engine.begin() as conn:
        return tuple(conn.execute(claim_sql.RETRY_FAILED, {"reason": reason}).scalars())
