"""The report's interactive plots, by plotly: rows and arrays in, figures out.

Names that come from outside (files, equipment) never enter a figure: plotly would read tags in them.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import plotly.graph_objects as go

from signal_pipeline.db.forecasts import QUANTITIES
from signal_pipeline.domain import PHASE_NAMES, PHASES
from signal_pipeline.pictures.colours import ALARM, GRID, HIGHLIGHT, INK, LINE, PHASE_COLOURS, QUIET
from signal_pipeline.pictures.thinning import F4, spectrum_db, strongest

CYCLES = 6
LINE_HZ = 50.0
COLUMNS = 3000
SHORTEST = timedelta(minutes=1)
SPREAD = 5
"""Times the threshold: scores beyond it flatten the healthy ones on a linear axis."""


def layout(figure: go.Figure, *, height: int, y: str = "", x: str = "") -> go.Figure:
    """The look of all of them: white, quiet, one hover line."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        # above the plot the legend, and above that the buttons, which a touch screen always shows
        margin={"l": 62, "r": 18, "t": 60, "b": 46},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "y": 1.02, "x": 1, "xanchor": "right", "yanchor": "bottom"},
        hovermode="x unified",
    )
    figure.update_xaxes(gridcolor=GRID)
    figure.update_yaxes(gridcolor=GRID)
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    return figure


def _over_time(figure: go.Figure, moments: Sequence[datetime]) -> None:
    """An axis of a minute at least: around a single moment plotly would draw one of a millisecond."""
    if moments and max(moments) - min(moments) < SHORTEST:
        middle = min(moments) + (max(moments) - min(moments)) / 2
        figure.update_xaxes(range=[middle - SHORTEST / 2, middle + SHORTEST / 2])


def _recorded(phases: F4) -> list[tuple[int, str, str]]:
    """Row, name and colour of each phase that holds a sample."""
    styles = zip(PHASE_NAMES, PHASE_COLOURS, strict=True)
    return [(k, name, colour) for k, (name, colour) in enumerate(styles) if np.isfinite(phases[k]).any()]


def trend(hours: Sequence[Any], forecast: Sequence[Any]) -> go.Figure:
    """Hourly RMS of each phase (A), and the newest forecast with its 80 % band."""
    figure = go.Figure()
    x = [row.hour_start for row in hours]
    for quantity, name, colour in zip(QUANTITIES, PHASE_NAMES, PHASE_COLOURS, strict=True):
        y = [getattr(row, f"{quantity}_mean") for row in hours]
        line = {"color": colour, "width": 1.6}
        figure.add_scatter(x=x, y=y, name=name, mode="lines+markers", line=line, marker={"size": 4})
        rows = [row for row in forecast if row.quantity == quantity and row.lower_80 is not None]
        if not rows:
            continue
        ahead = [row.hour_start for row in rows]
        group = {"legendgroup": "forecast", "showlegend": quantity == QUANTITIES[0], "legendrank": 2000}
        figure.add_scatter(
            x=ahead + ahead[::-1],
            y=[row.upper_80 for row in rows] + [row.lower_80 for row in rows][::-1],
            fill="toself",
            fillcolor=_faint(colour),
            line={"width": 0},
            hoverinfo="skip",
            name="forecast, 80 %",
            **group,
        )
        dashed = {"color": colour, "dash": "dash", "width": 1.4}
        figure.add_scatter(
            x=ahead, y=[row.mean for row in rows], name=f"{name} forecast", line=dashed, showlegend=False
        )
    limits = [row.limit_value for row in forecast if row.limit_value is not None]
    if limits:
        figure.add_hline(y=limits[0], line={"color": ALARM, "dash": "dash"}, annotation_text=f"limit {limits[0]:.3g} A")
    if not forecast:
        _over_time(figure, x)
    return layout(figure, height=384, y="RMS (A)")


def scores(recordings: Sequence[Any], events: Sequence[Any]) -> go.Figure:
    """The highest score of each recording against its threshold, and the events as bands."""
    scored = [row for row in recordings if row.score is not None]
    x = [row.recorded_at for row in scored]
    figure = go.Figure()
    colours = [ALARM if row.anomalies else LINE for row in scored]
    figure.add_scatter(
        x=x,
        y=[row.score for row in scored],
        mode="lines+markers",
        name="highest score",
        line={"color": QUIET, "width": 1},
        marker={"color": colours, "size": 6},
    )
    figure.add_scatter(
        x=x,
        y=[row.threshold for row in scored],
        name="threshold",
        mode="lines",
        line={"color": ALARM, "dash": "dash", "width": 1.5},
    )
    for event in events:
        figure.add_vrect(x0=event.started_at, x1=event.ended_at, fillcolor=ALARM, opacity=0.15, line_width=0)
    _over_time(figure, x)
    layout(figure, height=344, y="score")
    figure.update_yaxes(type="log" if _spreads(scored) else "linear")
    return figure


def features(recordings: Sequence[Any], described: Sequence[tuple[str, str]]) -> list[go.Figure]:
    """Means over each recording of `described` features (column without phase, label with unit): a figure each."""
    return [_feature(recordings, column, label, first=place == 0) for place, (column, label) in enumerate(described)]


def _feature(recordings: Sequence[Any], column: str, label: str, *, first: bool) -> go.Figure:
    """One quantity, of each phase or of the machine; the `first` figure says which colour is which phase."""
    figure = go.Figure()
    x = [row.recorded_at for row in recordings]
    per_phase = not hasattr(recordings[0], column)
    columns = [f"{column}_{phase}" for phase in PHASES] if per_phase else [column]
    styles = zip(PHASE_NAMES, PHASE_COLOURS, strict=True) if per_phase else [(label, LINE)]
    known = False
    for name, (shown, colour) in zip(columns, styles, strict=True):
        y = [getattr(row, name) for row in recordings]
        known = known or any(value is not None for value in y)
        line = {"color": colour, "width": 1.4}
        figure.add_scatter(x=x, y=y, name=shown, mode="lines+markers", line=line, marker={"size": 4})
    _over_time(figure, x)
    layout(figure, height=254)
    figure.update_layout(title={"text": label, "font": {"size": 14}, "x": 0.01, "y": 0.97}, showlegend=first)
    if not known:
        figure.add_annotation(text="no window could say", showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5)
        figure.update_yaxes(showticklabels=False)
    return figure


def waveform(phases: F4, *, fs: float) -> go.Figure:
    """A few cycles from the middle of the recording."""
    n = phases.shape[1]
    length = min(n, COLUMNS, max(2, round(CYCLES * fs / LINE_HZ)))
    begin = (n - length) // 2
    figure = go.Figure()
    x = np.round((begin + np.arange(length)) / fs, 6)
    for k, name, colour in _recorded(phases):
        y = _numbers(phases[k, begin : begin + length], 4)
        figure.add_scatter(x=x.tolist(), y=y, name=name, mode="lines", line={"color": colour, "width": 1.5})
    return layout(figure, height=344, x="time in the recording (s)", y="current (A)")


def spectrum(phases: F4, *, fs: float, line_freq: float | None) -> go.Figure:
    """Levels in dBc up to the 20th harmonic, thinned so that no line is lost; the line frequency is marked."""
    freqs, levels = spectrum_db(phases, fs=fs)
    top = min(float(freqs[-1]), 21 * (line_freq or LINE_HZ))
    part, shown = strongest(freqs, levels, low=0.0, high=top, columns=COLUMNS)
    figure = go.Figure()
    for k, name, colour in _recorded(phases):
        line = {"color": colour, "width": 1.1}
        figure.add_scatter(x=_numbers(part, 3), y=_numbers(shown[k], 1), name=name, mode="lines", line=line)
    if line_freq is not None:
        figure.add_vline(x=line_freq, line={"color": HIGHLIGHT, "dash": "dot"}, annotation_text=f"{line_freq:.2f} Hz")
    layout(figure, height=364, x="frequency (Hz)", y="level (dBc)")
    return figure


def _numbers(values: Any, digits: int) -> list[float | None]:
    """Rounded, with None for what is not there: half the size of the page."""
    return [None if not np.isfinite(v) else round(float(v), digits) for v in values]


def _spreads(scored: Sequence[Any]) -> bool:
    """Whether the scores span so much that a linear axis would flatten the healthy ones."""
    highest = max((row.score for row in scored), default=0.0)
    return highest > SPREAD * max((row.threshold for row in scored), default=1.0)


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
