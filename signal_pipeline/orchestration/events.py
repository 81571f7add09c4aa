"""Materializations of many partitions, logged as one batch.

`OpExecutionContext.log_event` stores each materialization by itself, in three statements; a run of 200 signals has 800
of them. Dagster can batch, but offers it only to its own code. Here is the private API that makes it so, and
`log_event` in its place where that has changed (docs/decisions/0002). Not here: what a materialization says, and how a
batch is stored (`storage`).
"""

from collections.abc import Sequence
from inspect import signature
from uuid import uuid4

import structlog
from dagster import AssetMaterialization, DagsterEvent, OpExecutionContext

log = structlog.get_logger(__name__)


def log_materializations(context: OpExecutionContext, materializations: Sequence[AssetMaterialization]) -> None:
    """The same events as by `context.log_event` for each, in the same order, but stored together."""
    if not can_batch(context):
        log.warning("dagster.events_not_batched", reason="the private API of this version of Dagster is another one")
        for materialization in materializations:
            context.log_event(materialization)
        return
    from dagster._core.events import DagsterEventBatchMetadata

    batch, step = str(uuid4()), context._step_execution_context
    for left, materialization in enumerate(materializations, 1 - len(materializations)):
        # Buffered by the instance until the last of the batch arrives: nothing that can fail may stand between them.
        metadata = DagsterEventBatchMetadata(batch, is_end=left == 0)
        context._events.append(DagsterEvent.asset_materialization(step, materialization, metadata))


def can_batch(context: OpExecutionContext) -> bool:
    """Whether this version of Dagster batches events in the way that `log_materializations` knows."""
    try:
        from dagster._core.events import DagsterEventBatchMetadata
    except ImportError:
        return False
    return (
        hasattr(context, "_step_execution_context")
        and hasattr(context, "_events")
        and DagsterEventBatchMetadata._fields == ("id", "is_end")
        and "batch_metadata" in signature(DagsterEvent.asset_materialization).parameters
    )
