"""The assets: one graph of ops makes everything that belongs to a signal, one partition a signal.

Why one `graph_multi_asset` and not four assets: a run takes a batch, some of its signals fail, and only this form
shows exactly those as failed partitions (docs/decisions/0001). Not here: what belongs to an equipment or to all.
"""

from typing import Any

from dagster import (
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    GraphOut,
    graph,
)

from signal_pipeline.anomaly.stream import STATE_SCHEMA
from signal_pipeline.catalogue import FEATURE_CODE_VERSION
from signal_pipeline.orchestration import ops
from signal_pipeline.orchestration.columns import table_metadata
from signal_pipeline.orchestration.partitions import SIGNALS
from signal_pipeline.processing.diagnosis_of_record import DIAGNOSIS_CODE_VERSION

OWNERS = ["team:signal-pipeline"]

DESCRIPTIONS = {
    ops.RAW_SIGNALS: "Recordings of three phase currents, loaded and validated. One partition a signal (a row of "
    "`raw_signals`); a failed partition is a signal whose `meta.failure` says why.",
    ops.FEATURES: "Features of each window (WINDOW_MS, WINDOW_OVERLAP), per phase and across phases. Unique by "
    "`(raw_id, window_start)`; recomputing changes nothing unless the settings or the code changed.",
    ops.HOURLY: "Mean, minimum, maximum and deviation of each phase's RMS by equipment and hour, always recomputed "
    "whole from the stored features.",
    ops.DIAGNOSTICS: "What a whole recording says about its motor: slip, broken rotor bars, eccentricity, inter-turn "
    "faults, each with a severity or the reason why it cannot be said. Needs the motor's plate (`equipment import`).",
    ops.SCORES: "How unusual each window is to the latest model. Without a manifest: `scored=0, reason=no_manifest`.",
}

KINDS: dict[AssetKey, set[str]] = {
    ops.RAW_SIGNALS: {"csv"},
    ops.FEATURES: {"numpy", "numba"},
    ops.HOURLY: set(),
    ops.DIAGNOSTICS: {"numpy", "scipy"},
    ops.SCORES: {"numpy", "numba"},
}

CODE_VERSIONS: dict[AssetKey, str] = {
    ops.RAW_SIGNALS: "1",
    ops.FEATURES: str(FEATURE_CODE_VERSION),
    ops.HOURLY: "1",
    ops.DIAGNOSTICS: str(DIAGNOSIS_CODE_VERSION),
    ops.SCORES: str(STATE_SCHEMA),
}
"""Raised when the same input would give another output."""

DOCS: dict[AssetKey, str] = {
    ops.RAW_SIGNALS: "docs/architecture.md",
    ops.FEATURES: "docs/features.md",
    ops.HOURLY: "docs/features.md",
    ops.DIAGNOSTICS: "docs/diagnosis.md",
    ops.SCORES: "docs/models.md",
}

DEPENDENCIES: dict[AssetKey, set[AssetKey]] = {
    ops.RAW_SIGNALS: set(),
    ops.FEATURES: {ops.RAW_SIGNALS},
    ops.HOURLY: {ops.FEATURES},
    ops.DIAGNOSTICS: {ops.RAW_SIGNALS},
    # Not `anomaly_model`, though it scores them: it is made of `features`, so the graph would come before and after it,
    # and Dagster cannot cut a graph in two; "materialize all" would not even load (docs/decisions/0114).
    ops.SCORES: {ops.FEATURES},
}


@graph(name="signals", out={key.to_python_identifier(): GraphOut() for key in ops.PER_SIGNAL})
def signal_graph() -> dict[str, Any]:
    """claim -> extract -> summarize -> diagnose -> score -> finalize."""
    claimed, raw_signals = ops.claim_signals()
    extracted, features = ops.extract(claimed)
    summarized, hours = ops.summarize(extracted)
    diagnosed, diagnostics = ops.diagnose(summarized)
    scores = ops.finalize(ops.score(diagnosed))
    return {
        "raw_signals": raw_signals,
        "features": features,
        "hourly_feature_summary": hours,
        "signal_diagnostics": diagnostics,
        "anomaly_scores": scores,
    }


def build_signal_assets(*, signals_a_run: int) -> AssetsDefinition:
    """The per-signal assets; a backfill is cut into runs of `signals_a_run`."""
    assets = AssetsDefinition.from_graph(
        signal_graph,
        keys_by_output_name={key.to_python_identifier(): key for key in ops.PER_SIGNAL},
        internal_asset_deps={key.to_python_identifier(): deps for key, deps in DEPENDENCIES.items()},
        partitions_def=SIGNALS,
        can_subset=True,
        backfill_policy=BackfillPolicy.multi_run(max_partitions_per_run=signals_a_run),
    )
    return assets.map_asset_specs(_described)


def _described(spec: AssetSpec) -> AssetSpec:
    asset = spec.key.to_python_identifier()
    return spec.replace_attributes(
        description=DESCRIPTIONS[spec.key],
        group_name="signals",
        owners=OWNERS,
        kinds={"postgres", *KINDS[spec.key]},
        code_version=CODE_VERSIONS[spec.key],
        metadata=table_metadata(asset, docs=DOCS[spec.key]),
    )
