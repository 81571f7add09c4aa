"""What a person sees of the assets: lineage, groups, owners, kinds, descriptions, and the columns of features."""

import pytest
from dagster import AssetKey, Definitions

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.orchestration.ops import PER_SIGNAL
from signal_pipeline.orchestration.partitions import PARTITIONS_NAME

LINEAGE = {
    "raw_signals": set(),
    "features": {"raw_signals"},
    "hourly_feature_summary": {"features"},
    "signal_diagnostics": {"raw_signals"},
    "anomaly_scores": {"features"},
    "anomaly_model": {"features"},
    "forecasts": {"hourly_feature_summary"},
}


def test_lineage_is_that_of_the_design(definitions: Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    found = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert found == LINEAGE


@pytest.mark.parametrize("name", LINEAGE)
def test_every_asset_is_described_owned_grouped_and_has_a_kind(definitions: Definitions, name: str) -> None:
    node = definitions.resolve_asset_graph().get(AssetKey(name))
    assert len(node.description or "") > 40
    assert list(node.owners) == ["team:signal-pipeline"]
    assert node.group_name == ("signals" if AssetKey(name) in PER_SIGNAL else "models")
    assert any(tag.startswith("dagster/kind/") for tag in node.tags)


def test_what_belongs_to_a_signal_is_partitioned_by_it_and_nothing_else_is(definitions: Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for name in LINEAGE:
        partitions = graph.get(AssetKey(name)).partitions_def
        expected = PARTITIONS_NAME if AssetKey(name) in PER_SIGNAL else None
        assert getattr(partitions, "name", None) == expected


def test_the_columns_of_features_stand_in_the_metadata_with_their_units(definitions: Definitions) -> None:
    schema = definitions.resolve_asset_graph().get(AssetKey("features")).metadata["dagster/column_schema"].schema
    columns = {column.name: column for column in schema.columns}
    assert set(COLUMNS) <= set(columns)
    assert columns["rms_a"].tags["unit"] == "A"
