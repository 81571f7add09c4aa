"""A scrape ends by its deadline, whatever the databases do; and it spares them: a cache, a limit to each statement."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from signal_pipeline.cli.metrics import impatient_engines
from signal_pipeline.db.embedded.keeper import SOCKET_FILES
from signal_pipeline.observability import metrics, readings
from signal_pipeline.observability.metrics import PipelineCollector
from signal_pipeline.observability.readings import Reading
from signal_pipeline.settings import DatabaseSettings, MetricsSettings, Settings
from signal_pipeline_tests.faults.own_server import Proxy
from signal_pipeline_tests.observability.prometheus import DEADLINE, exporter, fetch, prometheus, wait_for
from signal_pipeline_tests.signals import insert_signals

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATIONS = ("deploy/prometheus/prometheus.yml", "deploy/compose/prometheus.yml")
PENDING = "signal_pipeline_signals"


@contextmanager
def silent_listener() -> Iterator[int]:
    """A port on loopback where whoever connects is let in, and never hears a word."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as server:
        yield int(server.getsockname()[1])


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def values(collector: PipelineCollector) -> dict[str, float]:
    """What a scrape says, without labels."""
    found = [sample for family in collector.collect() for sample in family.samples]
    return {s.name.removeprefix("signal_pipeline_"): s.value for s in found if not s.labels}


def settings_for(dagster: str) -> Settings:
    given = MetricsSettings(metrics_cache_seconds=0, metrics_timeout_seconds=1)
    return Settings(database=DatabaseSettings(dagster_database_url=SecretStr(dagster)), metrics=given)


@pytest.mark.processes
@pytest.mark.programs
def test_prometheus_hears_of_silent_databases_and_does_not_take_the_exporter_for_dead(tmp_path: Path) -> None:
    """With the exporter at its defaults, and less patience than is deployed: a driver that waits alone takes 10 s."""
    pace = {"scrape_interval": "8s", "scrape_timeout": "8s"}
    defaults = MetricsSettings()
    with silent_listener() as port:
        url = f"postgresql://nobody@127.0.0.1:{port}/nothing"
        serving = exporter(
            url,
            tmp_path / "exporter",
            DAGSTER_DATABASE_URL=url.replace("nothing", "dagster"),
            METRICS_TIMEOUT_SECONDS=f"{defaults.metrics_timeout_seconds:g}",
            METRICS_CACHE_SECONDS=f"{defaults.metrics_cache_seconds:g}",
        )
        with serving as (address, _), prometheus(tmp_path / "prometheus", [address], pace) as server:
            wait_for(lambda: server.query("up == 1"), "the exporter is up")
            assert server.value("signal_pipeline_database_up") == 0
            assert server.value("signal_pipeline_dagster_up") == 0


@pytest.mark.parametrize("path", CONFIGURATIONS)
def test_prometheus_waits_longer_than_the_exporter_does(path: str) -> None:
    pace = yaml.safe_load((ROOT / path).read_text())["global"]
    timeout, interval = (int(pace[name].removesuffix("s")) for name in ("scrape_timeout", "scrape_interval"))
    assert 2 * MetricsSettings().metrics_timeout_seconds <= timeout <= interval


def test_both_databases_are_asked_at_the_same_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    together = threading.Barrier(2, timeout=DEADLINE)

    def read(domain: Engine, *, max_equipment: int) -> Reading:
        together.wait()
        return readings.read(domain, max_equipment=max_equipment)

    def read_heartbeats(_: Engine) -> dict[str, float]:
        together.wait()
        return {"SENSOR": 1.0}

    monkeypatch.setattr(metrics, "read", read)
    monkeypatch.setattr(metrics, "read_heartbeats", read_heartbeats)
    given = MetricsSettings(metrics_timeout_seconds=2 * DEADLINE)
    found = values(PipelineCollector(engine, engine, given, tmp_path))
    assert (found["database_up"], found["dagster_up"]) == (1, 1)


def test_a_database_that_is_silent_is_down_by_the_deadline_and_is_not_asked_again_meanwhile(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The scrape is over while the database still says nothing: that is the deadline."""
    speaks = threading.Event()
    asked: list[str] = []

    def read(domain: Engine, *, max_equipment: int) -> Reading:
        asked.append(threading.current_thread().name)
        assert speaks.wait(DEADLINE)
        return readings.read(domain, max_equipment=max_equipment)

    monkeypatch.setattr(metrics, "read", read)
    monkeypatch.setattr(metrics, "read_heartbeats", lambda _: {"SENSOR": 1.0})
    collector = PipelineCollector(engine, engine, settings_for(url_of(engine)).metrics, tmp_path)
    try:
        for errors in (1, 2, 3):
            found = values(collector)
            assert (found["database_up"], found["scrape_errors_total"], found["dagster_up"]) == (0, errors, 1)
            assert "features_total" not in found
        assert len(asked) == 1
    finally:
        speaks.set()
    wait_for(lambda: values(collector)["database_up"], "the database that speaks again is up")


def test_a_connection_that_has_gone_silent_is_given_up_soon(engine: Engine, tmp_path: Path) -> None:
    """A proxy that dropped the connection without a word: TCP sees nothing, the next connection works."""
    with Proxy(Path(str(engine.url.query["host"])) / SOCKET_FILES[0]) as proxy:
        url = engine.url.set(host="127.0.0.1", port=proxy.port, query={}).render_as_string(hide_password=False)
        settings = settings_for(url)
        with impatient_engines(settings, url) as (domain, dagster):
            collector = PipelineCollector(domain, dagster, settings.metrics, tmp_path)
            wait_for(lambda: values(collector)["database_up"], "it is up")
            assert proxy.silence()
            assert values(collector)["database_up"] == 0
            wait_for(lambda: values(collector)["database_up"], "a new connection was made")


def test_all_scrapes_within_the_cache_get_the_same_answer(engine: Engine, tmp_path: Path) -> None:
    def pending(collector: PipelineCollector) -> float:
        found = (sample for family in collector.collect() for sample in family.samples if sample.name == PENDING)
        return next(sample.value for sample in found if sample.labels["status"] == "pending")

    kept, fresh = (
        PipelineCollector(engine, engine, MetricsSettings(metrics_cache_seconds=seconds), tmp_path)
        for seconds in (3600, 0)
    )
    assert (pending(kept), pending(fresh)) == (0, 0)
    insert_signals(engine, 2)
    assert (pending(kept), pending(fresh)) == (0, 2)


def test_the_server_itself_ends_a_statement_of_a_scrape(engine: Engine) -> None:
    url = url_of(engine)
    with impatient_engines(settings_for(url), url) as engines:
        for one in engines:
            with one.connect() as conn, pytest.raises(OperationalError, match="statement timeout"):
                conn.execute(text("SELECT pg_sleep(3600)"))


@pytest.mark.processes
def test_a_scrape_that_meets_a_locked_table_says_down_and_leaves_no_statement_behind(
    engine: Engine, tmp_path: Path
) -> None:
    ours = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    with exporter(url_of(engine), tmp_path, METRICS_TIMEOUT_SECONDS="1") as (address, _):

        def is_up() -> float:
            found = parse(fetch(f"http://{address}/metrics") or "")
            return next(f.samples[0].value for f in found if f.name == "signal_pipeline_database_up")

        with engine.connect() as conn:
            conn.execute(text("LOCK TABLE raw_signals IN ACCESS EXCLUSIVE MODE"))
            assert is_up() == 0
            wait_for(lambda: conn.execute(ours).scalar_one() == 0, "the statement is ended")
        wait_for(is_up, "it is up again")
