"""Anomaly models as a manifest: one reference an equipment and kind, and a fleet default for each kind.

Here: from references to a manifest's body and arrays, and back; each reference's digest is checked on the way in. A
reference that a later version keeps stays what it was: its `Origin` is the version that fitted it, and names the
stream that it scores. Not here: files (`manifest`), types and ranges (`manifest_form`), fitting (`fitting`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from signal_pipeline.anomaly.feature_set import features_hash, unknown_features
from signal_pipeline.anomaly.manifest import activate, publish, read_latest, read_named
from signal_pipeline.anomaly.manifest_form import BodyForm, OriginForm, ReferenceForm
from signal_pipeline.anomaly.manifest_reading import Manifest
from signal_pipeline.anomaly.reference import Reference, Scaler, Shape
from signal_pipeline.anomaly.tuning import Kind
from signal_pipeline.errors import ManifestError

FOLDER: Final = "anomaly_detection"
KIND: Final = "anomaly_detection"
FLEET: Final = None
"""The name under which the default reference stands: no equipment's."""

Key = tuple[str | None, Kind]


@dataclass(frozen=True, slots=True)
class Origin:
    """The version in which a reference was fitted; its scores, state and events stand under this version."""

    version: str
    created_at: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The reference that scores an equipment: its own, or the fleet's."""

    reference: Reference
    origin: Origin
    is_fleet: bool


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
    origins: Mapping[Key, Origin]

    def chosen(self, equipment: str, kind: Kind = "stream") -> Chosen | None:
        """The equipment's own reference, else the fleet's; None if there is neither."""
        for key in ((equipment, kind), (FLEET, kind)):
            if key in self.references:
                return Chosen(self.references[key], self.origins[key], key[0] is FLEET)
        return None

    def reference(self, equipment: str, kind: Kind = "stream") -> Reference | None:
        """The same without where it comes from."""
        found = self.chosen(equipment, kind)
        return None if found is None else found.reference


def load_latest(models_dir: Path) -> Models | None:
    """The models that are active; None if there are none. Raises `ManifestError` for those that cannot be trusted."""
    manifest = read_latest(models_dir / FOLDER, kind=KIND)
    return None if manifest is None else _from_manifest(manifest)


def load_version(models_dir: Path, version: str) -> Models:
    """A version by its name. Raises `ManifestError`, with the versions there are, if it is not there or refused."""
    return _from_manifest(read_named(models_dir / FOLDER, version, kind=KIND))


def use_version(models_dir: Path, version: str) -> Models:
    """Make a version that is there the latest. Raises `ManifestError` for one that is not there or is refused."""
    load_version(models_dir, version)
    return _from_manifest(activate(models_dir / FOLDER, version, kind=KIND))


def publish_models(
    models_dir: Path,
    *,
    references: Mapping[Key, Reference],
    features: tuple[str, ...],
    feature_version: str,
    parent: Models | None,
    training: Mapping[str, Any],
    now: datetime,
    replaces: str | None = None,
) -> Models:
    """Make a new version of `references`, keeping the parent's for every equipment that is not among them.

    A parent of other features has nothing to keep (`kept_from`). `training` says what they were fitted on (for
    people); `replaces` is the latest version where it cannot be read, and so is no parent. Raises `ManifestError` if
    another version is the latest by now.
    """
    old = kept_from(parent, features, feature_version)
    origins = {}
    if parent is not None:
        same = {key for key, one in old.items() if references.get(key, one).digest == one.digest}
        origins = {key: parent.origins[key] for key in same}
    body, arrays = _to_manifest(old | dict(references), origins, features, feature_version)
    manifest = publish(
        models_dir / FOLDER,
        kind=KIND,
        body=body | {"training": dict(training)},
        arrays=arrays,
        parent=None if parent is None else parent.version,
        now=now,
        replaces=replaces,
    )
    return _from_manifest(manifest)


def kept_from(parent: Models | None, features: tuple[str, ...], feature_version: str) -> dict[Key, Reference]:
    """The references of a parent that are of use for these features: all of them, or none."""
    if parent is None or (parent.feature_version, parent.features) != (feature_version, features):
        return {}
    return dict(parent.references)


def _to_manifest(
    references: Mapping[Key, Reference],
    origins: Mapping[Key, Origin],
    features: tuple[str, ...],
    feature_version: str,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    arrays: dict[str, NDArray[Any]] = {}
    entries = []
    for number, ((equipment, kind), reference) in enumerate(sorted(references.items(), key=_by_name)):
        if reference.scaler.features != features:
            raise ValueError(f"the reference of {equipment!r} was fitted on other features than the manifest's")
        arrays |= {f"{number}.{name}": array for name, array in _arrays_of(reference).items()}
        origin = origins.get((equipment, kind))
        since = None if origin is None else {"version": origin.version, "created_at": origin.created_at.isoformat()}
        entry = {"equipment": equipment, "kind": kind, "number": number, "origin": since}
        entries.append(entry | _fields_of(reference))
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
        body = BodyForm.model_validate(manifest.body)
        features = tuple(body.features)
        if features_hash(features) != body.features_hash:
            raise ManifestError(f"version {manifest.version}: the list of features was changed")
        if unknown := unknown_features(features):
            raise ManifestError(
                f"version {manifest.version} reads features that do not exist: {', '.join(unknown[:5])}"
            )
        references = {(one.equipment, one.kind): _reference(manifest, one, features) for one in body.references}
        if len(references) != len(body.references):
            raise ManifestError(f"version {manifest.version} has two references of one name")
        return Models(
            version=manifest.version,
            hash=manifest.hash,
            created_at=manifest.created_at,
            parent=manifest.parent,
            feature_version=body.feature_version,
            features=features,
            references=references,
            origins={(one.equipment, one.kind): _origin(manifest, one.origin) for one in body.references},
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestError(
            f"version {manifest.version} is not a manifest of models: {place}: {first['msg']}"
        ) from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ManifestError(f"version {manifest.version} is not a manifest of anomaly models: {error!r}") from error


def _origin(manifest: Manifest, form: OriginForm | None) -> Origin:
    if form is None:
        return Origin(manifest.version, manifest.created_at)
    created_at = datetime.fromisoformat(form.created_at)
    if created_at.tzinfo is None:
        raise ValueError(f"{form.created_at!r} has no time zone")
    return Origin(form.version, created_at)


def _reference(manifest: Manifest, form: ReferenceForm, features: tuple[str, ...]) -> Reference:
    names = ("columns", "centre", "scale", "white", "spread")
    array = {name: manifest.arrays[f"{form.number}.{name}"] for name in names}
    d = len(array["columns"])
    shapes = {name: found.shape for name, found in array.items()}
    expected = {"columns": (d,), "centre": (d,), "scale": (d,), "white": (d, d), "spread": (d,)}
    if shapes != expected or not (array["scale"] > 0).all() or form.n_leading > d:
        raise ManifestError(f"version {manifest.version}: arrays of {form.equipment!r} contradict each other")
    columns = array["columns"]
    if columns.dtype.kind != "i" or not d or not 0 <= columns.min() <= columns.max() < len(features):
        raise ManifestError(f"version {manifest.version}: columns of {form.equipment!r} lie outside the features")
    reference = Reference(
        kind=form.kind,
        scaler=Scaler(features, columns.astype(np.int64), array["centre"], array["scale"], form.reasons()),
        shape=Shape(array["white"], form.n_leading, array["spread"], form.shrinkage),
        calibration=form.calibration.made(),
        tuning=form.tuning.made(),
        persistence=form.persistence.made(),
        recordings=tuple(form.recordings),
        n_windows=form.n_windows,
    )
    if reference.digest != form.digest:
        raise ManifestError(f"version {manifest.version}: the reference of {form.equipment!r} was changed")
    return reference
