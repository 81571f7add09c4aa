"""Which signals of a run get pictures, and what these show: from stored rows to metadata in Dagster's UI.

A sample only: the pictures of one signal cost as much as the whole work on fifty to a hundred recordings of ten
seconds. Best effort: a picture that cannot be drawn is logged, says so in its place, and fails nothing. Drawing itself
is in `pictures`, which needs the extra `plots`; without it the metadata say so. Not here: the report (`report`).
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from uuid import UUID

import structlog
from dagster import MetadataValue
from dagster._core.definitions.metadata import MetadataValue as AnyMetadata

from signal_pipeline.anomaly.models import Models
from signal_pipeline.orchestration.drawings import (
    Drawing,
    draw_equipment_hours,
    draw_features,
    draw_healthy,
    draw_hours,
    draw_scores,
    draw_spectrum,
    draw_waveform,
)
from signal_pipeline.processing.batch import Batch, Outcome
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ViewSettings

log = structlog.get_logger(__name__)

INSTALL = "no pictures: matplotlib is not installed (`uv sync --extra plots`, or pip install 'signal-pipeline[plots]')"

Metadata = dict[str, AnyMetadata]

SHARE = 0.05

SIGNAL_IN_SAMPLES = 24_000_000
"""What a signal's pictures, and importing what draws them, cost: as much as the work on so many samples of a phase,
by the slower of both clocks (`benchmarks/pictures.py`): drawing has one thread, and extraction several."""

PICTURED: Mapping[str, tuple[str, Callable[[Worker, UUID, Outcome], Drawing | None]]] = {
    "raw_signals": ("waveform", lambda worker, signal_id, _: draw_waveform(worker, signal_id)),
    "features": ("features over time", lambda worker, signal_id, _: draw_features(worker, signal_id)),
    "hourly_feature_summary": ("hourly trend", lambda worker, signal_id, _: draw_hours(worker, signal_id)),
    "signal_diagnostics": ("spectrum", lambda worker, signal_id, _: draw_spectrum(worker, signal_id)),
    "anomaly_scores": (
        "score",
        lambda worker, signal_id, outcome: draw_scores(worker, signal_id, str(outcome.details.get("model_version"))),
    ),
}
"""Asset -> the entry's name, and who draws it."""


def how_many(settings: ViewSettings, batch: Batch, *, samples: int) -> int:
    """How many signals of a run over so many `samples` of a phase get pictures.

    A person who asked for these signals gets what PICTURES_PER_RUN allows. Other runs spend `SHARE` of their work, on
    average over runs of any size: the claim's token, which is random, rounds up or down, the same way at every try.
    """
    if batch.recompute or not settings.pictures_thrifty:
        return settings.pictures_per_run
    affordable = SHARE * samples / SIGNAL_IN_SAMPLES
    return min(settings.pictures_per_run, int(affordable + batch.token.int / 2**128))


def signal_pictures(worker: Worker, asset: str, done: Mapping[UUID, Outcome], n: int) -> dict[UUID, Metadata]:
    """Entries with pictures for `n` of the signals that went through `asset`, those that people would ask for first."""
    name, draw = PICTURED[asset]
    found: dict[UUID, Metadata] = {}
    for signal_id in sample(done, n):
        entry = _entry(lambda one=signal_id: draw(worker, one, done[one]), asset)  # type: ignore[misc]
        if entry is not None:
            found[signal_id] = {name: entry}
    return found


def sample(done: Mapping[UUID, Outcome], n: int) -> list[UUID]:
    """The `n` signals that people would ask for first: the highest scores, then the first ones of the batch."""
    ranked = sorted(done, key=lambda i: -float(done[i].details.get("highest_score") or 0.0))
    return ranked[:n]


def forecast_pictures(worker: Worker, equipment: Sequence[str]) -> Metadata:
    """The hourly trend with the new forecast, for the first few of these names."""
    return _named(worker, equipment, lambda name: draw_equipment_hours(worker, name))


def model_picture(
    worker: Worker, models: Models, equipment: Sequence[str], *, start: datetime | None, end: datetime | None
) -> Metadata:
    """Where the healthy windows of the trained equipment lie below their thresholds."""
    if not worker.settings.view.pictures_per_run:
        return {}
    entry = _entry(lambda: draw_healthy(worker, models, equipment, start=start, end=end), "anomaly_model")
    return {} if entry is None else {"healthy scores": entry}


def _named(worker: Worker, names: Sequence[str], draw: Callable[[str], Drawing | None]) -> Metadata:
    found: Metadata = {}
    for name in names[: worker.settings.view.pictures_per_run]:
        entry = _entry(lambda one=name: draw(one), "forecasts")  # type: ignore[misc]
        if entry is not None:
            found[f"hourly trend of {name}"] = entry
    return found


def _entry(draw: Callable[[], Drawing | None], asset: str) -> AnyMetadata | None:
    """A picture as Dagster's UI shows it, or the sentence in its place; None where there is nothing to show."""
    if find_spec("matplotlib") is None:
        return MetadataValue.text(INSTALL)
    try:
        drawing = draw()
    except Exception as error:
        log.warning("picture.failed", asset=asset, exc_info=error)
        return MetadataValue.text(f"could not be drawn ({type(error).__name__}: {error}); the log says more")
    if drawing is None:
        return None
    return as_markdown(drawing)


def as_markdown(png: bytes) -> AnyMetadata:
    """A PNG as a markdown image with its bytes inside: the UI draws it, and nothing has to be served for it."""
    return MetadataValue.md(f"![picture](data:image/png;base64,{base64.b64encode(png).decode()})")
