"""Log lines: JSON or text, at the level that was asked for, without the database's chatter."""

import json
import subprocess
import sys

import pytest
import structlog

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


def lines(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    """What the script says on standard error; standard output stays free for results."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
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
