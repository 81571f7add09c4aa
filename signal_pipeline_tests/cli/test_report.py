"""`signal-pipeline report`: the file, where it lands, and what a mistyped name says."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signal_pipeline_tests.cli.conftest import Run, write_csv


@pytest.fixture
def processed(run: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "pump-1" / "2025-08-25T12-00-00Z.csv")
    run("ingest", str(tmp_path / "data"), "--sample-rate", "1000")
    run("process")


@pytest.mark.usefixtures("processed")
def test_a_report_is_written_where_it_was_asked_for(run: Run, as_json: Callable[..., Any], tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    told = as_json("report", "--equipment", "pump-1", "--output", str(target))
    assert told == {"file": str(target), "bytes": target.stat().st_size}
    assert "Last recording: 2025-08-25 12:00 UTC" in target.read_text()
    assert list(tmp_path.glob(".report*")) == []
    unknown = run("report", "--equipment", "pmup", "--output", str(target), code=1)
    assert "known: pump-1" in unknown.stderr
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for special in ("pipe", "socket"):
            before = (tmp_path / special).lstat()
            refused = run("report", "--equipment", "pump-1", "--output", str(tmp_path / special), code=1)
            assert "a pipe or device, and would be replaced" in refused.stderr
            assert (tmp_path / special).lstat() == before
    assert "a folder" in run("report", "--equipment", "pump-1", "--output", str(tmp_path), code=1).stderr
    (tmp_path / "link.html").symlink_to(target)
    target.write_text("old")
    run("report", "--equipment", "pump-1", "--output", str(tmp_path / "link.html"))
    assert (tmp_path / "link.html").is_symlink()
    assert target.read_text() != "old"
    nowhere = run("report", "--equipment", "pump-1", "--output", str(tmp_path / "no" / "x.html"), code=1)
    assert "cannot be written" in nowhere.stderr
