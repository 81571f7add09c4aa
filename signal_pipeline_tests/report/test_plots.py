"""The report's plots where there is little to show: one moment, a phase that was not recorded."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from signal_pipeline.report import plots
from signal_pipeline_tests.signals import MIDNIGHT, recording

FS = 1000.0


def hours(*at: timedelta) -> list[Any]:
    means = {f"rms_{phase}_mean": 7.0 for phase in "abc"}
    return [SimpleNamespace(hour_start=MIDNIGHT + offset, **means) for offset in at]


def test_the_axis_around_a_single_moment_shows_a_minute() -> None:
    begin, end = plots.trend(hours(timedelta()), []).layout.xaxis.range
    assert (begin, end) == (MIDNIGHT - timedelta(seconds=30), MIDNIGHT + timedelta(seconds=30))


def test_an_axis_over_hours_is_plotlys_own() -> None:
    assert plots.trend(hours(timedelta(), timedelta(hours=3)), []).layout.xaxis.range is None


@pytest.mark.parametrize("missing", [(1,), (1, 2)])
def test_a_phase_that_was_not_recorded_is_neither_drawn_nor_named(missing: tuple[int, ...]) -> None:
    phases = recording(seconds=3).copy()
    phases[list(missing)] = np.nan
    expected = [name for k, name in enumerate("RST") if k not in missing]
    for figure in (plots.waveform(phases, fs=FS), plots.spectrum(phases, fs=FS, line_freq=50.0)):
        assert [trace.name for trace in figure.data] == expected
