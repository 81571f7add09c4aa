"""File names that aim at the terminal, the log and the database: loaded or refused, and shown on one harmless line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from signal_pipeline.cli.app import app
from signal_pipeline_tests.cli.conftest import write_csv
from signal_pipeline_tests.ingest.loading import HEADER

NAMES = (
    "'; DROP TABLE raw_signals; --.csv",
    "\x1b[2J\x1b]0;owned\x07.csv",
    "two\nlines 2025-01-01 [error] forged=line.csv",
    "carriage\rreturn.csv",
    "\u202egpj.csv",
    "[bold red]markup[red].csv",
    "\\[x].csv",
    "%s%n{0}{__class__}.csv",
    "$(touch owned)`touch owned`.csv",
    "-rf.csv",
    "é ü 漢字 \U0001f600.csv",
    "\u2028separator.csv",
    "x" * 200 + ".csv",
)
HARMFUL = {chr(n) for n in range(32)} - {"\n"} | {"\x7f", "\x9b", "\u202e", "\u2028"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Each name twice: on a good recording, and on one whose message will quote cells as hostile as the name."""
    for kind in ("good", "bad"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        write_csv(tmp_path / "data" / "good" / name, rows=1200, seed=seed)
        (tmp_path / "data" / "bad" / name).write_text(f"{HEADER}1,\x1b[31m{seed}\x00\u202e[/b],3\n")
    os.mkfifo(tmp_path / "data" / "pipe\n.csv")
    (tmp_path / "data" / "out\x1b[1m.csv").symlink_to("/etc/passwd")
    os.close(os.open(os.fsencode(tmp_path / "data") + b"/\xff\xfe.csv", os.O_CREAT))
    return tmp_path / "data"


def run(database_url: str, tmp_path: Path, *arguments: str, log_format: str) -> "subprocess.CompletedProcess[str]":
    """The command as a real process, with all it logs."""
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "DATA_ROOTS": str(tmp_path),
        "SIGNAL_PIPELINE_HOME": str(tmp_path / "home"),
        "LOG_FORMAT": log_format,
        "LOG_LEVEL": "DEBUG",
        "PYTHONIOENCODING": "utf-8",
    }
    command = [str(Path(sys.executable).with_name("signal-pipeline")), *arguments]
    return subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, timeout=300, check=False, encoding="utf-8"
    )


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_hostile_names_are_harmless_in_output_and_logs(
    engine: Engine, database_url: str, folder: Path, tmp_path: Path, log_format: str
) -> None:
    loaded = run(
        database_url, tmp_path, "ingest", str(folder), "--sample-rate", "1000", "--json", log_format=log_format
    )
    shown = run(database_url, tmp_path, "status", log_format=log_format)
    for done in (loaded, shown):
        assert HARMFUL & set(done.stdout + done.stderr) == set()
        assert "forged=line" not in [line.split()[-1] for line in done.stderr.splitlines() if line.startswith("lines")]
    counts = json.loads(loaded.stdout)
    assert (counts["new"], counts["failed"], counts["rejected"]) == (len(NAMES), len(NAMES), 3)
    assert loaded.returncode == 1
    assert {f["reason"] for f in counts["files"]} == {
        None,
        "csv_error",
        "not_a_file",
        "outside_data_root",
        "unreadable",
    }
    if log_format == "json":
        lines = [json.loads(line) for line in loaded.stderr.splitlines() if line.startswith("{")]
        assert sum(line["event"].startswith("file.") for line in lines) == 2 * len(NAMES) + 3
    with engine.connect() as conn:
        stored = set(conn.execute(text("SELECT file_name FROM raw_signals")).scalars())
    assert stored == {str(folder.resolve() / kind / name) for kind in ("good", "bad") for name in NAMES}


@pytest.mark.parametrize("name", ["[/x]", "\\[/x]", "\x1b[2J", "a\nb", "[red]"])
def test_a_hostile_argument_is_shown_as_it_is_and_nothing_falls_over(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", make_url(database_url).render_as_string(hide_password=False))
    monkeypatch.setenv("SIGNAL_PIPELINE_HOME", str(tmp_path))
    for arguments in (
        ["ingest", str(tmp_path / name)],
        ["ingest", str(tmp_path), "--times", name],
        ["ingest", str(tmp_path), "--recorded-at", name],
        ["ingest", str(tmp_path), "--columns", name],
        ["ingest", str(tmp_path), "--equipment", name],
        ["rescore", "--equipment", name],
        ["forecast", "--equipment", name],
        ["train", "--equipment", name],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exception)
        assert "\x1b[2J" not in result.output, arguments
