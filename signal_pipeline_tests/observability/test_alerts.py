"""The alert rules: each fires and is quiet as its unit test says, and the runbook has a section for it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from signal_pipeline_tests.programs import program

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/prometheus"


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@pytest.mark.programs
@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")],
    ids=" ".join,
)
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    command = [str(program("promtool")), *arguments]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_firing_and_quiet() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    cases = {(case["alertname"], bool(case["exp_alerts"])) for one in tests for case in one["alert_rule_test"]}
    assert cases == {(alert["alert"], fires) for alert in alerts() for fires in (True, False)}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_has_its_section_in_the_runbook(alert: dict[str, Any]) -> None:
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = [line[4:] for line in (ROOT / page).read_text().splitlines() if line.startswith("### ")]
    assert alert["alert"] in headings
    assert anchor == alert["alert"].lower()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_a_summary_says_which_or_how_much_and_a_link_is_a_link(alert: dict[str, Any]) -> None:
    """A pager shows the annotations alone; an address without a host would open nothing there."""
    assert "{{ $value" in alert["annotations"]["summary"] or "{{ $labels." in alert["annotations"]["summary"]
    assert all(text.startswith("https://") for name, text in alert["annotations"].items() if name.endswith("_url"))


@pytest.mark.programs
@pytest.mark.parametrize("name", ["prometheus/prometheus.yml", "compose/prometheus.yml"])
def test_the_block_for_alertmanager_can_be_switched_on(name: str, tmp_path: Path) -> None:
    """It stands in comments, for there is none here; without their marks Prometheus takes it."""
    written = (FOLDER.parent / name).read_text()
    switched_on = re.sub(r"^# ?(?=alerting:|  )", "", written, flags=re.MULTILINE)
    (tmp_path / "alerts.yml").write_text((FOLDER / "alerts.yml").read_text())
    (tmp_path / "prometheus.yml").write_text(switched_on)
    assert "alertmanagers" in yaml.safe_load(switched_on)["alerting"]
    command = [str(program("promtool")), "check", "config", "prometheus.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
