"""The catalogue agrees with itself and keeps the names that others build on. Not here: what the numbers are."""

import re
from pathlib import Path

import pytest

from signal_pipeline.catalogue import COLUMNS, FEATURES, as_markdown, column_info, columns_explained_by
from signal_pipeline.domain import PHASES


def test_the_promised_names_are_there_for_every_phase() -> None:
    for name in ("rms", "mean", "std", "min", "max", "crest", "skew", "kurt"):
        for phase in PHASES:
            assert f"{name}_{phase}" in COLUMNS


def test_columns_are_unique_plain_sql_names() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS)
    for name in COLUMNS:
        assert re.fullmatch(r"[a-z][a-z0-9_]{2,62}", name), name


def test_every_feature_says_unit_meaning_formula_and_source() -> None:
    for feature in FEATURES:
        assert feature.unit, feature.name
        assert feature.meaning, feature.name
        assert feature.formula, feature.name
        assert feature.source, feature.name


def test_phase_features_have_three_columns_and_machine_features_one() -> None:
    for feature in FEATURES:
        assert len(feature.columns) == (3 if feature.scope == "phase" else 1)


def test_the_column_info_follows_the_columns() -> None:
    info = column_info()
    assert tuple(column.name for column in info) == COLUMNS
    assert {column.phase for column in info} == {None, *PHASES}


def test_a_reason_key_expands_to_its_columns() -> None:
    assert columns_explained_by("rms_a") == ("rms_a",)
    assert columns_explained_by("distribution_b") == ("shape_b", "skew_b", "kurt_b")
    assert columns_explained_by("fundamental_b") == (
        "line_freq_hz_b",
        "fundamental_amplitude_b",
        "fundamental_phase_deg_b",
    )
    assert columns_explained_by("park") == ("park_mean", "park_ripple_pct")
    assert len(columns_explained_by("phase_c")) == sum(feature.scope == "phase" for feature in FEATURES)


def test_an_unknown_reason_key_is_an_error() -> None:
    with pytest.raises(KeyError, match="harmonics_d"):
        columns_explained_by("harmonics_d")


def test_no_group_is_named_like_a_column() -> None:
    groups = {feature.group for feature in FEATURES}
    assert not {f"{group}{suffix}" for group in groups for suffix in ("", "_a", "_b", "_c")} & set(COLUMNS)


def test_the_page_of_the_docs_is_what_the_catalogue_says() -> None:
    page = Path(__file__).parents[1] / "docs" / "features.md"
    assert page.read_text(encoding="utf-8") == as_markdown(), (
        "run: python -m signal_pipeline.catalogue > docs/features.md"
    )
