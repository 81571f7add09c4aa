"""Two hosts, one Postgres, and a cable that is pulled half way.

120 signals by default; SIGNAL_PIPELINE_TESTS_HOSTS_SIGNALS=1000 makes it the long version (`make test-hosts`).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from signal_pipeline.db import claims
from signal_pipeline.db.claims import Claim
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.training import train
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ModelSettings, Settings
from signal_pipeline_tests.hosts import late_writer, silent_worker
from signal_pipeline_tests.hosts.plant import Host, Plant, plant, wait_until
from signal_pipeline_tests.signals import (
    achievements,
    change,
    count,
    failures,
    features_hash,
    insert_signals,
    statuses,
    totals,
    value,
)

pytestmark = [pytest.mark.processes, pytest.mark.programs, pytest.mark.timeout(3600)]

SIGNALS = int(os.environ.get("SIGNAL_PIPELINE_TESTS_HOSTS_SIGNALS", "120"))
MOTORS = 4
HEALTHY = 40
ENVIRONMENT = {
    "CLAIM_LEASE_SECONDS": "20",
    "CLAIM_BATCH_SIZE": str(max(10, SIGNALS // 20)),
    "CLAIM_MAX_RUNS": "1",
    # on a busy machine a short lease is lost now and then, and no signal is poison
    "CLAIM_MAX_ATTEMPTS": "50",
}

# A tenth of a second for each signal to start, in the transaction that counts the attempt, and as long as the test has
# its gate shut: so that the cut comes in the middle of work, and of a transaction.
GATE = 75
SLOW_START = f"""
    CREATE FUNCTION test_slow_start() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.1), pg_advisory_xact_lock_shared({GATE}); RETURN NEW; END $$;
    CREATE TRIGGER test_slow_start BEFORE UPDATE OF work_started_at ON raw_signals FOR EACH ROW
        WHEN (NEW.work_started_at IS NOT NULL) EXECUTE FUNCTION test_slow_start();
"""
EMPTY = "TRUNCATE raw_signals, hourly_feature_summary, counters, anomaly_states, anomaly_events CASCADE"
SCORES = """
    SELECT md5(string_agg(concat_ws(' ', raw_id, window_start, model_kind, float8send(score), threshold, is_anomaly),
                          ',' ORDER BY raw_id, window_start, model_kind)) FROM anomaly_scores
"""
HELD_BY = """
    SELECT id, claim_token FROM raw_signals
    WHERE processing_status = 'processing' AND split_part(claimed_by, '/', 1) = :instance
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Plant]:
    """Below /tmp, not below pytest's own folder: that is closed to the user whom root runs the server as."""
    folder = Path(tempfile.mkdtemp(prefix="signal_pipeline-hosts-"))
    folder.chmod(0o711)
    try:
        with plant(folder) as site:
            yield site
            data = folder / "database" / "postgres" / "pg18"
            elsewhere = data.readlink().parent if data.is_symlink() else None
        if elsewhere is not None:
            shutil.rmtree(elsewhere)
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Results:
    """What the database says in the end."""

    statuses: dict[UUID, str]
    failures: dict[UUID, str]
    features: str
    n_features: int
    hours: int
    scores: str
    n_scores: int
    totals: dict[str, int]


def results(site: Plant) -> Results:
    return Results(
        statuses=statuses(site.engine),
        failures=failures(site.engine),
        features=features_hash(site.engine),
        n_features=count(site.engine, "features"),
        hours=count(site.engine, "hourly_feature_summary"),
        scores=str(value(site.engine, SCORES)),
        n_scores=count(site.engine, "anomaly_scores"),
        totals=achievements(site.engine),
    )


def insert(site: Plant) -> list[UUID]:
    return [i for k in range(MOTORS) for i in insert_signals(site.engine, SIGNALS // MOTORS, equipment=f"pump-{k}")]


def work_off(worker: Worker) -> None:
    while got := claims.claim_pending(worker.engine, settings=worker.settings.claims, claimed_by=worker.name).claims:
        for claim in got:
            run_batch(worker, Batch(claim.token, claim.signal_ids))


@pytest.fixture
def undisturbed(site: Plant) -> Results:
    """A model in the shared folder, and the same rows worked on by this process alone; then the tables are empty."""
    worker = Worker(site.engine, Settings(models=ModelSettings(models_dir=site.folder / "models")), "alone")
    for k in range(2):  # one motor is no fleet, and those of the test have no reference of their own
        insert_signals(site.engine, HEALTHY // 2, equipment=f"healthy-{k}")
    work_off(worker)
    train(worker)
    change(site.engine, EMPTY)
    insert(site)
    work_off(worker)
    found = results(site)
    change(site.engine, EMPTY)
    return found


def held_by(site: Plant, host: Host) -> dict[UUID, UUID]:
    """Signals that a host holds, and under which token."""
    with site.engine.connect() as conn:
        return {row.id: row.claim_token for row in conn.execute(text(HELD_BY), {"instance": host.instance()})}


def is_half_way(site: Plant, host: Host) -> bool:
    done = "SELECT count(*) FROM raw_signals WHERE processing_status = 'completed'"
    at_work = f"SELECT count(*) FROM ({HELD_BY} AND work_started_at IS NOT NULL) AS mine"
    enough = int(value(site.engine, done)) >= SIGNALS // 3
    return enough and bool(value(site.engine, at_work, instance=host.instance()))


def cut_at_work(site: Plant, a: Host, b: Host) -> dict[UUID, UUID]:
    """Cut host a off while it works and a third is done; the signals that it held, and under which token."""
    while True:
        wait_until(lambda: is_half_way(site, a), "host a works on signals, a third is done", a, b)
        with site.engine.begin() as conn:
            conn.execute(text("SELECT pg_advisory_xact_lock(:gate)"), {"gate": GATE})
            if is_half_way(site, a):  # still; and it cannot finish what it has not begun
                site.network.cut("a")
                return held_by(site, a)


def none_carries(site: Plant, tokens: list[UUID]) -> bool:
    query = "SELECT count(*) FROM raw_signals WHERE claim_token = ANY(:tokens)"
    return bool(value(site.engine, query, tokens=tokens) == 0)


def all_are_final(site: Plant) -> bool:
    query = "SELECT bool_and(processing_status IN ('completed', 'failed')) FROM raw_signals"
    return bool(value(site.engine, query))


def test_a_host_that_is_cut_off_loses_its_claims_and_nothing_is_lost_or_done_twice(
    site: Plant, undisturbed: Results
) -> None:
    with ExitStack() as cable:
        a = cable.enter_context(site.host("a", **ENVIRONMENT))
        with site.host("b", **ENVIRONMENT) as b:
            wait_until(lambda: bool(a.instance() and b.instance()), "both sensors look at the queue", a, b)
            change(site.engine, SLOW_START)
            insert(site)
            lost = cut_at_work(site, a, b)
            assert lost
            tokens = list(set(lost.values()))
            cut_runs = a.started_runs(tokens)
            # only b is left that could
            wait_until(lambda: none_carries(site, tokens), "host b has taken over what a had", a, b)
            site.network.mend("a")
            wait_until(lambda: all_are_final(site), "all signals are final", a, b)
            wait_until(a.is_idle, "no run of the cut host hangs", a, b)
            wait_until(b.is_idle, "no run of the other host hangs", a, b)
        found = results(site)
        assert found == undisturbed
        assert set(found.statuses.values()) == {"completed"}
        assert found.totals["features_total"] == found.n_features
        assert found.n_scores > 0
        assert totals(site.engine)["reclaims_total"] >= len(lost)
        assert a.statuses_of(cut_runs) == {"FAILURE"}
        # it is back by itself: now it is alone
        again = insert_signals(site.engine, 10, equipment="again")
        wait_until(lambda: all_are_final(site), "the host that was cut off works again", a)
        assert {statuses(site.engine)[i] for i in again} == {"completed"}
        wait_until(a.is_idle, "no run of the host that came back hangs", a)
    change(site.engine, "DROP FUNCTION test_slow_start CASCADE")
    change(site.engine, EMPTY)


def take_over(worker: Worker, ids: list[UUID]) -> Claim:
    """As soon as their lease has run out."""
    taken: list[Claim] = []

    def took() -> bool:
        taken.extend(
            claims.claim_pending(worker.engine, settings=worker.settings.claims, claimed_by=worker.name).claims
        )
        return bool(taken)

    wait_until(took, "the lease of the cut host has run out")
    (claim,) = taken
    assert sorted(claim.signal_ids) == sorted(ids)
    return claim


def rows(site: Plant) -> list[Any]:
    with site.engine.connect() as conn:
        return list(conn.execute(text("SELECT * FROM raw_signals ORDER BY id")))


def test_what_a_cut_host_writes_after_its_lease_is_refused(site: Plant) -> None:
    ids = insert_signals(site.engine, 5, equipment="late")
    command = [
        *site.network.inside("a"),
        sys.executable,
        late_writer.__file__,
        site.url().replace("://", "+psycopg://"),
    ]
    with subprocess.Popen([*command, "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as late:
        assert late.stdin is not None
        assert late.stdout is not None
        assert json.loads(late.stdout.readline()) == [str(i) for i in ids]
        site.network.cut("a")
        worker = Worker(site.engine, Settings(), "successor")
        claim = take_over(worker, ids)
        run_batch(worker, Batch(claim.token, claim.signal_ids))
        before = rows(site)
        site.network.mend("a")
        late.stdin.write("write\n")
        late.stdin.flush()
        answers = json.loads(late.stdout.readline())
    assert answers == {"heartbeat": 0} | dict.fromkeys(("fence", "complete", "fail", "everything"), "refused")
    assert rows(site) == before
    assert totals(site.engine)["stale_writes_refused_total"] > 0
    assert {row.processing_status for row in before} == {"completed"}
    change(site.engine, EMPTY)


def test_a_host_that_is_cut_off_in_a_transaction_neither_hangs_nor_keeps_its_rows_locked(site: Plant) -> None:
    insert_signals(site.engine, 3, equipment="locked")
    urls = [site.url().replace("://", f"+{driver}://") for driver in ("psycopg", "psycopg2")]
    command = [*site.network.inside("a"), sys.executable, silent_worker.__file__, *urls]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        assert host.stdout.readline().strip() == "locked"
        site.network.cut("a")
        host.stdin.write("ask\n")
        host.stdin.flush()
        # whichever comes first, the dead peer or the idle transaction: before the lock's own time limit
        assert change(site.engine, "UPDATE raw_signals SET attempts = 0") == 3
        assert json.loads(host.stdout.readline()) == {"domain": "given up", "dagster": "given up"}
        site.network.mend("a")
    change(site.engine, EMPTY)
