"""Totals and durations that only grow: kept by the transaction that did the work, right after any crash, untouched by
retention.

A total is one number; a duration is counted by bucket, with its sum. Each is spread over a few shards, so that workers
finishing at the same time do not queue on one row. The shard is that of the database's own process behind the
connection: in containers every worker has the same process id. It stays the same within a transaction, and whoever
adds locks in one order, by name and bucket. So add once a transaction, or those who share a shard can deadlock; and
last, because the rows are locked until it ends. Not here: what the names mean to a reader (`observability.metrics`),
and what a claim counts (`claim_sql`).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import inf
from typing import Final

from sqlalchemy import Connection, text

from signal_pipeline.domain import FailureReason, Stage

SHARDS = 16

QUEUE: Final = "queue"
"""The duration that is not a stage's: from the load of a signal to its first claim."""

BOUNDS: Final = {
    QUEUE: (1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21_600, 86_400),
    "stage": (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
}
"""Upper bounds of the buckets (s); one without bound follows. Other bounds later: stored counts move up to the next."""

INSERT: Final = """
    INSERT INTO counters (name, le, shard, value, microseconds)
    SELECT r.name, r.le, pg_backend_pid() % :shards, r.n, r.microseconds FROM raised AS r ORDER BY r.name, r.le
    ON CONFLICT (name, le, shard) DO UPDATE
    SET value = counters.value + excluded.value, microseconds = counters.microseconds + excluded.microseconds
"""
"""Put what the CTE `raised (name, le, n, microseconds)` says where it belongs; a total is without time."""

ADD = text(f"""
    WITH raised AS (
        SELECT * FROM unnest(CAST(:names AS text[]), CAST(:les AS double precision[]), CAST(:ns AS bigint[]),
                             CAST(:microseconds AS bigint[])) AS w (name, le, n, microseconds)
    )
    {INSERT}
""")  # noqa: S608  of constants

TOTALS = text("""
    SELECT name, sum(value)::bigint AS value FROM counters WHERE microseconds IS NULL GROUP BY name ORDER BY name
""")

DURATIONS = text("""
    SELECT name, le, sum(value)::bigint AS observations, sum(microseconds)::bigint AS microseconds
    FROM counters WHERE microseconds IS NOT NULL GROUP BY name, le ORDER BY name, le
""")


def failed(stage: Stage, reason: FailureReason) -> str:
    """The name of the counter of signals that failed there, for that."""
    return f"signals_failed_total:{stage.value}:{reason.value}"


def bounds_of(what: str) -> tuple[float, ...]:
    """The upper bounds of the buckets of a duration, infinity last."""
    return (*map(float, BOUNDS.get(what, BOUNDS["stage"])), inf)


def bucket_of(what: str, microseconds: str) -> str:
    """SQL: the upper bound of the bucket of a duration given in SQL, the same that `add` puts it into.

    `width_bucket` counts the bounds that are not above a value, and a bucket holds what does not exceed its own: both
    are turned round.
    """
    falling = ", ".join(f"{-bound}" for bound in reversed(bounds_of(what)))
    bounds = f"'{{{falling}}}'::double precision[]"
    return f"-({bounds})[width_bucket(-({microseconds}) / 1e6::double precision, {bounds})]"


def add(
    conn: Connection, amounts: Mapping[str, int], seconds: Mapping[Stage | str, Sequence[float]] | None = None
) -> None:
    """Raise totals by name and put durations (s) by stage into their buckets, as part of the caller's transaction."""
    rows: list[tuple[str, float, int, int | None]] = [(name, inf, n, None) for name, n in amounts.items() if n]
    rows += [(what, le, n, microseconds) for (what, le), (n, microseconds) in _buckets(seconds or {}).items()]
    if rows:
        names, les, ns, microseconds = map(list, zip(*rows, strict=True))
        conn.execute(ADD, {"names": names, "les": les, "ns": ns, "microseconds": microseconds, "shards": SHARDS})


def _buckets(seconds: Mapping[Stage | str, Sequence[float]]) -> dict[tuple[str, float], tuple[int, int]]:
    """(what, le) -> how many, and their sum in whole microseconds: a sum of floats could shrink by its order."""
    found: dict[tuple[str, float], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for what, values in seconds.items():
        bounds = bounds_of(str(what))
        for value in values:
            key = (str(what), bounds[bisect_left(bounds, value)])
            n, microseconds = found[key]
            found[key] = (n + 1, microseconds + round(value * 1e6))
    return found


def totals(conn: Connection) -> dict[str, int]:
    """All totals by name."""
    return {row.name: row.value for row in conn.execute(TOTALS)}


def durations(conn: Connection) -> dict[str, dict[float, tuple[int, int]]]:
    """Of each duration its buckets: upper bound (s) -> observations in this one alone, and their sum (µs)."""
    found: dict[str, dict[float, tuple[int, int]]] = defaultdict(dict)
    for row in conn.execute(DURATIONS):
        found[row.name][row.le] = (row.observations, row.microseconds)
    return dict(found)
