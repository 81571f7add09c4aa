"""The embedding of a signal's windows, when an embedding manifest is there; none, quietly, when it is not."""

import numpy as np
import structlog
from numpy.typing import NDArray

from signal_pipeline.anomaly.embedding import load_latest_embedding
from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.errors import ManifestError
from signal_pipeline.settings import ModelSettings

log = structlog.get_logger(__name__)

PLACES = {name: place for place, name in enumerate(COLUMNS)}


def embed_windows(
    values: NDArray[np.float64], *, feature_version: str, settings: ModelSettings
) -> tuple[NDArray[np.float32] | None, str | None]:
    """`values` (window, len(COLUMNS)) as vectors (window, k), and the embedding's version; (None, None) without one.

    One that cannot be trusted, or was made for other features, is refused with a line in the log, and the pipeline
    goes on without.
    """
    try:
        stored = load_latest_embedding(settings.models_dir)
    except ManifestError as error:
        log.warning("embedding.refused", error=str(error))
        return None, None
    if stored is None:
        return None, None
    if stored.feature_version != feature_version:
        log.warning("embedding.refused", version=stored.version, made_for=stored.feature_version)
        return None, None
    columns = [PLACES[name] for name in stored.embedding.features]
    return stored.embedding.embed(values[:, columns]), stored.version
