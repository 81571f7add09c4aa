"""Asset checks: whether what is stored can be believed, asked every hour and cheaply (`db.quality` does the asking).

Two of them block. `features_are_complete` blocks training: a reference fitted on half of the windows would call the
other half anomalous for months. `hours_equal_recomputation` blocks forecasts: they would be wrong with narrow bands.
The others do not: a bad signal is refused by itself while it is processed, and what is late, old or out of
calibration is no reason to keep good data from anybody (docs/decisions/0094). None is partitioned: what is to be said
of one signal is said by its partition.
"""

from collections.abc import Callable
from math import exp, fsum, lgamma, log
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetKey,
    asset_check,
)
from sqlalchemy import Connection

from signal_pipeline.anomaly.models import load_latest
from signal_pipeline.db import quality, queue
from signal_pipeline.domain import FailureReason, Status
from signal_pipeline.orchestration import ops
from signal_pipeline.orchestration.models import no_drift_is_waiting
from signal_pipeline.processing.worker import Worker

WARN, ERROR = AssetCheckSeverity.WARN, AssetCheckSeverity.ERROR
NAMED = 20
ALMOST_ALL_PCT = 50
"""So many failures are no bad files any more: something is broken."""

STUCK_LEASES = 5
"""A lease is stuck when it ran out this many leases ago, and nobody has claimed its signals again."""

IMPROBABLE = 1e-3

Look = Callable[[Connection, Worker], AssetCheckResult]


def check(asset: AssetKey, *, name: str, description: str, blocking: bool = False) -> Callable[[Look], Any]:
    """An asset check that looks at the database through a connection of its own."""

    def decorate(look: Look) -> AssetChecksDefinition:
        @asset_check(
            asset=asset, name=name, description=description, blocking=blocking, required_resource_keys={"worker"}
        )
        def run(context: AssetCheckExecutionContext) -> AssetCheckResult:
            worker: Worker = context.resources.worker
            with worker.engine.connect() as conn:
                return look(conn, worker)

        return run

    return decorate


@check(
    ops.RAW_SIGNALS,
    name="few_signals_fail",
    description="Of the latest 1000 signals no more than CHECK_FAILED_PCT failed. What a person cancelled does not "
    "count. An error when half of them fail.",
)
def few_signals_fail(conn: Connection, worker: Worker) -> AssetCheckResult:
    completed, failed = quality.latest_outcomes(conn)
    failed.pop(FailureReason.CANCELLED.value, None)
    n_failed = sum(failed.values())
    share = 100 * n_failed / max(1, completed + n_failed)
    return AssetCheckResult(
        passed=share <= worker.settings.view.check_failed_pct,
        severity=ERROR if share >= ALMOST_ALL_PCT else WARN,
        metadata={"failed_pct": round(share, 2), "completed": completed, "failed": n_failed, **failed},
    )


@check(
    ops.RAW_SIGNALS,
    name="every_equipment_sends",
    description="From every equipment that ever sent a recording one came within CHECK_SILENT_HOURS.",
)
def every_equipment_sends(conn: Connection, worker: Worker) -> AssetCheckResult:
    rows = queue.arrivals(conn)
    silent = [row for row in rows if row.seconds > 3600 * worker.settings.view.check_silent_hours]
    return AssetCheckResult(
        passed=not silent,
        severity=WARN,
        metadata={
            "equipment": len(rows),
            "silent": len(silent),
            **{f"hours since {row.equipment}": round(row.seconds / 3600, 1) for row in silent[:NAMED]},
        },
    )


@check(
    ops.RAW_SIGNALS,
    name="the_queue_moves",
    description="No signal has been pending for longer than CHECK_BACKLOG_MINUTES.",
)
def the_queue_moves(conn: Connection, worker: Worker) -> AssetCheckResult:
    pending = queue.count_signals(conn)[Status.PENDING]
    seconds = queue.state(conn).oldest_pending_seconds or 0.0
    return AssetCheckResult(
        passed=seconds <= 60 * worker.settings.view.check_backlog_minutes,
        severity=WARN,
        metadata={"pending": pending, "oldest_minutes": round(seconds / 60, 1)},
    )


@check(
    ops.RAW_SIGNALS,
    name="no_lease_is_stuck",
    description="No lease ran out five lease times ago without anybody claiming its signals again: if one did, no "
    "sensor is running.",
)
def no_lease_is_stuck(conn: Connection, worker: Worker) -> AssetCheckResult:
    seconds = STUCK_LEASES * worker.settings.claims.claim_lease_seconds
    stuck = queue.expired_holders(conn, seconds=seconds)
    return AssetCheckResult(
        passed=not stuck,
        severity=ERROR,
        metadata={
            "signals": sum(holder.signals for holder in stuck),
            **{f"held by {h.name}": f"{h.signals} until {h.lease_expires_at:%Y-%m-%d %H:%M:%S}Z" for h in stuck},
        },
    )


@check(
    ops.FEATURES,
    name="features_are_complete",
    description="The latest 200 completed signals hold every window that they promise, and no NULL without a reason. "
    "Blocks training.",
    blocking=True,
)
def features_are_complete(conn: Connection, worker: Worker) -> AssetCheckResult:
    found = quality.completeness(conn)
    return AssetCheckResult(
        passed=not found.bad,
        severity=ERROR,
        metadata={
            "signals": found.signals,
            "windows_promised": found.promised,
            "windows_stored": found.stored,
            "nulls_without_reason": found.unexplained,
            "bad": found.bad[:NAMED],
        },
    )


@check(
    ops.HOURLY,
    name="hours_equal_recomputation",
    description="A few dozen hours, the newest ones among them, are what their features give when computed again. "
    "Blocks forecasts.",
    blocking=True,
)
def hours_equal_recomputation(conn: Connection, worker: Worker) -> AssetCheckResult:
    found = quality.recompute_some_hours(conn)
    bad = [f"{name} {start:%Y-%m-%d %H:%M}Z" for name, start in found.different[:NAMED]]
    metadata: dict[str, Any] = {"hours": found.hours, "different": len(found.different), "which": bad}
    return AssetCheckResult(passed=not found.different, severity=ERROR, metadata=metadata)


@check(
    ops.SCORES,
    name="alarms_are_as_rare_as_asked",
    description="Events per 1000 windows against the rate that the thresholds were calibrated for. A motor with a "
    "fault has more; when more than half of all motors have, it is the model that does not fit.",
)
def alarms_are_as_rare_as_asked(conn: Connection, worker: Worker) -> AssetCheckResult:
    models = load_latest(worker.settings.models.models_dir)
    if models is None:
        return AssetCheckResult(passed=True, severity=WARN, metadata={"streams": 0, "reason": "no_manifest"})
    over: dict[str, str] = {}
    found = [(one, models.chosen(one.equipment)) for one in quality.stream_records(conn)]
    records = [(one, c.reference) for one, c in found if c is not None and c.origin.version == one.version]
    for one, reference in records:
        if one.windows:
            asked = reference.calibration.target_false_events_per_1000
            if chance_of(one.events, expected=asked * one.windows / 1000) < IMPROBABLE:
                realised = 1000 * one.events / one.windows
                over[f"events per 1000 windows of {one.equipment}"] = f"{realised:.2f}, asked for {asked:g}"
    return AssetCheckResult(
        passed=2 * len(over) <= len(records),
        severity=WARN,
        metadata={
            "streams": len(records),
            "windows": sum(one.windows for one, _ in records),
            "events": sum(one.events for one, _ in records),
            "above_the_asked_rate": len(over),
            **dict(list(over.items())[:NAMED]),
        },
    )


def chance_of(events: int, *, expected: float) -> float:
    """The chance of at least `events` where `expected` come on average, independently (Poisson's upper tail)."""
    if events <= 0:
        return 1.0
    if expected <= 0:
        return 0.0
    return max(0.0, 1.0 - fsum(exp(k * log(expected) - expected - lgamma(k + 1)) for k in range(events)))


CHECKS = [
    few_signals_fail,
    every_equipment_sends,
    the_queue_moves,
    no_lease_is_stuck,
    features_are_complete,
    hours_equal_recomputation,
    alarms_are_as_rare_as_asked,
    no_drift_is_waiting,
]
