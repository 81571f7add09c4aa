"""`signal-pipeline report`: the file, where it lands, and what a mistyped name says."""

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
    nowhere = run("report", "--equipment", "pump-1", "--output", str(tmp_path / "no" / "x.html"), code=1)
    assert "cannot be written" in nowhere.stderr
