"""A short vector for each window: principal components of robustly scaled features.

For search and for pictures ("which windows look like this one?"), not for alarms. Here: fitting, embedding, and the
form on disk under the same discipline as the anomaly models (`manifest`). Not here: the database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.anomaly.arrays import F8
from signal_pipeline.anomaly.feature_set import features_hash, unknown_features
from signal_pipeline.anomaly.manifest import LATEST, publish
from signal_pipeline.anomaly.manifest_reading import MANIFEST, Manifest, read_version
from signal_pipeline.errors import ManifestError

FOLDER: Final = "embeddings"
KIND: Final = "embeddings"
COMPONENTS: Final = 8
CLIP: Final = 10.0
"""Robust standard deviations; one wild feature must not decide where a window lies."""
IQR_OF_NORMAL: Final = 1.3489795003921634


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Principal components: `centre` and `scale` (d,) in each feature's unit, `components` (k, d) with unit rows,
    `explained` (k,) shares of the variance. A feature with scale 0 takes no part."""

    features: tuple[str, ...]
    centre: F8
    scale: F8
    components: F8
    explained: F8

    def embed(self, values: F8) -> NDArray[np.float32]:
        """`values` float64 (n, d), NaN = NULL and then at the centre, as float32 (n, k)."""
        return (_scaled(values, self.centre, self.scale) @ self.components.T).astype(np.float32)


def fit(features: Sequence[str], values: F8, *, n_components: int = COMPONENTS) -> Embedding:
    """Components of `values` float64 (n, d), from the singular value decomposition of the scaled windows.

    The sign of a component is fixed by its largest entry, so the same windows give the same vectors. Raises
    `ValueError` for fewer windows than components, or windows in which nothing varies.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(features):
        raise ValueError(f"values have the shape {values.shape}: (n, {len(features)}) is needed")
    if len(values) <= n_components:
        raise ValueError(f"{len(values)} windows are too few for {n_components} components")
    known = np.isfinite(values).any(axis=0)
    centre, low, high = np.zeros(len(features)), np.zeros(len(features)), np.zeros(len(features))
    centre[known] = np.nanmedian(values[:, known], axis=0)
    low[known], high[known] = np.nanpercentile(values[:, known], [25, 75], axis=0)
    scale = (high - low) / IQR_OF_NORMAL
    scaled = _scaled(values, centre, scale)
    _, singular, rows = np.linalg.svd(scaled - scaled.mean(axis=0), full_matrices=False)
    total = float(np.square(singular).sum())
    if total == 0:
        raise ValueError("nothing varies in these windows")
    rows = rows[:n_components]
    signs = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])
    explained = np.square(singular[:n_components]) / total
    return Embedding(tuple(features), centre, scale, rows * signs[:, None], explained)


def _scaled(values: F8, centre: F8, scale: F8) -> F8:
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (np.asarray(values, dtype=np.float64) - centre) / scale
    return np.clip(np.where(np.isfinite(z) & (scale > 0), z, 0.0), -CLIP, CLIP)


@dataclass(frozen=True, slots=True, eq=False)
class StoredEmbedding:
    """An embedding of one version, for features of one version."""

    version: str
    feature_version: str
    embedding: Embedding


def publish_embedding(
    models_dir: Path,
    found: Embedding,
    *,
    feature_version: str,
    parent: str | None,
    training: Mapping[str, Any],
    now: datetime,
    replaces: str | None = None,
) -> StoredEmbedding:
    """Make `found` the latest embedding. Raises `ManifestError` if `parent` is not the latest any more; `replaces` is
    the latest where it cannot be read, and so is no parent."""
    body = {
        "features": list(found.features),
        "features_hash": features_hash(found.features),
        "feature_version": feature_version,
        "training": dict(training),
    }
    arrays = {
        "centre": found.centre,
        "scale": found.scale,
        "components": found.components,
        "explained": found.explained,
    }
    root = models_dir / FOLDER
    written = publish(root, kind=KIND, body=body, arrays=arrays, parent=parent, now=now, replaces=replaces)
    return _from_manifest(written)


def load_latest_embedding(models_dir: Path) -> StoredEmbedding | None:
    """The active embedding, or None. Raises `ManifestError` for one not to be trusted."""
    latest = models_dir / FOLDER / LATEST
    return _load(latest.resolve()) if (latest / MANIFEST).exists() else None


@lru_cache(maxsize=4)
def _load(folder: Path) -> StoredEmbedding:
    """A version never changes, so it is read once a process."""
    return _from_manifest(read_version(folder, kind=KIND))


def _from_manifest(manifest: Manifest) -> StoredEmbedding:
    try:
        features = tuple(str(name) for name in manifest.body["features"])
        if features_hash(features) != manifest.body["features_hash"] or unknown_features(features):
            raise ManifestError(
                f"embedding {manifest.version}: the list of features was changed, or names unknown ones"
            )
        found = Embedding(features, *(manifest.arrays[n] for n in ("centre", "scale", "components", "explained")))
        k, d = found.components.shape
        if (found.centre.shape, found.scale.shape, found.explained.shape) != ((d,), (d,), (k,)) or d != len(features):
            raise ManifestError(f"embedding {manifest.version}: its arrays contradict each other")
        return StoredEmbedding(manifest.version, str(manifest.body["feature_version"]), found)
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"version {manifest.version} is not a manifest of an embedding: {error!r}") from error
