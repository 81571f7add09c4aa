"""Which models a worker with these settings would use now: the versions that `latest` names below MODELS_DIR.

Not here: the database. What scored a window in the past stands with its score.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from signal_pipeline.errors import ManifestError


class _Versioned(Protocol):
    @property
    def version(self) -> str: ...
    @property
    def feature_version(self) -> str: ...


@dataclass(frozen=True, slots=True)
class ModelInUse:
    """A version and the features that it reads, where it can be read; and why it is refused, and nothing is scored."""

    version: str | None
    feature_version: str | None = None
    refused: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def models_in_use(models_dir: Path, *, feature_version: str) -> dict[str, ModelInUse | None]:
    """The anomaly model and the embedding; None where there is none. Never raises for one that is broken.

    `feature_version` is what the settings compute: a model of other features is of no use to them.
    """
    from signal_pipeline.anomaly.embedding import load_latest_embedding
    from signal_pipeline.anomaly.models import load_latest

    return {
        "anomaly_detection": _in_use(lambda: load_latest(models_dir), feature_version),
        "embedding": _in_use(lambda: load_latest_embedding(models_dir), feature_version),
    }


def _in_use(load: Callable[[], _Versioned | None], computed: str) -> ModelInUse | None:
    try:
        found = load()
    except ManifestError as error:
        return ModelInUse(None, refused=str(error))
    if found is None:
        return None
    refused = None
    if found.feature_version != computed:
        refused = (
            f"{found.version} was made for features of version {found.feature_version}, and the settings compute "
            f"{computed}: train again"
        )
    return ModelInUse(found.version, found.feature_version, refused)
