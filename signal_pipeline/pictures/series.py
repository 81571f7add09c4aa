"""Pictures of what was computed: features over time, scores and what made them, hours with their forecast."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

from signal_pipeline.counted import counted
from signal_pipeline.domain import PHASE_NAMES
from signal_pipeline.pictures.canvas import (
    add_axes,
    legend,
    literal,
    new_sheet,
    note,
    png,
    steady_scale,
)
from signal_pipeline.pictures.colours import ALARM, LINE, PHASE_COLOURS, QUIET
from signal_pipeline.pictures.thinning import F8

SHORTEST_DAYS = 0.5
"""Of an axis of hours: a single hour has no length, and its ticks no distance."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One quantity of each window: `values` (n, 3) for R, S, T, or (n, 1) for the whole machine."""

    quantity: str
    unit: str
    values: F8

    @property
    def label(self) -> str:
        return self.quantity if self.unit in {"", "1"} else f"{self.quantity} ({self.unit})"


def features(title: str, seconds: F8, panels: Sequence[Panel]) -> bytes:
    """A PNG: each panel's quantity over the windows' starts (s, (n,)), NaN as a gap."""
    sheet = new_sheet(title, counted(len(seconds), "window"))
    columns = 2
    rows = -(-len(panels) // columns)
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        height = 0.74 / rows
        box = (0.085 + 0.49 * column, 0.12 + 0.76 * (rows - 1 - row) / rows, 0.415, height - 0.09)
        axes = add_axes(sheet, box, y=panel.label, x="start of the window (s)" if row == rows - 1 else "")
        colours = PHASE_COLOURS if panel.values.shape[1] == 3 else (LINE,)
        names = PHASE_NAMES if panel.values.shape[1] == 3 else (panel.quantity,)
        for k, (name, colour) in enumerate(zip(names, colours, strict=True)):
            axes.plot(seconds, panel.values[:, k], color=colour, linewidth=1.2, marker=".", markersize=4, label=name)
        if not np.isfinite(panel.values).any():
            note(axes, "no window could say")
        elif place == 0:
            legend(axes, above=True)
        axes.margins(x=0.02, y=0.12)
        steady_scale(axes)
        _starts(axes, seconds)
    return png(sheet)


def _starts(axes: Axes, seconds: F8) -> None:
    """A single window stands at one time: a scale about it would count hundredths."""
    if len(seconds) == 1:
        axes.set_xticks(list(seconds))


@dataclass(frozen=True, slots=True)
class Contribution:
    """A feature and its share (0 to 1) of the score of the most unusual window."""

    feature: str
    share: float


def scores(
    title: str, seconds: F8, score: F8, *, threshold: float, warming: bool, top: Sequence[Contribution]
) -> bytes:
    """A PNG: `score` (n,) over the windows' starts (s) against `threshold`, and what made the highest one."""
    above = int((score >= threshold).sum())
    told = f"{above} of {counted(len(score), 'window')} at or above the threshold of {threshold:.3g}"
    sheet = new_sheet(title, told + (" · warming up, no alarm is raised" if warming else ""))
    axes = add_axes(sheet, (0.08, 0.14, 0.46, 0.64), x="start of the window (s)", y="score")
    axes.plot(seconds, score, color=LINE, linewidth=1.1, marker=".", markersize=5, label="score")
    hit = score >= threshold
    if hit.any():
        axes.plot(seconds[hit], score[hit], "o", color=ALARM, markersize=5, label="at or above")
    axes.axhline(threshold, color=ALARM, linewidth=1.3, linestyle="--", label="threshold")
    _starts(axes, seconds)
    axes.set_ylim(0, 1.15 * max(threshold, float(np.nanmax(score, initial=0.0))))
    legend(axes, above=True)
    bars = add_axes(sheet, (0.73, 0.14, 0.25, 0.64), x="share of the highest score (%)")
    _contributions(bars, top)
    return png(sheet)


def _contributions(axes: Axes, top: Sequence[Contribution]) -> None:
    if not top:
        note(axes, "no contributions are stored")
        return
    names, shares = [c.feature for c in top][::-1], [100 * c.share for c in top][::-1]
    axes.barh(range(len(top)), shares, color=QUIET, height=0.65)
    axes.set_yticks(range(len(top)), [literal(name) for name in names], fontsize=8)
    for place, share in enumerate(shares):
        axes.text(share, place, f" {share:.0f}", va="center", fontsize=8, color=LINE)
    axes.set_xlim(0, 1.18 * max(shares))
    axes.grid(visible=False)


@dataclass(frozen=True, slots=True, eq=False)
class Hours:
    """Hours of one equipment: their starts, and mean, lowest and highest RMS (A), each (n, 3)."""

    starts: Sequence[datetime]
    mean: F8
    low: F8
    high: F8


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A phase's forecast: hours, mean and 80 % interval (A), each (m,)."""

    phase: int
    starts: Sequence[datetime]
    mean: F8
    low: F8
    high: F8


def hours(title: str, past: Hours, *, forecast: Sequence[Band] = (), limit: float | None = None) -> bytes:
    """A PNG: hourly RMS with its range, and the forecast's 80 % band; `limit` (A) if there is one."""
    told = f"{len(past.starts)} hours" + (", forecast with its 80 % band" if forecast else ", no forecast yet")
    sheet = new_sheet(title, told)
    axes = add_axes(sheet, (0.07, 0.12, 0.915, 0.66), y="RMS (A)")
    # One panel, one scale: a gap of hours is a gap in the line, not a bridge over it.
    for k, (name, colour) in enumerate(zip(PHASE_NAMES, PHASE_COLOURS, strict=True)):
        at = date2num(past.starts)
        gaps = np.flatnonzero(np.diff(at) > 1.5 / 24) + 1
        lines = [np.insert(v[:, k].astype(float), gaps, np.nan) for v in (past.mean, past.low, past.high)]
        x = np.insert(at, gaps, at[gaps - 1]) if len(at) else at
        axes.fill_between(x, lines[1], lines[2], color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, lines[0], color=colour, linewidth=1.3, marker=".", markersize=4, label=name)
    for band in forecast:
        x, colour = date2num(band.starts), PHASE_COLOURS[band.phase]
        axes.fill_between(x, band.low, band.high, color=colour, alpha=0.15, linewidth=0, hatch="///", edgecolor=colour)
        axes.plot(x, band.mean, color=colour, linewidth=1.2, linestyle="--")
    if forecast:
        axes.axvline(float(date2num(forecast[0].starts[0])), color=QUIET, linewidth=1)
    if limit is not None:
        axes.axhline(limit, color=ALARM, linewidth=1.2, linestyle="--", label=f"limit {limit:.3g} A")
    left, right = axes.get_xlim()
    if right - left < SHORTEST_DAYS:
        axes.set_xlim((left + right - SHORTEST_DAYS) / 2, (left + right + SHORTEST_DAYS) / 2)
    locator = AutoDateLocator(maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(8)
    legend(axes, above=True, columns=4)
    return png(sheet)


@dataclass(frozen=True, slots=True, eq=False)
class Healthy:
    """Scores of one equipment's training windows, as shares of its threshold."""

    equipment: str
    levels: F8


def healthy_scores(title: str, trained: Sequence[Healthy]) -> bytes:
    """A PNG: for each equipment where its healthy windows lie below the threshold (1): quartiles, 99 %, the highest."""
    sheet = new_sheet(title, "scores of the windows it was trained on, as shares of the threshold")
    axes = add_axes(sheet, (0.22, 0.13, 0.75, 0.66), x="score / threshold")
    for place, one in enumerate(trained):
        low, middle, high, nearly, highest = np.quantile(one.levels, (0.25, 0.5, 0.75, 0.99, 1.0))
        axes.plot((low, nearly), (place, place), color=QUIET, linewidth=1.5)
        axes.barh(place, high - low, left=low, height=0.45, color=QUIET)
        axes.plot(middle, place, "|", color=LINE, markersize=14, markeredgewidth=2)
        axes.plot(highest, place, "o", color=ALARM if highest >= 1 else LINE, markersize=4)
    axes.axvline(1, color=ALARM, linewidth=1.3, linestyle="--", label="threshold")
    axes.set_yticks(range(len(trained)), [literal(one.equipment) for one in trained], fontsize=8)
    axes.set_ylim(len(trained) - 0.4, -0.6)
    axes.set_xlim(left=0)
    legend(axes, above=True)
    return png(sheet)
