"""Training references on what a person calls healthy.

Here: whose windows are learnt, what is kept of the version before, and what is told of it. Not here: numerics
(`anomaly`), scoring, what a drifted motor proposes (`proposals`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import structlog

from signal_pipeline.anomaly import embedding as embeddings
from signal_pipeline.anomaly import manifest
from signal_pipeline.anomaly import models as anomaly_models
from signal_pipeline.anomaly.feature_set import DEFAULT_FEATURES
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.models import FLEET, Key, Models, kept_from, load_latest, publish_models, use_version
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.tuning import Kind
from signal_pipeline.db.history import Range, find_equipment
from signal_pipeline.db.lessons import Lesson, read_lesson
from signal_pipeline.errors import ManifestError
from signal_pipeline.processing.signal_work import current_version
from signal_pipeline.processing.streams import leave_others
from signal_pipeline.processing.worker import Worker

log = structlog.get_logger(__name__)

KINDS: tuple[Kind, ...] = ("stream", "stats")
MAX_WINDOWS = 50_000
"""So many windows teach one reference at most: 21 MB at 54 features. More of them are of the same recordings' days."""
MIN_FLEET = 2
"""One motor is no fleet: another one would be judged by its peculiarities."""
FLEET_NAME, EMBEDDING_NAME = "(fleet)", "(embedding)"


@dataclass(frozen=True, slots=True)
class Trained:
    """A new version: how many windows each equipment gave to it, and how many of the range it did not for want of
    room; why an equipment, the fleet or the embedding could not be fitted; and what else a person should know."""

    models: Models
    windows: dict[str, int]
    left_out: dict[str, int]
    refused: dict[str, str]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class _Taught:
    """What came of the lessons: references, a bounded share of all windows for what belongs to all, and counts."""

    references: dict[Key, Reference]
    pool: list[Lesson]
    windows: dict[str, int]
    left_out: dict[str, int]
    refused: dict[str, str]


def train(
    worker: Worker,
    *,
    equipment: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Trained:
    """Fit references on the stored windows of healthy recordings, and make them the latest version.

    Each equipment gets its own. The fleet's default is fitted on two or more together, when all are trained or there is
    none for today's features; otherwise it stays. References of other equipment stay, too, with their streams; unless
    they are of other features, which is told, as is a version before that cannot be read. Raises `ValueError` for
    equipment that does not exist, and `ManifestError` if nothing could be fitted or another training was faster.
    """
    models_dir, version = worker.settings.models.models_dir, current_version(worker.settings.features)
    replaces = manifest.latest_version(models_dir / anomaly_models.FOLDER)
    parent, notes = _parent(models_dir)
    old = kept_from(parent, DEFAULT_FEATURES, version)
    taught = _teach(worker, equipment, Range(DEFAULT_FEATURES, version, start, end))
    if equipment is None or (FLEET, "stream") not in old:
        notes += _fit_fleet(taught, is_there=(FLEET, "stream") in old)
    if not taught.references:
        why = "".join(f"\n  {name}: {reason}" for name, reason in taught.refused.items())
        raise ManifestError(f"nothing to train on: {why or 'no stored windows in this range'}")
    models = publish_models(
        models_dir,
        references=taught.references,
        features=DEFAULT_FEATURES,
        feature_version=version,
        parent=parent,
        replaces=replaces,
        training={"equipment": sorted(taught.windows), "from": _iso(start), "to": _iso(end)},
        now=datetime.now(UTC),
    )
    notes += _dropped(parent, models)
    notes += _train_embedding(models_dir, taught, version)
    leave_others(worker.engine, models)
    log.info("models.trained", version=models.version, equipment=len(taught.windows), refused=len(taught.refused))
    return Trained(models, taught.windows, taught.left_out, taught.refused, notes)


def _parent(models_dir: Path) -> tuple[Models | None, list[str]]:
    """The version to build on; none, and a word about it, where the latest cannot be trusted."""
    try:
        return load_latest(models_dir), []
    except ManifestError as error:
        return None, [f"the version before is refused, and nothing of it is kept: {error}"]


def _teach(worker: Worker, equipment: Sequence[str] | None, wanted: Range) -> _Taught:
    """One equipment after the other, so that no more than one motor's windows are held beside the pool."""
    with worker.engine.connect() as conn:
        ids = find_equipment(conn, equipment)
    taught = _Taught({}, [], {}, {}, {})
    for name, equipment_id in ids.items():
        with worker.engine.connect() as conn:
            lesson = read_lesson(conn, equipment_id, wanted, limit=MAX_WINDOWS)
        taught.windows[name] = len(lesson)
        if lesson.left_out:
            taught.left_out[name] = lesson.left_out
        try:
            taught.references.update({(name, kind): _fit([lesson], kind) for kind in KINDS})
        except ValueError as error:
            taught.refused[name] = str(error)
        if len(lesson):
            taught.pool.append(lesson.thinned(MAX_WINDOWS // len(ids)))
    return taught


def _fit_fleet(taught: _Taught, *, is_there: bool) -> list[str]:
    """Add the fleet's references; returns what to say if there are none."""
    if len(taught.pool) < MIN_FLEET:
        return [] if is_there else ["no default for the fleet: it takes two motors or more, trained together"]
    try:
        taught.references.update({(FLEET, kind): _fit(taught.pool, kind) for kind in KINDS})
    except ValueError as error:
        taught.refused[FLEET_NAME] = str(error)
    return []


def _fit(lessons: Sequence[Lesson], kind: Kind) -> Reference:
    values = np.concatenate([lesson.values for lesson in lessons])
    recordings = [name for lesson in lessons for name in lesson.recordings]
    if not recordings:
        raise ValueError("no stored windows in this range")
    return fit(DEFAULT_FEATURES, values, recordings, kind=kind)


def _dropped(parent: Models | None, models: Models) -> list[str]:
    """Whose references the new version has no more: they were of other features."""
    if parent is None:
        return []
    names = sorted({name or FLEET_NAME for name, _ in set(parent.references) - set(models.references)})
    if not names:
        return []
    return [
        f"dropped, because they were fitted on features of version {parent.feature_version}, and the settings compute "
        f"{models.feature_version}: {', '.join(names)}; train them again"
    ]


def _train_embedding(models_dir: Path, taught: _Taught, version: str) -> list[str]:
    """The fleet's embedding, on the same windows; once there is one for these features, it stays (vectors compare).

    It is beside the point of the training: what keeps it from being made is told, and no error.
    """
    replaces, notes = manifest.latest_version(models_dir / embeddings.FOLDER), []
    try:
        parent = embeddings.load_latest_embedding(models_dir)
    except ManifestError as error:
        parent, notes = None, [f"the embedding before is refused, and made anew: {error}"]
    if parent is not None and parent.feature_version == version:
        return notes
    try:
        found = embeddings.fit(DEFAULT_FEATURES, np.concatenate([lesson.values for lesson in taught.pool]))
        embeddings.publish_embedding(
            models_dir,
            found,
            feature_version=version,
            parent=None if parent is None else parent.version,
            replaces=replaces,
            training={"windows": sum(len(lesson) for lesson in taught.pool)},
            now=datetime.now(UTC),
        )
    except (ValueError, ManifestError) as error:
        taught.refused[EMBEDDING_NAME] = str(error)
    return notes


def go_back(worker: Worker, version: str) -> Models:
    """Make an earlier version the latest again. Its streams go on from where they stand. Raises `ManifestError`, with
    the versions there are, for one that is not there or is refused."""
    models = use_version(worker.settings.models.models_dir, version)
    leave_others(worker.engine, models)
    log.info("models.switched", version=models.version)
    return models


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
