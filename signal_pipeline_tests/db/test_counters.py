"""Totals that only grow: exact whoever adds at the same time, and only with the transaction that did the work."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.db import counters
from signal_pipeline.db.engine import create_engine
from signal_pipeline.domain import Stage
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


def test_connections_are_spread_over_shards(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine.begin() as one, engine.begin() as other:
        pids = [conn.execute(text("SELECT pg_backend_pid()")).scalar_one() for conn in (one, other)]
        monkeypatch.setattr(counters, "SHARDS", 2 * abs(pids[0] - pids[1]))  # so that these two differ
        for conn in (one, other, other):
            counters.add(conn, {"a": 10})
    with engine.connect() as conn:
        values = conn.execute(text("SELECT value FROM counters ORDER BY 1")).scalars().all()
    assert values == [10, 20]
    assert totals(engine) == {"a": 30}


def test_durations_fall_into_the_bucket_that_they_do_not_exceed(engine: Engine) -> None:
    with engine.begin() as conn:
        counters.add(conn, {}, {Stage.LOAD: [0.005, 0.0051, 0.01, 1e6], counters.QUEUE: [0.0]})
        counters.add(conn, {}, {Stage.LOAD: [0.01]})
    with engine.connect() as conn:
        found = counters.durations(conn)
    assert found["load"] == {0.005: (1, 5000), 0.01: (3, 25_100), float("inf"): (1, 10**12)}
    assert found["queue"] == {1: (1, 0)}


@pytest.mark.parametrize("what", [counters.QUEUE, Stage.CLAIM])
def test_the_database_puts_a_duration_into_the_bucket_that_python_does(engine: Engine, what: str) -> None:
    edges = [round(bound * 1e6) for bound in counters.bounds_of(what)[:-1]]
    given = [0, *(edge + n for edge in edges for n in (-1, 0, 1)), 10**12]
    bucket = counters.bucket_of(what, "v")
    asked = text(f"SELECT {bucket} FROM unnest(CAST(:given AS bigint[])) WITH ORDINALITY AS w (v, i) ORDER BY i")
    with engine.begin() as conn:
        said = conn.execute(asked, {"given": given}).scalars().all()
        for microseconds in given:
            counters.add(conn, {}, {what: [microseconds / 1e6]})
        found = counters.durations(conn)[what]
    assert {bound: (said.count(bound), sum(v for v, b in zip(given, said, strict=True) if b == bound))
            for bound in set(said)} == found  # fmt: skip


def add_many(start: Callable[[], object], url: str, names: list[str]) -> int:
    """Fifty transactions that each raise all names, in the order given."""
    engine = create_engine(url, DatabaseSettings())
    start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counters, "SHARDS", 1)  # all on one shard: the worst case
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
