"""Log lines: JSON or text, at the level that was asked for, without the database's chatter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
import yaml
from dagster import DagsterInstance
from dagster._loggers import default_system_loggers

from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.settings import AppSettings

SCRIPT = """
import logging
import structlog
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.settings import AppSettings

logging.basicConfig(level=logging.DEBUG)
configure_logging(AppSettings())
log = structlog.get_logger("t")
log.debug("too.fine", signal="s0")
log.info("signal.extracted", signal="s1", claim="c1", windows=3)
try:
    raise ValueError("broken")
except ValueError:
    log.exception("signal.internal_error", signal="s2")
logging.getLogger("sqlalchemy.engine").info("SELECT secret FROM chatter")
"""


FOREIGN = """
import logging
import sys
dagster = logging.getLogger("dagster")
dagster.addHandler(logging.StreamHandler(sys.stderr))
dagster.propagate = False
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.settings import AppSettings

configure_logging(AppSettings())
logging.getLogger("some.library").warning("it is %s", "late")
dagster.error("a run failed")
try:
    raise ValueError("broken")
except ValueError:
    logging.getLogger("some.library").exception("gave up")
"""


def lines(monkeypatch: pytest.MonkeyPatch, script: str = SCRIPT, **variables: str) -> list[str]:
    """What the script says on standard error; standard output stays free for results."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_lines_have_event_level_time_and_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [json.loads(line) for line in lines(monkeypatch, LOG_FORMAT="json")]
    assert [one["event"] for one in found] == ["signal.extracted", "signal.internal_error"]
    assert found[0] | {"timestamp": ""} == {
        "event": "signal.extracted",
        "level": "info",
        "signal": "s1",
        "claim": "c1",
        "windows": 3,
        "timestamp": "",
    }
    assert "ValueError: broken" in found[1]["exception"]


def test_lines_of_others_are_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [json.loads(line) for line in lines(monkeypatch, FOREIGN, LOG_FORMAT="json")]
    assert [(one["event"], one["level"], one["logger"]) for one in found] == [
        ("it is late", "warning", "some.library"),
        ("a run failed", "error", "dagster"),
        ("gave up", "error", "some.library"),
    ]
    assert all(one["timestamp"] for one in found)
    assert "ValueError: broken" in found[2]["exception"]
    assert "a run failed" in lines(monkeypatch, FOREIGN, LOG_FORMAT="console")


def test_dagsters_own_level_is_sane() -> None:
    """What Dagster prints of each event of a run is in its UI; a terminal or a log file gets what went wrong."""
    configuration = yaml.safe_load((Path(__file__).resolve().parents[2] / "dagster.yaml").read_text())
    assert configuration["python_logs"] == {"python_log_level": "WARNING"}
    with DagsterInstance.ephemeral(settings={"python_logs": configuration["python_logs"]}) as instance:
        assert instance.python_log_level == "WARNING"
        assert [config["log_level"] for _, config in default_system_loggers(instance)] == ["WARNING"]


def test_text_lines_are_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(lines(monkeypatch, LOG_FORMAT="console"))
    assert "signal.extracted" in text
    assert "claim=c1" in text
    assert "ValueError: broken" in text


def test_the_level_of_the_settings_holds_and_sqlalchemy_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(lines(monkeypatch, LOG_LEVEL="DEBUG"))
    assert "too.fine" in text
    assert "chatter" not in text
    assert "signal.extracted" not in "\n".join(lines(monkeypatch, LOG_LEVEL="ERROR"))


def test_codes_for_a_terminal_are_shown_and_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    for log_format in ("console", "json"):
        configure_logging(AppSettings.model_validate({"log_format": log_format}))
        structlog.get_logger("t").warning("file.odd", file="a\x1b[2Jb\x9b31m.csv")
    said = capsys.readouterr().err
    assert "\x1b[2J" not in said
    assert "\x9b" not in said
    assert said.count("31m.csv") == 2
