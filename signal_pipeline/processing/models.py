"""Work with models on what is stored: the detect pass over features, and replaying a stream.

What a person asks for, by command or as a Dagster job; signals that pass are scored by `score`. Numerics live in
`anomaly`, training in `training`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import structlog
from structlog.contextvars import bound_contextvars

from signal_pipeline.anomaly import stream
from signal_pipeline.anomaly.models import Models, load_latest, load_version
from signal_pipeline.anomaly.tuning import Kind
from signal_pipeline.counted import counted
from signal_pipeline.db import counters
from signal_pipeline.db.history import (
    Range,
    count_anomalies,
    date_back,
    find_equipment,
    forget_stream,
    learnable_windows,
    moved_at,
    unscored_windows,
)
from signal_pipeline.db.streams import Position, lock_stream, read_barrier, read_state, write_scores
from signal_pipeline.errors import ManifestError
from signal_pipeline.processing.events import join_events
from signal_pipeline.processing.signal_work import current_version
from signal_pipeline.processing.streams import Stream, Written, fresh_state, learn, leave_others, new_scores, stream_of
from signal_pipeline.processing.worker import Worker, retrying

log = structlog.get_logger(__name__)

CHUNK = 5000
NO_REFERENCE = (
    "model {version} has no reference of it, and no default for the fleet: `signal-pipeline train --equipment {name}`"
)


@dataclass(frozen=True, slots=True)
class Rescored:
    """What a pass over stored windows wrote for one equipment, and under which version; whether the fleet's reference
    had to do. `refused` says why nothing was written."""

    windows: int
    anomalies: int
    version: str | None = None
    is_fleet: bool = False
    refused: str | None = None

    def __str__(self) -> str:
        if self.refused is not None:
            return self.refused
        told = f"{counted(self.windows, 'window')} scored, {self.anomalies} anomalous"
        return f"{told}, by the fleet's reference" if self.is_fleet else told


def detect(
    worker: Worker,
    *,
    equipment: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> dict[str, Rescored]:
    """Score stored windows that `stats` has not scored yet, each for itself; a second pass adds nothing.

    Anomalous windows are joined to events, the same ones whatever ranges were asked for, and in which order.

    Raises `ManifestError` if there is no model, or it was trained on other features.
    """
    models = _require_models(worker)
    wanted = Range(models.features, models.feature_version, start, end)
    return _passed(worker, models, "stats", equipment, lambda _name, one: _detect(worker, one, wanted))


def _detect(worker: Worker, one: Stream, wanted: Range) -> Rescored:
    """In one transaction: a pass that dies has written nothing, and no score stands without its events."""
    found = Rescored(0, 0)
    after: Position | None = None
    first: datetime | None = None
    with worker.engine.begin() as conn:
        lock_stream(conn, one.key)
        while len(windows := unscored_windows(conn, one.key, wanted, after=after, limit=CHUNK)):
            state = stream.start(one.reference)
            scores, _ = stream.score(one.reference, state, windows.values, threshold=one.threshold)
            rows = new_scores(windows, scores, is_fleet=one.is_fleet, online=False)
            write_scores(conn, one.key, rows)
            first = first or (rows[0].window_start if rows else None)
            after = windows.end
            found = Rescored(found.windows + len(rows), found.anomalies + sum(row.is_anomaly for row in rows))
        if first is not None:
            join_events(conn, one, first=first)
    return found


def rescore(worker: Worker, *, equipment: Sequence[str], version: str | None = None) -> dict[str, Rescored]:
    """Replay the stored windows of each equipment in time order, as if none had ever been late.

    Under model `version`, or the latest; the scores of other versions stay as they are. One transaction an equipment,
    under its stream's lock: readers see the old scores, then the new ones. Signals whose run is under way and those
    whose re-run failed take part with the windows that they have stored. Raises `ManifestError`, with the versions
    there are, for one that is not there, is refused, or was trained on other features; and for a latest one to which
    the motors could not go back.
    """
    models = _require_models(worker, version)
    in_use = models if version is None else load_latest(worker.settings.models.models_dir)
    wanted = Range(models.features, models.feature_version)

    def replay(name: str, one: Stream) -> Rescored:
        chosen = None if in_use is None else in_use.chosen(name)
        moves = chosen is not None and chosen.origin.version == one.key.version
        return _rescore(worker, models, one, wanted, moves=moves)

    found = _passed(worker, models, "stream", equipment, replay)
    if version is not None and in_use is not None:
        leave_others(worker.engine, in_use)  # nothing moves on what an earlier version left open
    return found


def _rescore(worker: Worker, models: Models, one: Stream, wanted: Range, *, moves: bool) -> Rescored:
    """`moves`: the stream is the one in use. Any other says after its replay, too, that it was moved when it was, or
    what waits in the one that was in use would seem to have been learnt by it."""
    with worker.engine.begin() as conn:
        lock_stream(conn, one.key)
        before = moved_at(conn, one.key) or one.since
        known = read_state(conn, one.key)
        learnt = known.position.window_start if known is not None and known.position is not None else None
        # As scoring does, up to the first signal that has yet to bring its windows: from there on whoever finishes it
        # goes on. But what was learnt already must not lose its score, and a stream that is new takes all there is.
        barrier = None
        if learnt is not None:
            barrier = read_barrier(conn, one.key.equipment_id, feature_version=wanted.feature_version)
        next_ones = partial(
            learnable_windows, conn, one.key.equipment_id, wanted, barrier=barrier, learnt=learnt, limit=CHUNK
        )
        forget_stream(conn, one.key)
        state = fresh_state(models, one.reference)
        count, written = 0, Written()
        while len(windows := next_ones(after=state.position)):
            state, more = learn(conn, one, state, windows)
            count, written = count + len(windows), written + more
        if not moves:
            date_back(conn, one.key, before)
        anomalies = count_anomalies(conn, one.key)
        counters.add(conn, written.totals())
    return Rescored(count, anomalies)


def _require_models(worker: Worker, version: str | None = None) -> Models:
    models_dir = worker.settings.models.models_dir
    models = load_latest(models_dir) if version is None else load_version(models_dir, version)
    if models is None:
        raise ManifestError(f"no model in {models_dir}: run `signal-pipeline train` first")
    computed = current_version(worker.settings.features)
    if models.feature_version != computed:
        raise ManifestError(
            f"model {models.version} was trained on features of version {models.feature_version}, and the settings "
            f"compute {computed}: train again"
        )
    return models


def _passed(
    worker: Worker,
    models: Models,
    kind: Kind,
    equipment: Sequence[str] | None,
    one_pass: Callable[[str, Stream], Rescored],
) -> dict[str, Rescored]:
    """What `one_pass` wrote for each equipment; and that nothing was written for one without a reference."""
    with worker.engine.connect() as conn:
        ids = find_equipment(conn, equipment)
    passed: dict[str, Rescored] = {}
    for name, equipment_id in ids.items():
        chosen = models.chosen(name, kind)
        if chosen is None:
            passed[name] = Rescored(0, 0, refused=NO_REFERENCE.format(version=models.version, name=name))
            log.warning("equipment.without_reference", equipment=name, kind=kind)
            continue
        one = stream_of(equipment_id, kind, chosen, worker.settings)
        with bound_contextvars(equipment=name):
            found = retrying(partial(one_pass, name, one))
        passed[name] = replace(found, version=one.key.version, is_fleet=one.is_fleet)
    return passed
