"""What a bad file gets: a report that names it, one FAILED row or none, and neighbours that are loaded."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from signal_pipeline.db import counters
from signal_pipeline.domain import FailureReason, RejectionReason
from signal_pipeline.ingest import blocks, csv_reader, file_batches, loader
from signal_pipeline.ingest.load_report import FileOutcome
from signal_pipeline.settings import FeatureSettings, IngestSettings
from signal_pipeline_tests.db.rows import statuses
from signal_pipeline_tests.ingest.conftest import WriteCsv
from signal_pipeline_tests.ingest.loading import FS, HEADER, csv_of, file_sources, load, load_one, samples_of, signals

GOOD = csv_of(samples_of(500))


def put(lines: dict[int, str]) -> str:
    """A good file but for these lines (from 1)."""
    content = GOOD.splitlines(keepends=True)
    for line, text in lines.items():
        content[line - 1] = text + "\n"
    return "".join(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ["the file is empty (0 bytes)"]),
        (HEADER, ["a header, and no row below it"]),
        ("ia,ib,ic\n1,2,3\n", ["no column current_R, current_S, current_T in the header 'ia,ib,ic'", "--columns"]),
        (put({400: "1,oops,3"}), ["1 cell holds no number", "row 399 (line 400), column current_S: 'oops'"]),
        (put({3: "x,2,3", 480: ",,y"}), ["2 cells hold", "row 2 (line 3), column current_R: 'x'", "row 479"]),
        (put({250: "1,2"}), ["line 250 has 2 cell(s)"]),
        (put({250: "1,2,3,4"}), ["line 250 has 4 cell(s)"]),
        (put({333: "1,2,inf"}), ["row 332 (line 333), column current_T: 'inf'"]),
        (put({333: "nan,2,3"}), ["row 332 (line 333), column current_R: 'nan'"]),
        (put({333: "1,1e39,3"}), ["row 332 (line 333), column current_S: '1e39'"]),
        (put({333: "1,\x002\x1b[31m\u202e,3"}), ["row 332 (line 333), column current_S: '\\x002\\x1b[31m\\u202e'"]),
        (put({20: ""}), ["line 20 is blank"]),
        ("\ufeff".encode("utf-16") + GOOD.encode("utf-16-le"), ["UTF-16"]),
    ],
)
def test_bad_content_becomes_one_failed_row_that_says_where(
    engine: Engine, write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch, content: str | bytes, said: list[str]
) -> None:
    paths = [write_csv(GOOD, "1.csv"), write_csv(content, "2.csv"), write_csv(csv_of(samples_of(150)), "3.csv")]
    # small blocks and batches: those before the bad place were inserted, and must be gone
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2000)
    before, bad, after = load(engine, *paths, settings=IngestSettings(csv_batch_size=100))
    assert (before.outcome, before.n_batches, after.outcome, after.n_batches) == ("new", 5, "new", 2)
    assert (bad.name, bad.outcome, bad.reason) == ("2.csv", FileOutcome.FAILED, FailureReason.CSV_ERROR)
    assert bad.message.startswith("2.csv: ")
    assert bad.message.isprintable()
    assert all(part in bad.message for part in said), bad.message

    assert statuses(engine) == {"pending": 7, "failed": 1}
    (row,) = [row for row in signals(engine) if row.processing_status == "failed"]
    assert bad.signal_ids == (row.id,)
    failure = row.meta["failure"]
    assert (failure["reason"], failure["stage"], failure["message"]) == ("csv_error", "ingest", bad.message)
    assert failure["at"].startswith(row.finalized_at.isoformat()[:19])
    assert (row.phase_a, row.phase_b, row.phase_c, row.samples_count) == (None, None, None, None)
    source = next(source for source in file_sources(engine) if source.id == row.source_id)
    assert (source.path, source.sha256, source.n_rows) == (str(paths[1]), row.file_hash, 0)
    with engine.connect() as conn:
        totals = counters.totals(conn)
    assert (totals["files_loaded_total"], totals["signals_failed_total:ingest:csv_error"]) == (2, 1)
    assert totals["bytes_read_total"] == sum(path.stat().st_size for path in paths)


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (None, "no sample rate; give it with --sample-rate"),
        (0, "sample rate 0 Hz"),
        (-1000.0, "sample rate -1000.0 Hz"),
        (float("nan"), "sample rate nan Hz"),
        (float("inf"), "sample rate inf Hz"),
        (0.5, "sample rate 0.5 Hz"),
        (1e9, "sample rate 1000000000.0 Hz"),
        (2.0, "a window of 100.0 ms at fs=2.0 Hz holds 0 samples"),
    ],
)
def test_a_bad_sample_rate_fails_the_file_before_it_is_split(
    engine: Engine, write_csv: WriteCsv, rate: float | None, said: str
) -> None:
    report = load_one(engine, write_csv(GOOD), sample_rate_hz=rate, settings=IngestSettings(csv_batch_size=100))
    assert (report.outcome, report.reason) == (FileOutcome.FAILED, FailureReason.VALIDATION_FAILED)
    assert report.message.startswith(f"motor.csv: {said}")
    (row,) = signals(engine)
    assert (row.processing_status, row.meta["failure"]["stage"]) == ("failed", "ingest")
    assert row.sample_rate_hz == (rate if rate in (0, -1000.0, 0.5, 1e9, 2.0) else None)


def test_a_window_that_would_not_fit_into_memory_is_refused(engine: Engine, write_csv: WriteCsv) -> None:
    (report,) = loader.load_files(
        engine,
        [write_csv(GOOD)],
        options=loader.LoadOptions(sample_rate_hz=5e7),
        settings=IngestSettings(),
        features=FeatureSettings(),
    )
    assert (report.outcome, report.reason) == (FileOutcome.FAILED, FailureReason.VALIDATION_FAILED)
    assert "a window of 1000 ms at 5e+07 Hz holds 50000000 samples; at most 16777216" in report.message


def test_what_cannot_or_must_not_be_read_is_rejected_without_a_row(engine: Engine, tmp_path: Path) -> None:
    root = tmp_path.resolve() / "data"
    root.mkdir()
    (root / "good.csv").write_text(GOOD)
    (root / "large.csv").write_text(GOOD * 3)
    (tmp_path / "outside.csv").write_text(GOOD)
    (root / "link.csv").symlink_to(tmp_path / "outside.csv")
    os.mkfifo(root / "pipe.csv")
    settings = IngestSettings(data_roots=(root,), csv_max_bytes=2 * len(GOOD))
    reports = load(engine, root, tmp_path / "outside.csv", root / "missing.csv", settings=settings)
    assert {(report.outcome.value, report.reason, Path(report.name).name) for report in reports} == {
        ("new", None, "good.csv"),
        ("rejected", RejectionReason.TOO_LARGE, "large.csv"),
        ("rejected", RejectionReason.OUTSIDE_DATA_ROOT, "outside.csv"),
        ("rejected", RejectionReason.OUTSIDE_DATA_ROOT, "link.csv"),
        ("rejected", RejectionReason.NOT_A_FILE, "pipe.csv"),
        ("rejected", RejectionReason.NOT_FOUND, "missing.csv"),
    }
    assert all(Path(r.name).name in r.message for r in reports if r.outcome is FileOutcome.REJECTED)
    assert len(signals(engine)) == len(file_sources(engine)) == 1


def test_a_file_that_vanishes_before_its_turn_is_rejected(engine: Engine, write_csv: WriteCsv) -> None:
    paths = [write_csv(csv_of(samples_of(150, seed=n)), f"{n}.csv") for n in range(3)]
    reports = loader.load_files(
        engine,
        paths,
        options=loader.LoadOptions(sample_rate_hz=FS),
        settings=IngestSettings(),
        features=FeatureSettings(),
    )
    next(reports)
    paths[1].unlink()
    gone, last = reports
    assert (gone.outcome, gone.reason, gone.n_rows) == (FileOutcome.REJECTED, RejectionReason.NOT_FOUND, 0)
    assert last.outcome == FileOutcome.NEW


@pytest.mark.parametrize("added", ["1,2,3\n", "1,oops,3\n"])
def test_a_file_that_is_still_written_to_is_rejected_and_can_be_loaded_later(
    engine: Engine, write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch, added: str
) -> None:
    path = write_csv(GOOD)

    def hash_and_grow(wanted: Path) -> str:
        sha256 = csv_reader.sha256_of(wanted)
        if not grown:
            grown.append(True)
            with wanted.open("a") as file:
                file.write(added)
        return sha256

    grown: list[bool] = []
    monkeypatch.setattr(loader, "sha256_of", hash_and_grow)
    report = load_one(engine, path)
    assert (report.outcome, report.reason) == (FileOutcome.REJECTED, FailureReason.FILE_CHANGED)
    assert report.message == "motor.csv: changed while it was loaded; load it when it is complete"
    assert signals(engine) == file_sources(engine) == []
    path.write_text(GOOD)
    assert load_one(engine, path).outcome == FileOutcome.NEW


def test_a_disk_that_cannot_be_read_rejects_one_file_and_not_its_neighbour(
    engine: Engine, write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = file_batches.store_batches
    paths = [write_csv(csv_of(samples_of(150, seed=n)), f"{n}.csv") for n in range(2)]

    def read(conn: Any, file: Any, **kwargs: Any) -> Any:
        stored = store(conn, file, **kwargs)
        if file.path.endswith("0.csv"):
            raise OSError(errno.EIO, "Input/output error")
        return stored

    monkeypatch.setattr(loader, "store_batches", read)
    bad, good = load(engine, *paths)
    assert (bad.outcome, bad.reason) == (FileOutcome.REJECTED, RejectionReason.UNREADABLE)
    assert bad.message == "0.csv cannot be read: Input/output error"
    assert good.outcome == FileOutcome.NEW
    assert [row.file_name for row in signals(engine)] == [str(paths[1])]
