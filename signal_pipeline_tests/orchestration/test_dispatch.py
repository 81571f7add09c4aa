"""What a tick decides, as a table: no database, no Dagster."""

from uuid import UUID

import pytest

from signal_pipeline.db.claims import Claim, OwnClaim
from signal_pipeline.orchestration.dispatch import Plan, RunStage, plan

A, B, C = (UUID(int=n) for n in (1, 2, 3))


def claim(token: UUID) -> Claim:
    return Claim(token, (UUID(int=token.int * 100),))


def live(token: UUID) -> OwnClaim:
    return OwnClaim(claim(token), is_live=True, is_due=False)


def due(token: UUID) -> OwnClaim:
    return OwnClaim(claim(token), is_live=True, is_due=True)


def expired(token: UUID) -> OwnClaim:
    return OwnClaim(claim(token), is_live=False, is_due=True)


NOTHING = Plan(ask_again=(), keep_alive=(), cancel=(), new_batches=2)


@pytest.mark.parametrize(
    ("own", "runs", "expected"),
    [
        pytest.param([], {}, NOTHING, id="an empty instance fills all slots"),
        pytest.param([live(A)], {}, Plan((claim(A),), (), (), 1), id="a live claim without a run is asked for again"),
        pytest.param([expired(A)], {}, NOTHING, id="an expired claim without a run is left to the next fetch"),
        pytest.param(
            [due(A)], {A: RunStage.WAITING}, Plan((), (A,), (), 1), id="a waiting claim is kept alive and takes a slot"
        ),
        pytest.param(
            [live(A)], {A: RunStage.WAITING}, Plan((), (), (), 1), id="but not renewed while most of its lease is left"
        ),
        pytest.param(
            [expired(A)], {A: RunStage.WAITING}, Plan((), (A,), (), 1), id="even if it ran out: nobody has taken it yet"
        ),
        pytest.param([live(A)], {A: RunStage.RUNNING}, NOTHING, id="a running claim takes care of itself"),
        pytest.param([live(A)], {A: RunStage.OVER}, NOTHING, id="what a dead run left behind waits for its lease"),
        pytest.param(
            [live(A)], {A: RunStage.CANCELLED}, Plan((), (), (A,), 2), id="what a cancelled run left is cancelled"
        ),
        pytest.param(
            [due(A), live(B)], {A: RunStage.WAITING}, Plan((claim(B),), (A,), (), 0), id="two unstarted fill two slots"
        ),
        pytest.param(
            [due(A), due(B), due(C)],
            {A: RunStage.WAITING, B: RunStage.WAITING, C: RunStage.WAITING},
            Plan((), (A, B, C), (), 0),
            id="room is never negative",
        ),
        pytest.param([], {A: RunStage.WAITING}, NOTHING, id="runs of claims that are not ours say nothing"),
    ],
)
def test_a_plan_sorts_the_instances_claims(own: list[OwnClaim], runs: dict[UUID, RunStage], expected: Plan) -> None:
    assert plan(own, runs, max_runs=2) == expected
