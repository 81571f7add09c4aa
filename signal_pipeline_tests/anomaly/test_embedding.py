"""Embeddings: principal components that hold still, and their form on disk."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from signal_pipeline.anomaly.embedding import fit, load_latest_embedding, publish_embedding
from signal_pipeline.anomaly.feature_set import DEFAULT_FEATURES
from signal_pipeline.errors import ManifestError

FEATURES = DEFAULT_FEATURES[:5]
NOW = datetime(2025, 8, 25, tzinfo=UTC)


def two_factors(n: int = 300) -> np.ndarray:
    """Five features that two hidden ones drive, in different units, with a little noise."""
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(n, 2))
    mixing = np.array([[1.0, 0.0, 1.0, 0.5, 0.0], [0.0, 1.0, -1.0, 0.5, 0.0]])
    units = np.array([1.0, 100.0, 0.01, 5.0, 3.0])
    values: np.ndarray = (hidden @ mixing + 0.05 * rng.normal(size=(n, 5))) * units + 7
    return values


def test_two_hidden_factors_are_found_whatever_the_units() -> None:
    values = two_factors()
    values[:, 4] = 7.0
    found = fit(FEATURES, values, n_components=2)
    assert found.explained.sum() > 0.98
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(2), atol=1e-9)
    assert (found.components[:, 4] == 0).all()


def test_a_batch_gives_what_its_windows_give_one_by_one() -> None:
    values = two_factors()
    found = fit(FEATURES, values, n_components=3)
    whole = found.embed(values)
    assert whole.dtype == np.float32
    assert whole.shape == (300, 3)
    np.testing.assert_allclose(np.vstack([found.embed(row[None]) for row in values]), whole, atol=1e-6)


def test_a_missing_feature_counts_as_being_at_the_centre() -> None:
    values = two_factors()
    found = fit(FEATURES, values, n_components=2)
    missing, centred = values[:1].copy(), values[:1].copy()
    missing[0, 1], centred[0, 1] = np.nan, found.centre[1]
    np.testing.assert_array_equal(found.embed(missing), found.embed(centred))


def test_the_same_windows_give_the_same_signs() -> None:
    values = two_factors()
    np.testing.assert_allclose(
        fit(FEATURES, values, n_components=2).components,
        fit(FEATURES, values[::-1], n_components=2).components,
        atol=1e-9,
    )


@pytest.mark.parametrize("values", [np.ones((5, 5)), np.ones((50, 5)), np.ones((50, 4))])
def test_too_little_to_fit_on_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"too few|nothing varies|shape"):
        fit(FEATURES, values)


def test_an_embedding_comes_back_from_disk_with_the_same_vectors(tmp_path: Path) -> None:
    values = two_factors()
    found = fit(FEATURES, values, n_components=2)
    assert load_latest_embedding(tmp_path) is None
    publish_embedding(tmp_path, found, feature_version="v", parent=None, training={}, now=NOW)
    back = load_latest_embedding(tmp_path)
    assert back is not None
    assert back.feature_version == "v"
    np.testing.assert_array_equal(back.embedding.embed(values), found.embed(values))


def test_a_new_version_is_seen_and_a_changed_one_refused(tmp_path: Path) -> None:
    found = fit(FEATURES, two_factors(), n_components=2)
    first = publish_embedding(tmp_path, found, feature_version="v", parent=None, training={}, now=NOW)
    assert load_latest_embedding(tmp_path) is not None
    second = publish_embedding(tmp_path, found, feature_version="w", parent=first.version, training={}, now=NOW)
    latest = load_latest_embedding(tmp_path)
    assert latest is not None
    assert latest.version == second.version
    third = publish_embedding(tmp_path, found, feature_version="x", parent=second.version, training={}, now=NOW)
    arrays = tmp_path / "embeddings" / third.version / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes() + b"x")
    with pytest.raises(ManifestError, match="was changed"):
        load_latest_embedding(tmp_path)
