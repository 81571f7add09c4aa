"""What a person sees of the assets: lineage, groups, owners, kinds, descriptions, and the columns of their tables."""

import re

import pytest
from dagster import AssetKey, Definitions, MarkdownMetadataValue

from signal_pipeline.catalogue import column_info
from signal_pipeline.cli.environment import PROJECT_ROOT
from signal_pipeline.orchestration.columns import TABLES
from signal_pipeline.orchestration.ops import PER_SIGNAL
from signal_pipeline.orchestration.partitions import PARTITIONS_NAME

LINEAGE = {
    "raw_signals": set(),
    "features": {"raw_signals"},
    "hourly_feature_summary": {"features"},
    "signal_diagnostics": {"raw_signals"},
    "anomaly_scores": {"features"},
    "anomaly_model": {"features"},
    "detected_anomalies": {"features", "anomaly_model"},
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


@pytest.mark.parametrize("name", TABLES)
def test_every_column_of_an_assets_table_stands_in_its_metadata(definitions: Definitions, name: str) -> None:
    metadata = definitions.resolve_asset_graph().get(AssetKey(name)).metadata
    schema = metadata["dagster/column_schema"].schema
    assert [column.name for column in schema.columns] == [c.name for c in TABLES[name][0].__table__.columns]
    assert all(column.description for column in schema.columns)
    assert metadata["dagster/table_name"] == f"public.{name}"


def test_the_columns_of_features_have_the_units_of_the_catalogue(definitions: Definitions) -> None:
    schema = definitions.resolve_asset_graph().get(AssetKey("features")).metadata["dagster/column_schema"].schema
    columns = {column.name: column for column in schema.columns}
    assert {c.name: columns[c.name].tags["unit"] for c in column_info()} == {c.name: c.unit for c in column_info()}
    assert columns["rms_a"].type == "double precision"


@pytest.mark.parametrize("name", LINEAGE)
def test_every_asset_has_a_code_version_and_names_a_page_that_exists(definitions: Definitions, name: str) -> None:
    node = definitions.resolve_asset_graph().get(AssetKey(name))
    assert node.code_version
    said = node.metadata["docs"]
    path = re.match(r"`(docs/\S+\.md)` ", said.value)
    assert isinstance(said, MarkdownMetadataValue)  # a path would be no link in the UI, and look like one
    assert path is not None
    assert (PROJECT_ROOT / path[1]).is_file()


def test_what_the_pass_made_is_the_part_of_the_table_that_its_query_shows(definitions: Definitions) -> None:
    metadata = definitions.resolve_asset_graph().get(AssetKey("detected_anomalies")).metadata
    assert metadata["dagster/table_name"] == "public.anomaly_scores"
    assert "WHERE model_kind = 'stats'" in metadata["query"].value
