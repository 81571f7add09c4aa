"""Work on models: training references, the detect pass over stored features, and replaying a stream.

What a person asks for, by command or as a Dagster job; signals that pass are scored by `score`. Numerics live in
`anomaly`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import numpy as np
import structlog
from structlog.contextvars import bound_contextvars

from signal_pipeline.anomaly import stream
from signal_pipeline.anomaly.embedding import fit as fit_embedding
from signal_pipeline.anomaly.embedding import load_latest_embedding, publish_embedding
from signal_pipeline.anomaly.feature_set import DEFAULT_FEATURES
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.models import FLEET, Key, Models, load_latest, publish_models
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.tuning import Kind
from signal_pipeline.db.history import (
    Range,
    count_anomalies,
    find_equipment,
    first_of_last,
    forget_stream,
    learnable_windows,
    read_windows,
    unscored_windows,
)
from signal_pipeline.db.proposals import decide, open_proposals
from signal_pipeline.db.streams import (
    Position,
    StreamKey,
    Windows,
    lock_stream,
    read_barrier,
    read_state,
    write_scores,
)
from signal_pipeline.errors import ManifestError
from signal_pipeline.processing.events import join_events
from signal_pipeline.processing.signal_work import current_version
from signal_pipeline.processing.streams import Stream, fresh_state, learn, new_scores
from signal_pipeline.processing.worker import Worker, retrying

log = structlog.get_logger(__name__)

KINDS: tuple[Kind, ...] = ("stream", "stats")
CHUNK = 5000


@dataclass(frozen=True, slots=True)
class Trained:
    """A new version, how many windows each equipment gave to it, and why an equipment could give none."""

    models: Models
    windows: dict[str, int]
    refused: dict[str, str]


def train(
    worker: Worker,
    *,
    equipment: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Trained:
    """Fit references on the stored windows of healthy recordings, and make them the latest version.

    Each equipment gets its own; the fleet's default is fitted on all of them together when all are trained or there is
    none yet. References of other equipment are kept. Raises `ValueError` for equipment that does not exist, and
    `ManifestError` if nothing could be fitted or another training was faster.
    """
    parent = load_latest(worker.settings.models.models_dir)
    version = current_version(worker.settings.features)
    wanted = Range(DEFAULT_FEATURES, version, start, end)
    chosen = _healthy(worker, equipment, wanted)
    references: dict[Key, Reference] = {}
    refused: dict[str, str] = {}
    for name, windows in chosen.items():
        try:
            references |= {(name, kind): _fit([windows], kind) for kind in KINDS}
        except ValueError as error:
            refused[name] = str(error)
    if equipment is None or parent is None or parent.references.get((FLEET, "stream")) is None:
        pooled = [windows for windows in chosen.values() if len(windows)]
        try:
            references |= {(FLEET, kind): _fit(pooled, kind) for kind in KINDS}
        except ValueError as error:
            refused["(fleet)"] = str(error)
    if not references:
        why = "".join(f"\n  {name}: {reason}" for name, reason in refused.items())
        raise ManifestError(f"nothing to train on: {why or 'no stored windows in this range'}")
    models = publish_models(
        worker.settings.models.models_dir,
        references=references,
        features=DEFAULT_FEATURES,
        feature_version=version,
        parent=parent,
        training={"equipment": sorted(chosen), "from": _iso(start), "to": _iso(end)},
        now=datetime.now(UTC),
    )
    _train_embedding(worker, [windows for windows in chosen.values() if len(windows)], version, refused)
    log.info("models.trained", version=models.version, equipment=len(chosen), refused=len(refused))
    return Trained(models, {name: len(windows) for name, windows in chosen.items()}, refused)


def _train_embedding(worker: Worker, parts: Sequence[Windows], version: str, refused: dict[str, str]) -> None:
    """The fleet's embedding, on the same windows; once there is one for these features, it stays (vectors compare)."""
    models_dir = worker.settings.models.models_dir
    parent = load_latest_embedding(models_dir)
    if parent is not None and parent.feature_version == version:
        return
    try:
        found = fit_embedding(DEFAULT_FEATURES, np.concatenate([part.values for part in parts]))
    except ValueError as error:
        refused["(embedding)"] = str(error)
        return
    publish_embedding(
        models_dir,
        found,
        feature_version=version,
        parent=None if parent is None else parent.version,
        training={"windows": sum(len(part) for part in parts)},
        now=datetime.now(UTC),
    )


def accept(worker: Worker, proposal_id: int) -> Trained:
    """Train a new reference on the last windows of a drifted motor, because a person says that it is healthy.

    As many windows as its stream had seen when the drift was noticed. Raises `ValueError` if the proposal is not open.
    """
    with worker.engine.connect() as conn:
        found = next((p for p in open_proposals(conn) if p.id == proposal_id), None)
        if found is None:
            raise ValueError(f"proposal {proposal_id} is not open")
        start = first_of_last(conn, found.equipment, int(found.evidence["windows"]))
    trained = train(worker, equipment=[found.equipment], start=start)
    with worker.engine.begin() as conn:
        decide(conn, proposal_id, accepted=True)
    return trained


def _healthy(worker: Worker, equipment: Sequence[str] | None, wanted: Range) -> dict[str, Windows]:
    with worker.engine.connect() as conn:
        ids = find_equipment(conn, equipment)
        return {name: read_windows(conn, i, wanted, limit=1_000_000) for name, i in ids.items()}


def _fit(parts: Sequence[Windows], kind: Kind) -> Reference:
    if not parts:
        raise ValueError("no stored windows in this range")
    together = [_recording_by_recording(part) for part in parts]
    values = np.concatenate([part.values[rows] for part, rows in zip(parts, together, strict=True)])
    recordings = [str(part.raw_ids[row]) for part, rows in zip(parts, together, strict=True) for row in rows]
    return fit(DEFAULT_FEATURES, values, recordings, kind=kind)


def _recording_by_recording(part: Windows) -> list[int]:
    """Rows of stored windows with each recording's together, in the order in which the recordings begin.

    Stream order is that already, unless recordings overlap: files copied at once, whose time is that of the copy.
    """
    begins: dict[UUID, int] = {}
    for row, raw_id in enumerate(part.raw_ids):
        begins.setdefault(raw_id, row)
    return sorted(range(len(part)), key=lambda row: begins[part.raw_ids[row]])


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


@dataclass(frozen=True, slots=True)
class Rescored:
    """What a pass over stored windows wrote for one equipment."""

    windows: int
    anomalies: int


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
    return {
        name: retrying(lambda one=one: _detect(worker, one, wanted))  # type: ignore[misc]
        for name, one in _streams(worker, models, "stats", equipment)
    }


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
            rows = new_scores(windows, scores, online=False)
            write_scores(conn, one.key, rows)
            first = first or (rows[0].window_start if rows else None)
            after = windows.end
            found = Rescored(found.windows + len(rows), found.anomalies + sum(row.is_anomaly for row in rows))
        if first is not None:
            join_events(conn, one, first=first)
    return found


def rescore(worker: Worker, *, equipment: Sequence[str]) -> dict[str, Rescored]:
    """Replay the stored windows of each equipment in time order, as if none had ever been late.

    One transaction an equipment, under its stream's lock: readers see the old scores, then the new ones. Signals whose
    run is under way and those whose re-run failed take part with the windows that they have stored.
    """
    models = _require_models(worker)
    wanted = Range(models.features, models.feature_version)
    found = {}
    for name, one in _streams(worker, models, "stream", equipment):
        with bound_contextvars(equipment=name):
            found[name] = retrying(partial(_rescore, worker, models, one, wanted))
    return found


def _rescore(worker: Worker, models: Models, one: Stream, wanted: Range) -> Rescored:
    with worker.engine.begin() as conn:
        lock_stream(conn, one.key)
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
        count = 0
        while len(windows := next_ones(after=state.position)):
            state = learn(conn, one, state, windows)
            count += len(windows)
        anomalies = count_anomalies(conn, one.key)
    return Rescored(count, anomalies)


def _require_models(worker: Worker) -> Models:
    models = load_latest(worker.settings.models.models_dir)
    if models is None:
        raise ManifestError(f"no model in {worker.settings.models.models_dir}: run `signal-pipeline train` first")
    version = current_version(worker.settings.features)
    if models.feature_version != version:
        raise ManifestError(
            f"model {models.version} was trained on features of version {models.feature_version}, and the settings "
            f"compute {version}: train again"
        )
    return models


def _streams(
    worker: Worker, models: Models, kind: Kind, equipment: Sequence[str] | None
) -> Iterator[tuple[str, Stream]]:
    with worker.engine.connect() as conn:
        ids: dict[str, UUID] = find_equipment(conn, equipment)
    settings = worker.settings
    for name, equipment_id in ids.items():
        reference = models.reference(name, kind)
        if reference is None:
            log.warning("equipment.without_reference", equipment=name, kind=kind)
            continue
        key = StreamKey(equipment_id, kind, models.version)
        window = timedelta(milliseconds=settings.features.window_ms)
        # the setting is on the scale of `stream`, and `stats` has another one (docs/decisions/0107)
        threshold = settings.models.anomaly_threshold if kind == "stream" else None
        yield name, Stream(key, reference, threshold, window)
