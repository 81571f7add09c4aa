"""Pictures of one recording: its waveform with its windows, its spectrum with what to look for in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from signal_pipeline.counted import counted
from signal_pipeline.domain import PHASE_NAMES
from signal_pipeline.pictures.canvas import add_axes, legend, new_sheet, note, png
from signal_pipeline.pictures.colours import ALARM, GRID, HIGHLIGHT, LINE, PHASE_COLOURS
from signal_pipeline.pictures.thinning import F4, F8, envelope, strongest

COLUMNS = 620
CYCLES = 4
HARMONICS_SHOWN = 20
CLOSE_HZ = 12.0
"""Sidebands nearer to the line than this are marked in the close-up, the others in the whole spectrum."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the recording (s from its start): its features were computed, or it was skipped."""

    start: float
    end: float
    skipped: bool = False


def waveform(title: str, phases: F4, *, fs: float, windows: Sequence[Window], line_freq: float | None) -> bytes:
    """A PNG: envelopes of `phases` (A, float32 (3, n)), the windows below them, and beside them a few cycles.

    `line_freq` (Hz) says how long a cycle is; None: 50 Hz.
    """
    seconds = phases.shape[1] / fs
    skipped = sum(w.skipped for w in windows)
    told = f"{seconds:g} s at {fs:g} Hz · {counted(len(windows) - skipped, 'window')}" + (
        f", {skipped} skipped" if skipped else ""
    )
    sheet = new_sheet(title, told)
    whole = add_axes(sheet, (0.07, 0.31, 0.50, 0.47), y="current (A)")
    # Two cycles a stretch at least: shorter ones would show the cycle itself, as a comb.
    shape = envelope(phases, fs=fs, columns=max(2, min(COLUMNS, int(seconds * (line_freq or 50.0) / 2))))
    whole.fill_between(shape.times, np.fmin.reduce(shape.low), np.fmax.reduce(shape.high), color=GRID, linewidth=0)
    for k, (name, colour) in enumerate(zip(PHASE_NAMES, PHASE_COLOURS, strict=True)):
        whole.plot(shape.times, shape.high[k], color=colour, linewidth=1.1, label=name)
        whole.plot(shape.times, shape.low[k], color=colour, linewidth=1.1)
    whole.set_xlim(0, seconds)
    whole.set_xticklabels([])
    legend(whole, above=True)
    _windows(add_axes(sheet, (0.07, 0.15, 0.50, 0.12), x="time in the recording (s)", y="windows"), windows, seconds)
    _cycles(add_axes(sheet, (0.65, 0.15, 0.335, 0.63), x="time (ms)", y="current (A)"), phases, fs, line_freq or 50.0)
    return png(sheet)


def _windows(axes: Axes, windows: Sequence[Window], seconds: float) -> None:
    """Half-overlapping windows stand in two rows, so that each is seen."""
    for colour, skipped in ((LINE, False), (ALARM, True)):
        for row in (0, 1):
            bars = [(w.start, w.end - w.start) for w in list(windows)[row::2] if w.skipped is skipped]
            axes.broken_barh(bars, (row, 0.75), facecolors=colour, alpha=0.65, edgecolors="white", linewidth=0.8)
    axes.set_xlim(0, seconds)
    axes.set_ylim(-0.2, 2)
    axes.set_yticks([])
    axes.grid(visible=False)


def _cycles(axes: Axes, phases: F4, fs: float, line_freq: float) -> None:
    """A few cycles from the middle."""
    n = phases.shape[1]
    length = min(n, max(2, round(CYCLES * fs / line_freq)))
    begin = (n - length) // 2
    for k, colour in enumerate(PHASE_COLOURS):
        axes.plot(np.arange(length) / fs * 1000, phases[k, begin : begin + length], color=colour, linewidth=1.2)
    axes.set_xlim(0, length / fs * 1000)
    axes.set_title(f"{CYCLES} cycles at {begin / fs:.2f} s", fontsize=8.5, color="#555555", pad=4)


@dataclass(frozen=True, slots=True)
class Sideband:
    """A place (Hz) where a fault would show, and how it is called."""

    freq: float
    name: str


def spectrum(
    title: str,
    freqs: F8,
    levels: F8,
    *,
    line_freq: float | None,
    sidebands: Sequence[Sideband] = (),
    remark: str = "",
) -> bytes:
    """A PNG: `levels` (3, m) in dBc over `freqs` (m,) in Hz up to the 20th harmonic, and close to the line frequency.

    `line_freq` and its harmonics are marked, and close to it `sidebands`; `remark` says why there are none.
    """
    sheet = new_sheet(title, remark)
    top = min(float(freqs[-1]), HARMONICS_SHOWN * (line_freq or 50.0) * 1.05)
    wide = add_axes(sheet, (0.08, 0.13, 0.49, 0.64), x="frequency (Hz)", y="level (dBc)")
    _levels(wide, freqs, levels, 0, top)
    for band in sidebands:
        if line_freq is not None and abs(band.freq - line_freq) > CLOSE_HZ:
            _mark(wide, band, side="left")
    legend(wide)
    close = add_axes(sheet, (0.66, 0.13, 0.325, 0.64), x="frequency (Hz)", y="level (dBc)")
    if line_freq is None:
        note(close, "no line frequency was found")
        return png(sheet)
    for order in range(2, int(top / line_freq) + 1):
        wide.plot(order * line_freq, 4, marker="v", color=HIGHLIGHT, markersize=4, clip_on=False)
        if order in (3, 5, 7, 11, 13, 17, 19):
            wide.text(order * line_freq, 7, str(order), fontsize=7, ha="center", color=LINE)
    wide.plot(line_freq, 4, marker="v", color=ALARM, markersize=5, clip_on=False)
    _close_up(close, freqs, levels, line_freq, sidebands)
    return png(sheet)


def _close_up(axes: Axes, freqs: F8, levels: F8, line_freq: float, sidebands: Sequence[Sideband]) -> None:
    near = [band for band in sidebands if abs(band.freq - line_freq) <= CLOSE_HZ]
    reach = max([4.0, *(1.25 * abs(band.freq - line_freq) for band in near)])
    _levels(axes, freqs, levels, line_freq - reach, line_freq + reach)
    axes.axvline(line_freq, color=ALARM, linewidth=0.9, linestyle="--")
    axes.set_title(f"line frequency {line_freq:.2f} Hz", fontsize=8.5, color=ALARM, pad=4)
    for band in near:
        _mark(axes, band)


def _mark(axes: Axes, band: Sideband, *, side: Literal["left", "right"] = "right") -> None:
    """A line at `band`, which lies at that side of its name."""
    axes.axvline(band.freq, color=HIGHLIGHT, linewidth=1.1, linestyle=":")
    axes.text(band.freq, 1, f" {band.name}", rotation=90, fontsize=7, va="top", ha=side, color=LINE)


def _levels(axes: Axes, freqs: F8, levels: F8, low: float, high: float) -> None:
    step = float(freqs[1] - freqs[0])  # one point beyond each edge, so that no line ends before it
    part, shown = strongest(freqs, levels, low=low - step, high=high + step, columns=COLUMNS)
    for name, colour, level in zip(PHASE_NAMES, PHASE_COLOURS, shown, strict=True):
        axes.plot(part, level, color=colour, linewidth=0.8, alpha=0.85, label=name)
    floor = float(np.percentile(shown, 5)) if shown.size else -100.0
    axes.set_xlim(low, high)
    axes.set_ylim(max(-130.0, floor - 8), 3)
