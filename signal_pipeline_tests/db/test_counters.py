"""Totals that only grow: exact whoever adds at the same time, and only with the transaction that did the work."""

import os
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.db import counters
from signal_pipeline.db.engine import create_engine
from signal_pipeline.settings import DatabaseSettings
from signal_pipeline_tests.db.contenders import contend


def totals(engine: Engine) -> dict[str, int]:
    with engine.connect() as conn:
        return counters.totals(conn)


def test_nothing_counted_is_no_total(engine: Engine) -> None:
    with engine.begin() as conn:
        counters.add(conn, {})
        counters.add(conn, {"signals": 0})
    assert totals(engine) == {}


def test_totals_add_up_by_name(engine: Engine) -> None:
    with engine.begin() as conn:
        counters.add(conn, {"b": 2, "a": 1})
        counters.add(conn, {"b": 2**40})
    assert totals(engine) == {"a": 1, "b": 2**40 + 2}


def test_what_is_rolled_back_was_not_counted(engine: Engine) -> None:
    with engine.connect() as conn:
        counters.add(conn, {"a": 1})
        conn.rollback()
    assert totals(engine) == {}


def test_processes_are_spread_over_shards(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in (1, 2, 2, 1 + counters.SHARDS):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        with engine.begin() as conn:
            counters.add(conn, {"a": 10})
    with engine.connect() as conn:
        shards = conn.execute(text("SELECT shard, value FROM counters ORDER BY 1")).all()
    assert [tuple(row) for row in shards] == [(1, 20), (2, 20)]
    assert totals(engine) == {"a": 40}


def add_many(start: Callable[[], object], url: str, names: list[str]) -> int:
    """Fifty transactions that each raise all names, in the order given."""
    engine = create_engine(url, DatabaseSettings())
    start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 7)  # all on one shard: the worst case
        for n in range(50):
            with engine.begin() as conn:
                counters.add(conn, dict.fromkeys(names, n))
    engine.dispose()
    return len(names)


@pytest.mark.processes
def test_processes_that_count_at_once_lose_nothing_and_do_not_deadlock(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    names = ["features_total", "signals_completed_total", "zebra"]
    contend(add_many, [(url, names[::-1] if n % 2 else names) for n in range(4)])
    assert totals(engine) == dict.fromkeys(names, 4 * sum(range(50)))
