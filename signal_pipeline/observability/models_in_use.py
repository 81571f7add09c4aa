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
    """A version and the features that it reads; or why the one that is there is refused, and nothing is scored."""

    version: str | None
    feature_version: str | None = None
    refused: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def models_in_use(models_dir: Path) -> dict[str, ModelInUse | None]:
    """The anomaly model and the embedding; None where there is none. Never raises for one that is broken."""
    from signal_pipeline.anomaly.embedding import load_latest_embedding
    from signal_pipeline.anomaly.models import load_latest

    return {
        "anomaly_detection": _in_use(lambda: load_latest(models_dir)),
        "embedding": _in_use(lambda: load_latest_embedding(models_dir)),
    }


def _in_use(load: Callable[[], _Versioned | None]) -> ModelInUse | None:
    try:
        found = load()
    except ManifestError as error:
        return ModelInUse(None, refused=str(error))
    return None if found is None else ModelInUse(found.version, found.feature_version)
