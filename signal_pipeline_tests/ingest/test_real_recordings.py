"""Real three-phase recordings, where they are at hand."""

import os
from pathlib import Path

import numpy as np
import pytest

from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline.ingest.csv_reader import read_batches
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.sources import discover

BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"
RECORDINGS = Path(os.environ.get("SIGNAL_PIPELINE_SHARED_DATA", BESIDE)) / "itsc"


@pytest.mark.shared_data
@pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS}")
def test_every_motor_recording_is_read_whole_and_agrees_with_numpy() -> None:
    grid = WindowGrid.for_rate(1000, window_ms=1000, overlap=0.5)
    discovery = discover([RECORDINGS], data_roots=[], max_bytes=2**20)
    assert len(discovery.sources) == 39
    assert not discovery.rejections
    for source in discovery.sources:
        reader = read_batches(source.path, dialect=CsvDialect.from_options(header=False), grid=grid, batch_rows=10_000)
        (batch,) = reader
        truth = np.loadtxt(source.path, delimiter=",", encoding="utf-8-sig").T.astype(np.float32)
        np.testing.assert_array_equal(batch.samples, truth)
        assert reader.facts.n_rows == 5000
