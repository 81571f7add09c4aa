"""The metrics: equal to the database, whatever died before, from every host, and nothing while the database is away."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from sqlalchemy import Engine, text

from signal_pipeline.db import claims, counters
from signal_pipeline.db.engine import create_engine
from signal_pipeline.domain import FailureReason, Stage, Status
from signal_pipeline.errors import ClaimLost
from signal_pipeline.observability import readings
from signal_pipeline.observability.metrics import TOTALS, PipelineCollector, families
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import DatabaseSettings, MetricsSettings, Settings
from signal_pipeline_tests.observability.prometheus import exporter, fetch, prometheus, wait_for
from signal_pipeline_tests.programs import program
from signal_pipeline_tests.signals import change, count, expire, insert_signals, recording, steal, totals

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

KILLED = """
import os, signal, sys
from signal_pipeline.db import claims
from signal_pipeline.db.engine import create_engine
from signal_pipeline.processing import run
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings

settings = Settings()
worker = Worker(create_engine(sys.argv[1], settings.database), settings, "killed")
(claim,) = claims.claim_pending(worker.engine, settings=settings.claims, claimed_by="killed").claims
run.score_batch = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # extracted and stored, never completed
run.run_batch(worker, Batch(claim.token, claim.signal_ids))
"""


def samples(body: str) -> Samples:
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in parse(body) for s in family.samples}


def work_off(engine: Engine) -> None:
    settings = Settings()
    worker = Worker(engine, settings, "test")
    for claim in claims.claim_pending(engine, settings=settings.claims, claimed_by="test").claims:
        run_batch(worker, Batch(claim.token, claim.signal_ids))


def fill(engine: Engine) -> None:
    """Three good signals, one that is too short, one that still waits."""
    insert_signals(engine, 3)
    insert_signals(engine, 1, equipment="short", phases=recording(seconds=0.5))
    work_off(engine)
    insert_signals(engine, 1, equipment='new "M2"\\ \n')


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def read(engine: Engine) -> Samples:
    found = readings.read(engine, max_equipment=10)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families(found) for s in f.samples}


def test_every_value_of_a_closed_list_is_there_from_the_start(engine: Engine) -> None:
    found = read(engine)
    failed = [dict(labels) for name, labels in found if name == "signal_pipeline_signals_failed_total"]
    assert {(one["stage"], one["reason"]) for one in failed} == {
        (s.value, r.value) for s in Stage for r in FailureReason
    }
    assert {dict(labels)["status"] for name, labels in found if name == "signal_pipeline_signals"} == set(Status)
    stages = {dict(labels)["stage"] for name, labels in found if name == "signal_pipeline_stage_duration_seconds_count"}
    assert stages == set(Stage)
    assert {f"signal_pipeline_{name}" for name in TOTALS} <= {name for name, _ in found}
    assert set(found.values()) - {found["signal_pipeline_database_size_bytes", ()]} == {0.0}


def test_what_was_done_is_what_is_counted(engine: Engine) -> None:
    fill(engine)
    found = read(engine)
    assert found["signal_pipeline_signals_completed_total", ()] == 3
    assert found["signal_pipeline_features_total", ()] == count(engine, "features") == 9
    assert found["signal_pipeline_claims_total", ()] == 4
    assert found["signal_pipeline_queue_wait_seconds_count", ()] == 4
    where = (("reason", "insufficient_data"), ("stage", "validate"))
    assert found["signal_pipeline_signals_failed_total", where] == 1
    for stage, n in (("load", 3), ("validate", 3), ("extract", 3), ("diagnose", 3), ("finalize", 1), ("claim", 1)):
        assert found["signal_pipeline_stage_duration_seconds_count", (("stage", stage),)] == n, stage
    assert found["signal_pipeline_oldest_pending_seconds", ()] > 0
    assert found["signal_pipeline_last_success_timestamp_seconds", ()] > 1e9


def test_a_signal_that_is_claimed_again_has_waited_once(engine: Engine) -> None:
    insert_signals(engine, 2)
    settings = Settings()
    for _ in range(3):
        assert claims.claim_pending(engine, settings=settings.claims, claimed_by="test").claims
        expire(engine)
    found = read(engine)
    assert found["signal_pipeline_leases_expired", ()] == 2
    assert (found["signal_pipeline_claims_total", ()], found["signal_pipeline_reclaims_total", ()]) == (6, 4)
    assert found["signal_pipeline_queue_wait_seconds_count", ()] == 2


def test_claiming_one_by_one_counts_the_same(engine: Engine) -> None:
    insert_signals(engine, 2)
    one_by_one = Settings().claims.model_copy(update={"claim_strategy": "s1"})
    claims.claim_pending(engine, settings=one_by_one, claimed_by="test")
    expire(engine)
    claims.claim_pending(engine, settings=one_by_one, claimed_by="test")
    found = read(engine)
    assert (found["signal_pipeline_claims_total", ()], found["signal_pipeline_reclaims_total", ()]) == (4, 2)
    assert found["signal_pipeline_queue_wait_seconds_count", ()] == 2


def test_a_refused_write_is_counted_and_nothing_else_of_it(engine: Engine) -> None:
    ids = insert_signals(engine, 2)
    settings = Settings()
    (claim,) = claims.claim_pending(engine, settings=settings.claims, claimed_by="test").claims
    steal(engine, ids)
    before = totals(engine)
    with pytest.raises(ClaimLost):
        run_batch(Worker(engine, settings, "late"), Batch(claim.token, claim.signal_ids))
    after = totals(engine)
    assert after.pop("stale_writes_refused_total") >= 1
    assert after == before


def test_a_sum_of_durations_never_shrinks_by_rounding(engine: Engine) -> None:
    with engine.begin() as conn:
        counters.add(conn, {}, {Stage.LOAD: [0.1] * 3})
    assert read(engine)["signal_pipeline_stage_duration_seconds_sum", (("stage", "load"),)] == 0.3


def test_a_quantile_lies_in_the_bucket_of_the_durations(engine: Engine) -> None:
    with engine.begin() as conn:
        counters.add(conn, {}, {Stage.EXTRACT: [0.03] * 90 + [7.0] * 10})
    found = read(engine)
    buckets = {
        dict(labels)["le"]: value
        for (name, labels), value in found.items()
        if name.endswith("duration_seconds_bucket") and ("stage", "extract") in labels
    }
    assert (buckets["0.025"], buckets["0.05"], buckets["5"], buckets["10"], buckets["+Inf"]) == (0, 90, 90, 100, 100)


def test_no_label_names_a_file_a_signal_or_a_run(engine: Engine) -> None:
    fill(engine)
    labels = {name for _, pairs in read(engine) for name, _ in pairs}
    assert labels == {"status", "stage", "reason", "le", "equipment"}


def test_equipment_is_bounded(engine: Engine) -> None:
    for i in range(4):
        insert_signals(engine, 1, equipment=f"M{i}")
    some = readings.read(engine, max_equipment=3)
    assert set(some.equipment) == {"M0", "M1", "M2"}
    assert some.equipment_total == 4
    none = readings.read(engine, max_equipment=0)
    assert (none.equipment, none.equipment_total) == ({}, 4)


@pytest.mark.processes
@pytest.mark.programs
def test_prometheus_sees_what_the_database_holds_after_kill_9_and_from_two_hosts(
    engine: Engine, tmp_path: Path
) -> None:
    insert_signals(engine, 3)
    died = subprocess.run([sys.executable, "-c", KILLED, url_of(engine)], check=False, timeout=300)
    assert died.returncode == -signal.SIGKILL
    one, other = exporter(url_of(engine), tmp_path / "a"), exporter(url_of(engine), tmp_path / "b")
    with one as (first, _), other as (second, _), prometheus(tmp_path / "p", [first, second]) as server:
        wait_for(lambda: server.query("up == 1 unless signal_pipeline_database_up == 0")[1:], "both are scraped")
        features = server.query("signal_pipeline_features_total")
        assert [float(found["value"][1]) for found in features] == [9.0, 9.0]
        assert server.value("max(signal_pipeline_signals{status='processing'})") == 3
        assert server.value("max(signal_pipeline_signals_completed_total)") == 0
        expire(engine)
        work_off(engine)
        wait_for(lambda: server.query("min(signal_pipeline_signals_completed_total) == 3"), "the news arrive")
        assert server.value("max(signal_pipeline_features_total)") == count(engine, "features") == 9
        assert server.value("max(signal_pipeline_reclaims_total)") == 3
        quantile = server.value(
            "max(histogram_quantile(0.5, sum by (instance, le) "
            "(signal_pipeline_stage_duration_seconds_bucket{stage='extract'})))"
        )
        assert 0 < quantile < 300


@pytest.mark.processes
@pytest.mark.programs
def test_promtool_finds_nothing_to_complain_about(engine: Engine, tmp_path: Path) -> None:
    fill(engine)
    with exporter(url_of(engine), tmp_path) as (address, _):
        body = fetch(f"http://{address}/metrics")
    assert body is not None
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=body, capture_output=True, text=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@pytest.mark.processes
def test_while_the_database_is_away_the_exporter_says_so_and_nothing_stale(engine: Engine, tmp_path: Path) -> None:
    fill(engine)
    with exporter(url_of(engine), tmp_path) as (address, process):
        before = samples(fetch(f"http://{address}/metrics") or "")
        assert before["signal_pipeline_database_up", ()] == 1
        maintenance = create_engine(_maintenance(engine), DatabaseSettings()).execution_options(
            isolation_level="AUTOCOMMIT"
        )
        with maintenance.connect() as conn:
            name = engine.url.database
            engine.dispose()
            conn.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
            conn.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :n"), {"n": name})
            away = samples(fetch(f"http://{address}/metrics") or "")
            conn.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
        maintenance.dispose()
        assert away["signal_pipeline_database_up", ()] == 0
        assert away["signal_pipeline_scrape_errors_total", ()] == 1
        assert not [name for name, _ in away if name in ("signal_pipeline_signals", "signal_pipeline_features_total")]
        after = samples(fetch(f"http://{address}/metrics") or "")
        assert after["signal_pipeline_features_total", ()] == before["signal_pipeline_features_total", ()]
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


def _maintenance(engine: Engine) -> str:
    return engine.url.set(database="postgres").render_as_string(hide_password=False)


def test_a_scrape_changes_nothing_and_needs_no_right_but_to_read(engine: Engine) -> None:
    fill(engine)
    name = f"reader_{os.urandom(4).hex()}"
    with engine.begin() as conn:
        conn.execute(text(f"CREATE ROLE {name} NOLOGIN"))
        conn.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}"))
    reader = create_engine(url_of(engine), DatabaseSettings())
    try:
        with reader.connect() as conn:
            conn.execute(text(f"SET ROLE {name}"))
            conn.commit()
        assert readings.read(reader, max_equipment=10).totals["features_total"] == 9
    finally:
        reader.dispose()
        with engine.begin() as conn:
            conn.execute(text(f"DROP OWNED BY {name}"))
            conn.execute(text(f"DROP ROLE {name}"))


def test_documented_metrics_are_those_that_exist_the_exporters_own_included(engine: Engine, repository: Path) -> None:
    fill(engine)
    change(engine, "CREATE TABLE daemon_heartbeats (daemon_type text, body text)")
    change(engine, """INSERT INTO daemon_heartbeats VALUES ('SENSOR', '{"timestamp": 1}')""")
    page = (repository / "docs/operations.md").read_text()
    table = dict(re.findall(r"^\| `(signal_pipeline_\w+)` \| (\w+) \|", page, re.MULTILINE))
    collector = PipelineCollector(engine, engine, MetricsSettings(), repository)
    served = {f.name + ("_total" if f.type == "counter" else ""): f.type for f in collector.collect()}
    assert served == table
    named = set(re.findall(r"`(signal_pipeline_[a-z_]+)(?=[`{ ])", page))
    assert named - set(table) == {"signal_pipeline_reader"}


def test_every_reason_of_a_failure_stands_in_the_runbook(repository: Path) -> None:
    page = (repository / "docs/operations.md").read_text()
    section = page.split("### SignalPipelineFailures\n")[1].split("\n### ")[0]
    assert set(re.findall(r"^- `(\w+)`", section, re.MULTILINE)) == {reason.value for reason in FailureReason}


@pytest.fixture
def repository() -> Path:
    return Path(__file__).resolve().parents[2]
