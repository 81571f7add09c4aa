"""Models that somebody has tampered with, generated: read as they are, or refused by name; nothing is unpickled.

Not here: each way of tampering by itself (`anomaly/test_manifest.py`).
"""

import hashlib
import io
import json
import zipfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signal_pipeline.anomaly import models
from signal_pipeline.anomaly.events import ScoredWindow, Tracker, advance
from signal_pipeline.anomaly.feature_set import DEFAULT_FEATURES
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.manifest import publish, read_latest
from signal_pipeline.anomaly.manifest_reading import seal
from signal_pipeline.anomaly.stream import score, start
from signal_pipeline.errors import ManifestError

NOW = datetime(2025, 8, 25, 12, tzinfo=UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound version, that `latest` names."""
    publish(tmp_path, kind="k", body={"a": 1}, arrays={"x": np.arange(30.0)}, parent=None, now=NOW)
    return (tmp_path / "latest").resolve()


def outcome(folder: Path) -> str:
    """`read` or `refused`; any other error is the test's failure."""
    try:
        found = read_latest(folder.parent, kind="k")
    except ManifestError:
        return "refused"
    assert found is not None
    assert all(array.dtype.kind in "if" and np.isfinite(array).all() for array in found.arrays.values())
    return "read"


def put_arrays(folder: Path, content: bytes) -> None:
    """The archive, with a checksum that fits: who can write here can write both."""
    (folder / "arrays.npz").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["arrays"]["sha256"] = hashlib.sha256(content).hexdigest()
    forge(folder, manifest)


def forge(folder: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with a checksum that fits, but where it holds what has none."""
    with suppress(ValueError):
        manifest["sha256"] = seal(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def member(shape: tuple[int, ...], descr: str, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive whose one array claims this shape and type, and holds 80 bytes."""
    array, packed = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": descr, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(packed, "w", compression) as archive:
        archive.writestr("x.npy", array.getvalue() + bytes(80))
    return packed.getvalue()


@pytest.mark.parametrize("shape", [(10**12,), (10**9,), (2**62, 4), (-1,), (3, -5)])
def test_an_array_that_claims_more_than_it_holds_is_refused(folder: Path, shape: tuple[int, ...]) -> None:
    put_arrays(folder, member(shape, "<f8"))
    assert outcome(folder) == "refused"


@pytest.mark.parametrize("descr", ["|O", "<U10", "|V8", "<M8[s]", "<c16"])
def test_arrays_of_anything_but_numbers_are_refused(folder: Path, descr: str) -> None:
    put_arrays(folder, member((1,), descr))
    assert outcome(folder) == "refused"


def test_a_manifest_that_is_nested_without_end_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 1_000_000)
    with pytest.raises(ManifestError, match="is not JSON"):
        read_latest(folder.parent, kind="k")


@settings(deadline=None, max_examples=150, derandomize=True)
@given(data=st.data())
def test_a_damaged_archive_is_refused_or_holds_numbers(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("models")
    publish(folder, kind="k", body={}, arrays={"x": np.arange(30.0)}, parent=None, now=NOW)
    folder = (folder / "latest").resolve()
    content = bytearray((folder / "arrays.npz").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    put_arrays(folder, bytes(content[: data.draw(st.integers(1, len(content)))]))
    assert outcome(folder) in {"read", "refused"}


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    field=st.sampled_from(("schema", "kind", "version", "created_at", "parent", "body", "arrays")), value=json_values
)
def test_a_manifest_with_any_value_in_any_field_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: object
) -> None:
    folder = tmp_path_factory.mktemp("models")
    publish(folder, kind="k", body={}, arrays={"x": np.arange(3.0)}, parent=None, now=NOW)
    folder = (folder / "latest").resolve()
    manifest = json.loads((folder / "manifest.json").read_text())
    forge(folder, manifest | {field: value})
    assert outcome(folder) in {"read", "refused"}


FEATURES = DEFAULT_FEATURES[:4]
WINDOWS = np.random.default_rng(0).normal(size=(240, len(FEATURES)))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a version with one reference lies."""
    home = tmp_path_factory.mktemp("sound")
    reference = fit(FEATURES, WINDOWS, [f"r{i // 20}" for i in range(len(WINDOWS))])
    models.publish_models(
        home,
        references={("pump", "stream"): reference},
        features=FEATURES,
        feature_version="v1",
        parent=None,
        training={},
        now=NOW,
    )
    return home


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything inside `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in items for found in places(inner, (*path, key)))]


@settings(deadline=None, max_examples=400, derandomize=True)
@given(data=st.data())
def test_any_value_anywhere_in_a_reference_is_refused_or_scores(sound: Path, data: st.DataObject) -> None:
    folder = (sound / models.FOLDER / "latest").resolve()
    kept = (folder / "manifest.json").read_text()
    manifest = json.loads(kept)
    entries = manifest["body"]["references"]
    *way, last = data.draw(st.sampled_from(places(entries)[1:]))
    target = entries
    for key in way:
        target = target[key]
    target[last] = data.draw(json_values | st.sampled_from([float("inf"), 5.0, 10**400, -1, 0, True, 1e300]))
    forge(folder, manifest)
    try:
        found = models.load_latest(sound)
    except ManifestError:
        return
    finally:
        (folder / "manifest.json").write_text(kept)
    assert found is not None
    for reference in found.references.values():
        scores, _ = score(reference, start(reference), WINDOWS)
        rows = [
            ScoredWindow(NOW, NOW, float(s), scores.threshold, bool(w), ())
            for s, w in zip(scores.score, scores.warming, strict=True)
        ]
        advance(Tracker(), rows, reference.persistence)
