"""Which database a command gets when nobody has named one."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from signal_pipeline.cli.app import app


@pytest.fixture
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which the pipeline was never started; one that root's embedded server can enter."""
    folder = Path(tempfile.mkdtemp(prefix="signal_pipeline-nothing-"))
    folder.chmod(0o711)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("SIGNAL_PIPELINE_HOME", str(folder / "home"))
    yield folder
    shutil.rmtree(folder)


def test_status_in_another_folder_says_so_and_makes_no_database(nothing_is_set: Path) -> None:
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 1
    assert "no database yet" in result.stderr
    assert str(nothing_is_set / "home") in result.stderr
    assert "SIGNAL_PIPELINE_HOME" in result.stderr
    assert list(nothing_is_set.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        "process",
        "retry --failed",
        "train",
        "detect",
        "rescore --equipment pump-1",
        "forecast",
        "proposals list",
        "report --equipment pump-1",
    ],
)
def test_a_command_on_what_is_stored_makes_no_database_in_another_folder(nothing_is_set: Path, line: str) -> None:
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 1
    assert "no database yet" in result.stderr
    assert list(nothing_is_set.iterdir()) == []


def test_health_in_another_folder_fails_and_makes_no_database(nothing_is_set: Path) -> None:
    result = CliRunner().invoke(app, ["health", "--json"])
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["healthy"] is False
    assert "no database yet" in found["checks"]["database"]["message"]
    assert list(nothing_is_set.iterdir()) == []


def test_a_command_that_begins_a_database_says_where(nothing_is_set: Path) -> None:
    first, second = (CliRunner().invoke(app, ["db", "upgrade"], catch_exceptions=False) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert f"a new, empty database in {nothing_is_set / 'home'}" in first.stderr
    assert "new, empty" not in second.stderr
    assert CliRunner().invoke(app, ["status"]).exit_code == 0
