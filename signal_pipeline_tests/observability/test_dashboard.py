"""Grafana's dashboard: each of its queries gives data from a real Prometheus, and its files fit together.

Not tried: Grafana itself, which is no package of Debian.
"""

import json
import math
import time
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, text

from signal_pipeline.db import claims
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings
from signal_pipeline_tests.observability.prometheus import Prometheus, exporter, prometheus, wait_for
from signal_pipeline_tests.signals import insert_signals, recording

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
GRAFANA = DEPLOY / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards/signal_pipeline.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$__rate_interval": "10m", "$equipment": ".*"}
DATA_SOURCE: dict[str, Any] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())


def queries() -> Iterator[tuple[str, str]]:
    """Name and query of every line of every panel, as Grafana would send it."""
    for panel in PANELS:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield f"{panel['title']} {target['refId']}", expression


def work_off(engine: Engine) -> None:
    """Two signals that succeed, and one that is too short."""
    insert_signals(engine, 2)
    insert_signals(engine, 1, equipment="short", phases=recording(seconds=0.5))
    settings = Settings()
    for claim in claims.claim_pending(engine, settings=settings.claims, claimed_by="test").claims:
        run_batch(Worker(engine, settings, "test"), Batch(claim.token, claim.signal_ids))


def beat(engine: Engine) -> None:
    """As if Dagster's daemon used the same database."""
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE daemon_heartbeats (daemon_type text, body text)"))
        body = json.dumps({"__class__": "DaemonHeartbeat", "timestamp": time.time()})
        conn.execute(text("INSERT INTO daemon_heartbeats VALUES ('SENSOR', :body)"), {"body": body})


def answer(server: Prometheus, expression: str) -> list[float]:
    """The numbers that a query gives now; NaN (a quantile of a stage that did nothing) is none."""
    values = (float(found["value"][1]) for found in server.query(expression))
    return [value for value in values if not math.isnan(value)]


@pytest.mark.processes
@pytest.mark.programs
@pytest.mark.timeout(900)
def test_every_query_gives_data_while_signals_are_worked_off(engine: Engine, tmp_path: Path) -> None:
    beat(engine)
    url = engine.url.render_as_string(hide_password=False)
    serving = exporter(url, tmp_path / "exporter", DAGSTER_DATABASE_URL=url)
    with serving as (address, _), prometheus(tmp_path / "prometheus", [address]) as server:
        # a rate is what rose between two scrapes: one of them sees the counters before the work
        wait_for(lambda: server.query("signal_pipeline_claims_total == 0"), "the empty queue is scraped")
        work_off(engine)
        for name, expression in queries():
            wait_for(partial(answer, server, expression), f"{name}: {expression}")


def test_no_variable_is_left_unsaid() -> None:
    assert not [name for name, expression in queries() if "$" in expression]
    defined = {f"${one['name']}" for one in DASHBOARD["templating"]["list"]}
    assert defined == {name for name in VARIABLES if not name.startswith("$__")}


def test_panels_say_what_they_show_and_do_not_overlap() -> None:
    assert all(panel["title"] and panel["description"] for panel in PANELS)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for one, other in combinations((panel["gridPos"] for panel in DASHBOARD["panels"]), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    (source,) = DATA_SOURCE["datasources"]
    asked = {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]}
    asked |= {one["datasource"]["uid"] for one in (*PANELS, *DASHBOARD["templating"]["list"])}
    assert asked == {source["uid"]}


def test_compose_mounts_the_dashboard_where_grafana_looks_and_names_its_prometheus() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    (source,) = DATA_SOURCE["datasources"]
    scheme, host, port = source["url"].replace("//", "").split(":")
    assert scheme == "http"
    assert host in services
    assert services[host]["ports"][0].endswith(f":{port}")
    scraping = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == scraping["scrape_interval"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/signal_pipeline.yaml").read_text())["providers"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
