"""Models on disk: written whole, switched in one rename, refused when anything about them is wrong."""

import hashlib
import io
import json
import os
import pickle
import signal
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from signal_pipeline.anomaly import models
from signal_pipeline.anomaly.feature_set import DEFAULT_FEATURES, features_hash
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.manifest import publish, read_latest
from signal_pipeline.anomaly.manifest_reading import seal
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline.anomaly.stream import score, start
from signal_pipeline.anomaly.tuning import STREAM
from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.errors import ManifestError

NOW = datetime(2025, 8, 25, 12, tzinfo=UTC)
FEATURES = DEFAULT_FEATURES[:6]


def put(root: Path, *, parent: str | None = None, **arrays: Any) -> str:
    return publish(
        root, kind="k", body={"a": 1}, arrays=arrays or {"x": np.arange(3.0)}, parent=parent, now=NOW
    ).version


def reference(seed: int = 0) -> Reference:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(400, len(FEATURES)))
    return fit(FEATURES, values, [f"r{i // 20}" for i in range(400)])


def test_the_default_features_are_in_the_catalogue() -> None:
    assert set(DEFAULT_FEATURES) <= set(COLUMNS)
    assert len(set(DEFAULT_FEATURES)) == len(DEFAULT_FEATURES)


def test_nothing_there_is_no_model_and_no_error(tmp_path: Path) -> None:
    assert read_latest(tmp_path / "absent", kind="k") is None


def test_what_was_published_is_read_back(tmp_path: Path) -> None:
    version = put(tmp_path, x=np.arange(3.0), n=np.array([1, 2]))
    found = read_latest(tmp_path, kind="k")
    assert found is not None
    assert (found.version, found.body, found.parent, found.created_at) == (version, {"a": 1}, None, NOW)
    assert found.arrays["x"].tolist() == [0, 1, 2]
    assert found.arrays["n"].dtype.kind == "i"


def test_a_parent_that_is_not_the_latest_any_more_is_refused(tmp_path: Path) -> None:
    first = put(tmp_path)
    second = put(tmp_path, parent=first)
    with pytest.raises(ManifestError, match="train again"):
        put(tmp_path, parent=first)
    assert (tmp_path / "latest").readlink() == Path(second)


def test_a_crash_while_writing_leaves_the_old_version_active(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = put(tmp_path)
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(OSError, match="No space"):
        put(tmp_path, parent=first)
    assert (tmp_path / "latest").readlink() == Path(first)
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".unfinished")] == []


def test_what_a_killed_writer_left_is_swept_away_by_the_next(tmp_path: Path) -> None:
    first = put(tmp_path)
    (tmp_path / ".notes.unfinished").mkdir()
    child = os.fork()
    if child == 0:
        setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGKILL))  # noqa: B010  in the child alone
        put(tmp_path, parent=first)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (tmp_path / f".{first}.link").symlink_to(first)
    assert len(list(tmp_path.glob(".2025*"))) == 2
    second = put(tmp_path, parent=first)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {first, second, "latest", ".lock", ".notes.unfinished"}


def test_the_folder_is_on_the_disk_after_each_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    def note(descriptor: int) -> None:
        latest = tmp_path / "latest"
        place = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        seen.append((place, str(latest.readlink()) if latest.is_symlink() else ""))

    monkeypatch.setattr(os, "fsync", note)
    version = put(tmp_path)
    assert [entry for entry in seen if entry[0] == str(tmp_path)] == [(str(tmp_path), ""), (str(tmp_path), version)]
    assert seen[-2][0] == str(tmp_path)
    assert seen[-3][0].endswith(".unfinished")


def _full_disk(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], None], *, sealed: bool = True) -> None:
    """Change a manifest; `sealed`, by somebody who computes its checksum again."""
    found = json.loads((folder / "manifest.json").read_text())
    change(found)
    if sealed and not has_infinite(found):
        found["sha256"] = seal(found)
    (folder / "manifest.json").write_text(json.dumps(found))


def has_infinite(found: Any) -> bool:
    return "Infinity" in json.dumps(found)


def _npz(folder: Path, content: bytes) -> None:
    (folder / "arrays.npz").write_bytes(content)
    _rewrite(folder, lambda m: m["arrays"].update(sha256=hashlib.sha256(content).hexdigest()))


def _with_member(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


class Evil:
    """Would write a file if it were ever unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("/tmp/signal_pipeline-pickle-was-run",))  # noqa: S108


def _object_array() -> bytes:
    packed = io.BytesIO()
    np.savez(packed, x=np.array([Evil()], dtype=object))
    return packed.getvalue()


TAMPERINGS: dict[str, tuple[Callable[[Path], None], str]] = {
    "not json": (lambda f: _write(f / "manifest.json", "{"), "not JSON"),
    "a list": (lambda f: _write(f / "manifest.json", "[]"), "not a manifest"),
    "another schema": (lambda f: _rewrite(f, lambda m: m.update(schema=99)), "schema 99"),
    "another kind": (lambda f: _rewrite(f, lambda m: m.update(kind="embedding")), "embedding"),
    "a field missing": (lambda f: _rewrite(f, lambda m: m.pop("body")), "not a manifest"),
    "a path outside": (lambda f: _rewrite(f, lambda m: m["arrays"].update(file="../../secret")), "beside their"),
    "an absolute path": (lambda f: _rewrite(f, lambda m: m["arrays"].update(file="/etc/passwd")), "beside their"),
    "a hidden file": (lambda f: _rewrite(f, lambda m: m["arrays"].update(file=".x")), "beside their"),
    "changed arrays": (lambda f: _append(f / "arrays.npz", b"x"), "was changed"),
    "arrays gone": (lambda f: (f / "arrays.npz").unlink(), "cannot be read"),
    "arrays a link": (lambda f: _link(f / "arrays.npz"), "cannot be read"),
    "arrays a pipe": (lambda f: _pipe(f / "arrays.npz"), "not a regular file"),
    "a pickle": (lambda f: _npz(f, pickle.dumps(Evil())), "no arrays of numbers"),
    "an object array": (lambda f: _npz(f, _object_array()), "no arrays of numbers"),
    "text for numbers": (lambda f: _npz(f, _with_member("x.npy", b"hello")), "not an array of numbers"),
    "a bomb": (lambda f: _npz(f, _with_member("x.npy", bytes(1100 * 2**20))), "would unpack"),
    "not finite": (lambda f: _npz(f, _saved(np.array([np.nan]))), "not finite"),
}


def _write(path: Path, content: str) -> None:
    path.write_text(content)


def _append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


def _link(path: Path) -> None:
    moved = path.rename(path.with_name("elsewhere"))
    path.symlink_to(moved)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _saved(array: Any) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, x=array)
    return packed.getvalue()


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_manifest_that_was_tampered_with_is_refused_and_says_why(tmp_path: Path, name: str) -> None:
    tamper, said = TAMPERINGS[name]
    tamper(tmp_path / put(tmp_path))
    with pytest.raises(ManifestError, match=said):
        read_latest(tmp_path, kind="k")
    assert not Path("/tmp/signal_pipeline-pickle-was-run").exists()  # noqa: S108


def test_references_come_back_with_the_same_scores(tmp_path: Path) -> None:
    own, fleet = reference(1), reference(2)
    published = models.publish_models(
        tmp_path,
        references={("pump", "stream"): own, (models.FLEET, "stream"): fleet},
        features=FEATURES,
        feature_version="v1",
        parent=None,
        training={},
        now=NOW,
    )
    found = models.load_latest(tmp_path)
    assert found is not None
    assert found.version == published.version
    values = np.random.default_rng(3).normal(size=(50, len(FEATURES)))
    for equipment, expected in (("pump", own), ("another", fleet)):
        back = found.reference(equipment)
        assert back is not None
        assert back.digest == expected.digest
        np.testing.assert_array_equal(
            score(back, start(back), values)[0].score, score(expected, start(expected), values)[0].score
        )
    assert found.reference("pump", "stats") is None


def test_references_from_before_there_was_patience_are_read_and_go_on_without(tmp_path: Path) -> None:
    old = replace(reference(1), tuning=replace(STREAM, patience=0))
    published = models.publish_models(
        tmp_path,
        references={("pump", "stream"): old},
        features=FEATURES,
        feature_version="v1",
        parent=None,
        training={},
        now=NOW,
    )
    folder = tmp_path / models.FOLDER / published.version
    _rewrite(folder, lambda m: m["body"]["references"][0]["tuning"].pop("patience"))
    found = models.load_version(tmp_path, published.version).reference("pump")
    assert found is not None
    assert found.digest == old.digest != reference(1).digest
    assert found.tuning.patience == 0


def test_training_one_equipment_keeps_the_others(tmp_path: Path) -> None:
    def train(parent: models.Models | None, name: str, seed: int) -> models.Models:
        return models.publish_models(
            tmp_path,
            references={(name, "stream"): reference(seed)},
            features=FEATURES,
            feature_version="v1",
            parent=parent,
            training={},
            now=NOW,
        )

    first = train(None, "pump", 1)
    second = train(first, "fan", 2)
    assert set(second.references) == {("pump", "stream"), ("fan", "stream")}
    assert second.references["pump", "stream"].digest == first.references["pump", "stream"].digest
    assert second.parent == first.version
    assert second.origins["pump", "stream"].version == first.version
    assert second.origins["fan", "stream"].version == second.version
    third = train(second, "pump", 3)
    assert third.origins["pump", "stream"].version == third.version
    assert train(third, "pump", 3).origins["pump", "stream"].version == third.version


def test_a_reference_that_was_changed_is_refused(tmp_path: Path) -> None:
    models.publish_models(
        tmp_path,
        references={(models.FLEET, "stream"): reference()},
        features=FEATURES,
        feature_version="v1",
        parent=None,
        training={},
        now=NOW,
    )
    folder = (tmp_path / models.FOLDER / "latest").resolve()
    _rewrite(folder, lambda m: m["body"]["references"][0]["calibration"].update(threshold=0.001))
    with pytest.raises(ManifestError, match="was changed"):
        models.load_latest(tmp_path)


def two_references(tmp_path: Path) -> Path:
    """The folder of a version with references of two motors."""
    models.publish_models(
        tmp_path,
        references={("fan", "stream"): reference(1), ("pump", "stream"): reference(2)},
        features=FEATURES,
        feature_version="v1",
        parent=None,
        training={},
        now=NOW,
    )
    return (tmp_path / models.FOLDER / "latest").resolve()


def _swap_names(manifest: dict[str, Any]) -> None:
    first, second = manifest["body"]["references"]
    first["equipment"], second["equipment"] = second["equipment"], first["equipment"]


def _first(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["body"]["references"][0]
    return found


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "persistence": lambda m: _first(m)["persistence"].update(k=1, n=1),
    "names swapped": _swap_names,
    "version": lambda m: m.update(version="20990101T000000Z-00000000"),
    "created_at": lambda m: m.update(created_at="2030-01-01T00:00:00+00:00"),
    "parent": lambda m: m.update(parent="another"),
    "feature_version": lambda m: m["body"].update(feature_version="v2"),
    "recordings": lambda m: _first(m)["recordings"].pop(),
    "achieved rate": lambda m: _first(m)["calibration"].update(achieved_false_events_per_1000=0.123),
    "training": lambda m: m["body"]["training"].update(equipment=["another"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_by_hand_is_found_wherever_it_is(tmp_path: Path, name: str) -> None:
    _rewrite(two_references(tmp_path), CHANGES[name], sealed=False)
    with pytest.raises(ManifestError, match="was changed"):
        models.load_latest(tmp_path)


def test_another_layout_of_the_same_words_is_no_change(tmp_path: Path) -> None:
    path = two_references(tmp_path) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True, indent=4))
    assert models.load_latest(tmp_path) is not None


FORGERIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "endless windows": lambda m: _first(m).update(n_windows=float("inf")),
    "endless directions": lambda m: _first(m).update(n_leading=float("inf")),
    "a count with a point": lambda m: _first(m)["persistence"].update(n=5.0),
    "a count of true": lambda m: _first(m)["persistence"].update(k=True),
    "an endless gap": lambda m: _first(m)["persistence"].update(max_gap_hours=1e300),
    "more windows than there are": lambda m: _first(m).update(n_windows=10**30),
    "a threshold below 0": lambda m: _first(m)["calibration"].update(threshold=-1.0),
    "a number as text": lambda m: _first(m)["tuning"].update(smoothing="0.1"),
    "an unknown knob": lambda m: _first(m)["tuning"].update(more=1),
    "other persistence": lambda m: _first(m)["persistence"].update(k=1, n=1),
    "no recordings": lambda m: _first(m).update(recordings=[]),
    "an origin without a time": lambda m: _first(m).update(origin={"version": "a", "created_at": "soon"}),
    "a name twice": lambda m: _first(m).update(equipment="pump"),
    "a name of no text": lambda m: _first(m).update(equipment=[1]),
    "a moved manifest": lambda m: m.update(version="20990101T000000Z-00000000"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_what_cannot_be_is_refused_though_its_checksum_fits(tmp_path: Path, name: str) -> None:
    _rewrite(two_references(tmp_path), FORGERIES[name])
    with pytest.raises(ManifestError):
        models.load_latest(tmp_path)


def test_features_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    publish(
        tmp_path / models.FOLDER,
        kind=models.KIND,
        body={
            "features": ["no_such"],
            "features_hash": features_hash(["no_such"]),
            "feature_version": "v1",
            "references": [],
        },
        arrays={},
        parent=None,
        now=NOW,
    )
    with pytest.raises(ManifestError, match="no_such"):
        models.load_latest(tmp_path)
