"""Every text of a picture can be read: it stands on the sheet, beside the others, and gives whole numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from signal_pipeline.orchestration.drawings import PANELS, UNBALANCE
from signal_pipeline.pictures import canvas, recordings, series
from signal_pipeline_tests.pictures.test_pictures import a_spectrum, a_waveform, healthy, some_hours, some_scores

TOUCH = 2.0
"""Pixels by which the boxes of two texts may overlap: a box is a little larger than its ink."""

Draw = Callable[[], bytes]


def steady_features() -> bytes:
    """What a motor at a steady load gives: quantities that hardly differ from window to window."""
    wobble = 1e-4 * np.sin(np.arange(19.0))[:, None]
    panels = [series.Panel(name, unit, level + wobble * [1, 2, 3]) for level, (name, _, unit) in enumerate(PANELS, 1)]
    return series.features("M1", np.arange(19) / 2, [*panels, series.Panel(*UNBALANCE, 21.55 + wobble)])


def large_features() -> bytes:
    values = 1000 + 300 * np.sin(np.arange(19.0))[:, None] * [1, 2, 3]
    return series.features("M1", np.arange(19) / 2, [series.Panel("RMS", "A", values)] * 4)


@dataclass(frozen=True)
class Sheet:
    """What was drawn: the figure, and every text on it with its box (pixels)."""

    figure: Figure
    texts: list[tuple[str, Bbox]]


def sheet(monkeypatch: pytest.MonkeyPatch, draw: Draw) -> Sheet:
    """The sheet that `draw` makes its PNG of. A tick beyond its axis has a label, too, but nobody draws it."""
    figures: list[Figure] = []
    drawn: list[tuple[str, Bbox]] = []
    plain_draw = Text.draw

    def draw_text(text: Text, renderer: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append((text.get_text(), text.get_window_extent(renderer)))
        plain_draw(text, renderer)

    def keep(figure: Figure) -> bytes:
        figures.append(figure)
        return canvas.png(figure)

    monkeypatch.setattr(Text, "draw", draw_text)
    for module in (recordings, series):
        monkeypatch.setattr(module, "png", keep)
    draw()
    return Sheet(figures[0], drawn)


def overlap(one: Bbox, other: Bbox) -> bool:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return bool(min(width, height) > TOUCH)


ALL: list[Draw] = [a_waveform, a_spectrum, steady_features, large_features, some_scores, some_hours, healthy]


@pytest.mark.parametrize("draw", ALL)
def test_no_text_runs_into_another_or_off_the_sheet(monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    shown = sheet(monkeypatch, draw)
    found, whole = shown.texts, shown.figure.bbox
    assert len(found) > 5
    assert [(a, b) for (a, one), (b, other) in combinations(found, 2) if overlap(one, other)] == []
    assert [t for t, box in found if box.x0 < 0 or box.y0 < 0 or box.x1 > whole.x1 or box.y1 > whole.y1] == []


@pytest.mark.parametrize("draw", ALL)
def test_no_axis_hides_its_numbers_behind_an_offset(monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    for axes in sheet(monkeypatch, draw).figure.axes:
        if draw is not some_hours:  # dates say their day beside the axis
            assert axes.xaxis.get_offset_text().get_text() == ""
        assert axes.yaxis.get_offset_text().get_text() == ""
