"""The ops: claim, extract, summarize, diagnose, score, finalize. Each calls a step of `processing` and tells Dagster.

All of them: run under a heartbeat, log a materialization for every signal that went through, yield `data` only if a
later op was selected, and never yield `asset` (a yielded asset output would materialize the whole range). The last op
of the run (which one that is depends on the selection) concludes it: see `conclusion`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import structlog
from dagster import AssetKey, AssetMaterialization, In, OpExecutionContext, Out, Output, op
from structlog.contextvars import bound_contextvars

from signal_pipeline.db import claims
from signal_pipeline.errors import ClaimLost
from signal_pipeline.orchestration.conclusion import concluding
from signal_pipeline.orchestration.events import log_materializations
from signal_pipeline.orchestration.plots import how_many, signal_pictures
from signal_pipeline.orchestration.run_state import CLAIM_TAG, RunState, sensor_token
from signal_pipeline.processing.batch import Batch, Outcome, Outcomes
from signal_pipeline.processing.diagnose import diagnose_batch
from signal_pipeline.processing.extract import extract_batch, validate_batch
from signal_pipeline.processing.finalize import complete_batch
from signal_pipeline.processing.heartbeat import Heartbeat
from signal_pipeline.processing.score import score_batch
from signal_pipeline.processing.stored import count_stored, require_features, summarize_stored
from signal_pipeline.processing.worker import Worker, retrying

log = structlog.get_logger(__name__)

RAW_SIGNALS = AssetKey("raw_signals")
FEATURES = AssetKey("features")
HOURLY = AssetKey("hourly_feature_summary")
DIAGNOSTICS = AssetKey("signal_diagnostics")
SCORES = AssetKey("anomaly_scores")
PER_SIGNAL = (RAW_SIGNALS, FEATURES, HOURLY, DIAGNOSTICS, SCORES)

DATA = Out(RunState, is_required=False)
ASSET = Out(is_required=False)
RESOURCES = {"worker"}
Results = Iterator[Output[RunState]]


def selected(context: OpExecutionContext, key: AssetKey) -> bool:
    return key in context.selected_asset_keys


def is_whole(context: OpExecutionContext) -> bool:
    """Whether the run makes every per-signal asset, and so owns the signals' status."""
    return set(PER_SIGNAL) <= set(context.selected_asset_keys)


def tell(
    context: OpExecutionContext,
    key: AssetKey,
    done: Mapping[UUID, Outcome],
    *,
    pictured: int,
    since: float | None = None,
) -> None:
    """A materialization of `key` for each signal, if the run was asked for it; `pictured` of them with pictures.

    `since`: when the step began (`perf_counter`), where nobody has measured each signal by itself.
    """
    if not selected(context, key):
        return
    shared = {} if since is None else {"seconds_of_batch": round(perf_counter() - since, 3), "batch": len(done)}
    pictures = signal_pictures(context.resources.worker, key.to_python_identifier(), done, pictured)
    log_materializations(
        context,
        [
            AssetMaterialization(key, partition=str(i), metadata={**o.details, **shared, **pictures.get(i, {})})
            for i, o in done.items()
        ],
    )


def step(
    context: OpExecutionContext, state: RunState, work: Callable[[Worker, RunState], RunState]
) -> Iterator[Output[RunState]]:
    """Do `work` under a heartbeat; then hand on, or conclude the run if no later op was selected."""
    worker: Worker = context.resources.worker
    is_last = "data" not in context.selected_output_names
    began = perf_counter()
    said = {"run": context.run_id, "claim": str(state.batch.token)}
    with bound_contextvars(**said), concluding(context, worker, state.batch) as conclude:
        if state.alive:
            with Heartbeat(worker.engine, state.batch.token, lease_seconds=worker.settings.claims.claim_lease_seconds):
                state = work(worker, state)
        log.info(
            "step.done",
            step=context.op.name,
            **said,
            signals=len(state.alive),
            failed=len(state.failed),
            seconds=round(perf_counter() - began, 3),
        )
        if is_last:
            conclude(state)
    if not is_last:
        yield Output(state, "data")


@op(
    out={"data": DATA, "asset": ASSET},
    required_resource_keys=RESOURCES,
    description="Verifies the claim under which the sensor started this run, or claims what a person asked for.",
)
def claim_signals(context: OpExecutionContext) -> Results:
    worker: Worker = context.resources.worker
    yield from step(context, take(context, worker), _validate_if_asked_alone(context))


def take(context: OpExecutionContext, worker: Worker) -> RunState:
    """The signals of this run: those of its partitions that carry its token."""
    token = sensor_token(context.run)
    asked = tuple(context.partition_keys)
    if token is not None:
        held = {str(i): i for i in retrying(lambda: claims.held(worker.engine, token)).signal_ids}
        mine = tuple(held[key] for key in asked if key in held)
        if not mine:
            raise ClaimLost(f"none of the {len(asked)} signals of this run carries its claim {token} any more")
        return RunState(Batch(token, mine), alive=mine)
    return _take_requested(context, worker, asked)


def _take_requested(context: OpExecutionContext, worker: Worker, asked: tuple[str, ...]) -> RunState:
    ids, refused = _signal_ids(asked)
    whole = is_whole(context)
    # The tag first: the sensor must not meet a claim of this instance that no run seems to own.
    token = uuid4()
    context.instance.add_run_tags(context.run_id, {CLAIM_TAG: str(token)})
    got = claims.claim_requested(
        worker.engine, ids, token=token, settings=worker.settings.claims, claimed_by=worker.name, whole=whole
    )
    refused |= {str(i): reason for i, reason in got.refused.items()}
    for key, reason in refused.items():
        context.log.warning(f"{key} {reason}")
    batch = Batch(token, got.claim.signal_ids, whole=whole, recompute=True)
    pictured = how_many(worker.settings.view, batch, samples=0)
    return RunState(batch, alive=batch.signal_ids, refused=refused, pictured=pictured)


def _signal_ids(keys: tuple[str, ...]) -> tuple[list[UUID], dict[str, str]]:
    ids: list[UUID] = []
    refused: dict[str, str] = {}
    for key in keys:
        try:
            signal_id = UUID(key)
        except ValueError:
            signal_id = None
        # Other spellings of a UUID would be worked on, and the partition of that name would stay empty.
        if signal_id is None or str(signal_id) != key:
            refused[key] = "is not a signal's id (a UUID of raw_signals, in lower case)"
        else:
            ids.append(signal_id)
    return ids, refused


def _validate_if_asked_alone(context: OpExecutionContext) -> Callable[[Worker, RunState], RunState]:
    """`raw_signals` without `features`: load and validate only. Else extraction validates on its way."""

    def work(worker: Worker, state: RunState) -> RunState:
        if not selected(context, RAW_SIGNALS) or selected(context, FEATURES):
            return state
        outcomes = validate_batch(worker, state.batch)
        tell(context, RAW_SIGNALS, outcomes.done, pictured=state.pictured)
        return state.after(outcomes)

    return work


@op(
    ins={"claimed": In(RunState)},
    out={"data": DATA, "asset": ASSET},
    required_resource_keys=RESOURCES,
    description="Loads, validates and extracts all windows of all phases at once; stores features and hours.",
)
def extract(context: OpExecutionContext, claimed: RunState) -> Results:
    def work(worker: Worker, state: RunState) -> RunState:
        if not selected(context, FEATURES):
            return state
        outcomes = extract_batch(worker, state.batch, selected(context, DIAGNOSTICS))
        samples = sum(one.details.get("samples", 0) for one in outcomes.done.values())
        state = replace(state, pictured=how_many(worker.settings.view, state.batch, samples=samples))
        tell(context, RAW_SIGNALS, outcomes.done, pictured=state.pictured)
        tell(context, FEATURES, outcomes.done, pictured=state.pictured)
        return state.after(outcomes)

    yield from step(context, claimed, work)


@op(
    ins={"extracted": In(RunState)},
    out={"data": DATA, "asset": ASSET},
    required_resource_keys=RESOURCES,
    description="Hours are recomputed with the features; asked for alone, recomputes the hours these signals touch.",
)
def summarize(context: OpExecutionContext, extracted: RunState) -> Results:
    def work(worker: Worker, state: RunState) -> RunState:
        if not selected(context, HOURLY):
            return state
        extracted, began = selected(context, FEATURES), perf_counter()
        outcomes = hours_touched(worker, state) if extracted else summarize_stored(worker, state.batch, state.alive)
        tell(context, HOURLY, outcomes.done, pictured=state.pictured, since=began)
        return state.after(outcomes)

    yield from step(context, extracted, work)


def hours_touched(worker: Worker, state: RunState) -> Outcomes:
    """What extraction has summarised already, to be told."""
    told = {"summary": "recomputed with the features"}
    return Outcomes(done={i: Outcome(told | o.details) for i, o in count_stored(worker, state.alive).items()})


@op(
    ins={"summarized": In(RunState)},
    out={"data": DATA, "asset": ASSET},
    required_resource_keys=RESOURCES,
    description="Diagnoses each recording as a whole; a split file with the last of its batches.",
)
def diagnose(context: OpExecutionContext, summarized: RunState) -> Results:
    def work(worker: Worker, state: RunState) -> RunState:
        if not selected(context, DIAGNOSTICS):
            return state
        began = perf_counter()
        outcomes = diagnose_batch(worker, state.batch, state.alive, state.diagnosed)
        tell(context, DIAGNOSTICS, outcomes.done, pictured=state.pictured, since=began)
        return state.after(outcomes)

    yield from step(context, summarized, work)


@op(
    ins={"diagnosed": In(RunState)},
    out={"data": DATA},
    required_resource_keys=RESOURCES,
    description="Scores the stored windows with the latest model; quiet when there is none.",
)
def score(context: OpExecutionContext, diagnosed: RunState) -> Results:
    def work(worker: Worker, state: RunState) -> RunState:
        began = perf_counter()
        stored = require_features(worker, state.alive) if not selected(context, FEATURES) else None
        alive = state.alive if stored is None else tuple(stored.done)
        outcomes = score_batch(worker, state.batch, alive)
        outcomes.failed |= {} if stored is None else stored.failed
        tell(context, SCORES, outcomes.done, pictured=state.pictured, since=began)
        return state.after(outcomes)

    yield from step(context, diagnosed, work)


@op(
    ins={"scored": In(RunState)},
    out={"asset": ASSET},
    required_resource_keys=RESOURCES,
    description="Completes the signals; fails the run if any signal failed, so that exactly those partitions show it.",
)
def finalize(context: OpExecutionContext, scored: RunState) -> Iterator[Output[Any]]:
    def work(worker: Worker, state: RunState) -> RunState:
        failed = complete_batch(worker, state.batch, state.alive) if state.batch.whole else {}
        return replace(state, alive=tuple(i for i in state.alive if i not in failed), failed=state.failed | failed)

    yield from step(context, scored, work)
