"""The one job that processes signals: for the sensor, for `signal-pipeline process`, and for the UI."""

from dagster import AssetSelection, define_asset_job, in_process_executor
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from signal_pipeline.orchestration import ops

PROCESS_SIGNALS = "process_signals"

# In one process: a batch of signals shares its imports and its engine; parallelism comes from several runs and from
# the threads inside extraction. Started processes for each op would cost five times as much.
process_signals: UnresolvedAssetJobDefinition = define_asset_job(
    PROCESS_SIGNALS,
    # Without asset checks: they look at everything that is stored, and have a job and a schedule of their own.
    selection=AssetSelection.assets(*ops.PER_SIGNAL).without_checks(),
    description="Validates, extracts, summarises and scores a batch of claimed signals.",
    executor_def=in_process_executor,
)
