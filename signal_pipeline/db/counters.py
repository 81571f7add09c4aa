"""Totals that only grow: kept by the transaction that did the work, right after any crash, untouched by retention.

Each total is spread over a few shards, so that workers finishing at the same time do not queue on one row.
"""

import os
from collections.abc import Mapping

from sqlalchemy import Connection, text

SHARDS = 16

ADD = text("""
    INSERT INTO counters (name, shard, value)
    SELECT w.name, :shard, w.n FROM unnest(CAST(:names AS text[]), CAST(:ns AS bigint[])) AS w (name, n)
    ORDER BY w.name
    ON CONFLICT (name, shard) DO UPDATE SET value = counters.value + excluded.value
""")

TOTALS = text("SELECT name, sum(value)::bigint AS value FROM counters GROUP BY name ORDER BY name")


def add(conn: Connection, amounts: Mapping[str, int]) -> None:
    """Raise each named total, as part of the caller's transaction."""
    wanted = {name: n for name, n in amounts.items() if n}
    if wanted:
        shard = os.getpid() % SHARDS
        conn.execute(ADD, {"names": list(wanted), "ns": list(wanted.values()), "shard": shard})


def totals(conn: Connection) -> dict[str, int]:
    """All totals by name."""
    return {row.name: row.value for row in conn.execute(TOTALS)}
