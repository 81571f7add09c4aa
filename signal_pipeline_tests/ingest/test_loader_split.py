"""A split file in the database: every row once, lead-ins, offsets, and samples that come back bit for bit."""

import numpy as np
import pytest
from sqlalchemy import Engine

from signal_pipeline.dsp.windows import WindowGrid, rows_per_batch, split
from signal_pipeline.settings import IngestSettings
from signal_pipeline_tests.db.rows import change
from signal_pipeline_tests.ingest.conftest import WriteCsv
from signal_pipeline_tests.ingest.loading import (
    FS,
    HEADER,
    HOP,
    WINDOW,
    csv_of,
    file_sources,
    load_one,
    read_back,
    samples_of,
    signals,
)

GRID = WindowGrid(FS, WINDOW, HOP)
N_ROWS = 617


def clear_phases(engine: Engine) -> None:
    columns = ", ".join(f"{kind}_{phase} = NULL" for kind in ("phase", "crc32") for phase in "abc")
    change(engine, f"UPDATE raw_signals SET {columns}")


# below a hop, a hop, not a multiple of it, below and above a window, the file's own length, more than the file
@pytest.mark.parametrize("csv_batch_size", [1, 50, 120, 349, 617, 5000])
def test_a_file_is_split_on_its_own_grid_and_comes_back_bit_for_bit(
    engine: Engine, write_csv: WriteCsv, csv_batch_size: int
) -> None:
    samples = samples_of(N_ROWS, missing=0.05)
    content = csv_of(samples)
    settings = IngestSettings(csv_batch_size=csv_batch_size)
    report = load_one(engine, write_csv(content), settings=settings)
    rows = signals(engine)
    batches = list(split(N_ROWS, batch_rows=rows_per_batch(csv_batch_size, GRID), grid=GRID))
    line_starts = [0, *(i + 1 for i, char in enumerate(content) if char == "\n")]

    assert (report.n_rows, report.n_batches) == (N_ROWS, len(batches))
    assert report.signal_ids == tuple(row.id for row in rows)
    assert [(r.first_row, r.lead_in, r.samples_count) for r in rows] == [
        (b.first_row, b.lead_in, b.n_samples) for b in batches
    ]
    assert [row.file_hash is not None for row in rows] == [index == 0 for index in range(len(batches))]
    assert sorted(rows, key=lambda row: row.created_at) == rows
    assert len({(r.source_id, r.equipment_id, r.recorded_at, r.file_name, r.processing_status) for r in rows}) == 1
    assert [row.meta for row in rows] == [
        {
            "batch_index": index,
            "batches": len(batches),
            "phases": ["a", "b", "c"],
            "byte_offset": line_starts[batch.start + 1],
            "recorded_at_source": "mtime",
            "source": {"first_row": batch.first_row, "rows": batch.n_rows},
        }
        for index, batch in enumerate(batches)
    ]
    assert [source.n_rows for source in file_sources(engine)] == [N_ROWS]
    for from_csv in (False, True):
        for row, batch in zip(rows, batches, strict=True):
            recording = read_back(engine, row.id, settings)
            expected = np.ascontiguousarray(samples[:, batch.start : batch.start + batch.n_samples])
            assert recording.phases.tobytes() == expected.tobytes()
            assert recording.present == (True, True, True)
            assert (recording.start_row, recording.record_rows) == (batch.start, N_ROWS)
            assert (recording.from_csv, recording.whole) == (from_csv, len(batches) == 1)
        clear_phases(engine)


@pytest.mark.parametrize("csv_batch_size", [100, 1000])
def test_a_phase_without_a_number_in_the_whole_file_is_not_stored(
    engine: Engine, write_csv: WriteCsv, csv_batch_size: int
) -> None:
    samples = samples_of(300)
    samples[1] = np.nan
    samples[2, :120] = np.nan  # a whole batch, but not the whole file: a long gap of a recorded phase
    load_one(engine, write_csv(csv_of(samples)), settings=IngestSettings(csv_batch_size=csv_batch_size))
    rows = signals(engine)
    for from_csv in (False, True):
        for row in rows:
            recording = read_back(engine, row.id)
            start = row.first_row - row.lead_in
            assert row.meta["phases"] == ["a", "c"]
            assert recording.present == (True, False, True)
            assert recording.from_csv is from_csv
            np.testing.assert_array_equal(recording.phases, samples[:, start : start + row.samples_count])
        assert all(row.phase_b is None and row.crc32_b is None for row in signals(engine))
        clear_phases(engine)
    assert all(row.phase_a and row.phase_c and row.crc32_a is not None for row in rows)


def test_a_file_without_any_number_keeps_its_place_without_samples(engine: Engine, write_csv: WriteCsv) -> None:
    report = load_one(engine, write_csv(HEADER + ",,\n" * 120))
    (row,) = signals(engine)
    assert (report.outcome, report.n_rows) == ("new", 120)
    assert (row.phase_a, row.phase_b, row.phase_c, row.samples_count) == (None, None, None, 120)
    assert row.meta["phases"] == []
    recording = read_back(engine, row.id)
    assert recording.present == (False, False, False)
    assert np.isnan(recording.phases).all()


@pytest.mark.parametrize("n_rows", [1, WINDOW - 1])
def test_a_recording_shorter_than_a_window_is_loaded_for_the_work_to_judge(
    engine: Engine, write_csv: WriteCsv, n_rows: int
) -> None:
    samples = samples_of(n_rows)
    report = load_one(engine, write_csv(csv_of(samples)))
    assert (report.outcome, report.n_rows, report.n_batches) == ("new", n_rows, 1)
    (row,) = signals(engine)
    assert row.processing_status == "pending"
    assert read_back(engine, row.id).phases.tobytes() == samples.tobytes()


def test_the_delimiter_that_was_found_is_stored_to_read_the_file_again(engine: Engine, write_csv: WriteCsv) -> None:
    samples = samples_of(250)
    load_one(engine, write_csv(csv_of(samples).replace(",", ";")), settings=IngestSettings(csv_batch_size=100))
    assert [source.dialect["delimiter"] for source in file_sources(engine)] == [";"]
    clear_phases(engine)
    last = signals(engine)[-1]
    assert read_back(engine, last.id).phases.tobytes() == np.ascontiguousarray(samples[:, 101:]).tobytes()
