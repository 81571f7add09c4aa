"""Generated CSV files through the whole loader: loaded as a slow reading has them, or refused by name; never half."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import structlog
from hypothesis import strategies as st
from numpy.typing import NDArray
from sqlalchemy import Engine, text

from signal_pipeline.domain import FailureReason
from signal_pipeline.ingest import blocks
from signal_pipeline.ingest.load_report import FileOutcome, FileReport
from signal_pipeline.settings import IngestSettings
from signal_pipeline_tests.hostile.csv_files import CsvCase, csv_cases
from signal_pipeline_tests.hostile.fuzzing import TIMEOUT_SECONDS, counted, fuzz
from signal_pipeline_tests.hostile.slow_reading import NotReadable, read_slowly
from signal_pipeline_tests.ingest.loading import load_one, read_back

BLOCK_BYTES = blocks.BLOCK_BYTES

LEAD_IN = text("SELECT lead_in FROM raw_signals WHERE id = :id")
CLEAR = "DELETE FROM raw_signals; DELETE FROM sources"


def rows_of(engine: Engine) -> list[tuple[str, dict[str, str]]]:
    with engine.connect() as conn:
        found = conn.execute(text("SELECT processing_status, meta -> 'failure' FROM raw_signals"))
        return [(row[0], row[1]) for row in found]


def loaded_samples(engine: Engine, report: FileReport) -> NDArray[np.float32]:
    """The new rows of every batch, side by side, as the work on them sees them."""
    parts = []
    for signal_id in report.signal_ids:
        with engine.connect() as conn:
            lead_in = conn.execute(LEAD_IN, {"id": signal_id}).scalar_one()
        parts.append(read_back(engine, signal_id).phases[:, lead_in:])
    return np.concatenate(parts, axis=1)


def expected(case: CsvCase) -> NDArray[np.float32] | None:
    try:
        return read_slowly(case.content, case.dialect)
    except NotReadable:
        return None


def check(engine: Engine, case: CsvCase, report: FileReport) -> None:
    """What has to hold for one file, whatever it is."""
    slow = expected(case)
    rows = rows_of(engine)
    assert report.name.isprintable()
    assert report.message.isprintable()
    if report.outcome is FileOutcome.NEW:
        assert slow is not None, "loaded what is no recording"
        np.testing.assert_array_equal(loaded_samples(engine, report), slow)
        assert [status for status, _ in rows] == ["pending"] * report.n_batches
        assert report.n_rows == slow.shape[1]
        return
    assert slow is None, f"refused what is a recording: {report.message}"
    assert case.kind != "good"
    # what cannot be read at all gets no row; a generated file always can
    assert (report.outcome, report.reason) == (FileOutcome.FAILED, FailureReason.CSV_ERROR), report.message
    ((status, failure),) = rows
    assert (status, failure["reason"], failure["stage"]) == ("failed", "csv_error", "ingest")
    assert report.message.startswith("hostile.csv: ")


@pytest.mark.parametrize("cell", ['"1"2', '"1" 2', '"1', '"1""', '"1"\t'])
def test_what_follows_a_closing_quote_is_never_glued_to_the_number(engine: Engine, tmp_path: Path, cell: str) -> None:
    path = tmp_path.resolve() / "hostile.csv"
    path.write_text(f'current_R,current_S,current_T\n"1.5",2,3\n{cell},2,3\n1,2,3\n')
    report = load_one(engine, path)
    assert (report.outcome, report.reason) == (FileOutcome.FAILED, FailureReason.CSV_ERROR)
    assert "line 3 has a quote that is not closed, or text after a closed one" in report.message


@pytest.mark.parametrize("place", [0, 1, 5])
def test_a_byte_order_mark_within_the_file_is_no_part_of_a_number(engine: Engine, tmp_path: Path, place: int) -> None:
    path = tmp_path.resolve() / "hostile.csv"
    rows = ["1,2,3\n"] * 6
    rows[place] = "\ufeff" + rows[place]
    path.write_text("current_R,current_S,current_T\n" + "".join(rows))
    report = load_one(engine, path)
    assert (report.outcome, report.reason) == (FileOutcome.FAILED, FailureReason.CSV_ERROR)


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_generated_file_is_loaded_exactly_or_refused_by_name(
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    tally: Counter[str] = Counter()
    path = tmp_path.resolve() / "hostile.csv"

    def hold(case: CsvCase, batch: int, block: int) -> None:
        path.write_bytes(case.content)
        monkeypatch.setattr(blocks, "BLOCK_BYTES", block)
        with engine.begin() as conn:
            conn.execute(text(CLEAR))
        report = load_one(engine, path, settings=IngestSettings(csv_batch_size=batch), dialect=case.dialect)
        check(engine, case, report)
        tally[f"{case.kind}: {report.outcome.value}" + (f" {report.reason}" if report.reason else "")] += 1

    with structlog.testing.capture_logs():
        batches, block_sizes = st.sampled_from((50, 1000)), st.sampled_from((100, 1000, BLOCK_BYTES))
        fuzz(2 / 3, hold, case=csv_cases(), batch=batches, block=block_sizes)
    request.node.user_properties.append(("said", f"generated CSV files, {counted(tally)}"))
