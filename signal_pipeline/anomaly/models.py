"""Anomaly models as a manifest: one reference an equipment and kind, and a fleet default for each kind.

Here: from references to a manifest's body and arrays, and back; each reference's digest is checked on the way in. Not
here: files (`manifest`), fitting (`fitting`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.anomaly.feature_set import features_hash, unknown_features
from signal_pipeline.anomaly.manifest import Manifest, publish, read_latest
from signal_pipeline.anomaly.reference import Calibration, Dropped, Reference, Scaler, Shape
from signal_pipeline.anomaly.tuning import Kind, Persistence, Tuning
from signal_pipeline.errors import ManifestError

FOLDER: Final = "anomaly_detection"
KIND: Final = "anomaly_detection"
FLEET: Final = None
"""The name under which the default reference stands: no equipment's."""

Key = tuple[str | None, Kind]


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """All references of one version. `features` are the columns they read, of `feature_version`."""

    version: str
    hash: str
    created_at: datetime
    parent: str | None
    feature_version: str
    features: tuple[str, ...]
    references: Mapping[Key, Reference]

    def reference(self, equipment: str, kind: Kind = "stream") -> Reference | None:
        """The equipment's own reference, else the fleet's; None if there is neither."""
        return self.references.get((equipment, kind)) or self.references.get((FLEET, kind))


def load_latest(models_dir: Path) -> Models | None:
    """The models that are active; None if there are none. Raises `ManifestError` for those that cannot be trusted."""
    manifest = read_latest(models_dir / FOLDER, kind=KIND)
    return None if manifest is None else _from_manifest(manifest)


def publish_models(
    models_dir: Path,
    *,
    references: Mapping[Key, Reference],
    features: tuple[str, ...],
    feature_version: str,
    parent: Models | None,
    training: Mapping[str, Any],
    now: datetime,
) -> Models:
    """Make a new version of `references`, keeping the parent's for every equipment that is not among them.

    `training` says what they were fitted on (for people). Raises `ManifestError` if the parent is not the latest any
    more, or was made for other features.
    """
    kept: dict[Key, Reference] = {}
    if parent is not None and (parent.feature_version, parent.features) == (feature_version, features):
        kept = dict(parent.references)
    kept.update(references)
    body, arrays = _to_manifest(kept, features, feature_version)
    manifest = publish(
        models_dir / FOLDER,
        kind=KIND,
        body=body | {"training": dict(training)},
        arrays=arrays,
        parent=None if parent is None else parent.version,
        now=now,
    )
    return _from_manifest(manifest)


def _to_manifest(
    references: Mapping[Key, Reference], features: tuple[str, ...], feature_version: str
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    arrays: dict[str, NDArray[Any]] = {}
    entries = []
    for number, ((equipment, kind), reference) in enumerate(sorted(references.items(), key=_by_name)):
        if reference.scaler.features != features:
            raise ValueError(f"the reference of {equipment!r} was fitted on other features than the manifest's")
        arrays |= {f"{number}.{name}": array for name, array in _arrays_of(reference).items()}
        entries.append({"equipment": equipment, "kind": kind, "number": number, **_fields_of(reference)})
    body = {
        "features": list(features),
        "features_hash": features_hash(features),
        "feature_version": feature_version,
        "references": entries,
    }
    return body, arrays


def _by_name(item: tuple[Key, Reference]) -> tuple[bool, str, str]:
    (equipment, kind), _ = item
    return (equipment is not None, equipment or "", kind)


def _arrays_of(reference: Reference) -> dict[str, NDArray[Any]]:
    return {
        "columns": reference.scaler.columns,
        "centre": reference.scaler.centre,
        "scale": reference.scaler.scale,
        "white": reference.shape.white,
        "spread": reference.shape.spread,
    }


def _fields_of(reference: Reference) -> dict[str, Any]:
    return {
        "digest": reference.digest,
        "n_leading": reference.shape.n_leading,
        "shrinkage": reference.shape.shrinkage,
        "dropped": {name: why.value for name, why in reference.scaler.dropped.items()},
        "calibration": asdict(reference.calibration),
        "tuning": asdict(reference.tuning),
        "persistence": asdict(reference.persistence),
        "recordings": list(reference.recordings),
        "n_windows": reference.n_windows,
    }


def _from_manifest(manifest: Manifest) -> Models:
    try:
        body = manifest.body
        features = tuple(str(name) for name in body["features"])
        if features_hash(features) != body["features_hash"]:
            raise ManifestError(f"version {manifest.version}: the list of features was changed")
        if unknown := unknown_features(features):
            raise ManifestError(
                f"version {manifest.version} reads features that do not exist: {', '.join(unknown[:5])}"
            )
        references = {
            (entry["equipment"], entry["kind"]): _reference(manifest, entry, features) for entry in body["references"]
        }
        return Models(
            version=manifest.version,
            hash=manifest.hash,
            created_at=manifest.created_at,
            parent=manifest.parent,
            feature_version=str(body["feature_version"]),
            features=features,
            references=references,
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ManifestError(f"version {manifest.version} is not a manifest of anomaly models: {error!r}") from error


def _reference(manifest: Manifest, entry: Mapping[str, Any], features: tuple[str, ...]) -> Reference:
    array = {
        name: manifest.arrays[f"{entry['number']}.{name}"] for name in ("columns", "centre", "scale", "white", "spread")
    }
    d = len(array["columns"])
    shapes = {name: found.shape for name, found in array.items()}
    expected = {"columns": (d,), "centre": (d,), "scale": (d,), "white": (d, d), "spread": (d,)}
    if shapes != expected or not (array["scale"] > 0).all() or not 0 <= int(entry["n_leading"]) <= d:
        raise ManifestError(f"version {manifest.version}: arrays of {entry['equipment']!r} contradict each other")
    if array["columns"].dtype.kind != "i" or (
        d and not 0 <= array["columns"].min() <= array["columns"].max() < len(features)
    ):
        raise ManifestError(f"version {manifest.version}: columns of {entry['equipment']!r} lie outside the features")
    reference = Reference(
        kind=entry["kind"],
        scaler=Scaler(
            features=features,
            columns=array["columns"].astype(np.int64),
            centre=array["centre"],
            scale=array["scale"],
            dropped={name: Dropped(why) for name, why in entry["dropped"].items()},
        ),
        shape=Shape(array["white"], int(entry["n_leading"]), array["spread"], float(entry["shrinkage"])),
        calibration=Calibration(**entry["calibration"]),
        tuning=Tuning(**entry["tuning"]),
        persistence=Persistence(**entry["persistence"]),
        recordings=tuple(entry["recordings"]),
        n_windows=int(entry["n_windows"]),
    )
    if reference.digest != entry["digest"]:
        raise ManifestError(f"version {manifest.version}: the reference of {entry['equipment']!r} was changed")
    return reference
