"""The sheet that pictures are drawn on: its size, colours and axes, and how it becomes a small PNG.

Not here: what is drawn.
"""

from io import BytesIO
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from PIL import Image

from signal_pipeline.pictures.colours import GRID, INK

MAX_BYTES: Final = 44_000
"""Of a PNG: as base64 in the metadata of an event it stays below 60 kB."""

WIDTH, HEIGHT, DPI = 8.0, 3.9, 100
SMALLEST_SPAN = 0.01
COLOURS_KEPT = (64, 24, 8)


def new_sheet(title: str, subtitle: str = "") -> Figure:
    """An empty sheet of 800 by 390 pixels. Texts are taken literally: a `$` in a file's name is no formula."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.012, 0.975, literal(title), fontsize=11, weight="bold", color=INK, va="top")
    figure.text(0.012, 0.915, literal(subtitle), fontsize=8.5, color="#555555", va="top")
    return figure


def add_axes(figure: Figure, box: tuple[float, float, float, float], *, x: str = "", y: str = "") -> Axes:
    """Quiet axes in `box` (left, bottom, width, height as shares of the sheet), labelled with quantity and unit."""
    axes = figure.add_axes(box)
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=GRID, linewidth=0.6)
    axes.tick_params(labelsize=8, colors=INK, length=2.5)
    axes.ticklabel_format(useOffset=False)  # nobody adds a +2.155e1 in their head
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")
    axes.set_xlabel(x, fontsize=8.5, color=INK, labelpad=2)
    axes.set_ylabel(y, fontsize=8.5, color=INK, labelpad=3)
    return axes


def steady_scale(axes: Axes) -> None:
    """The scale of y spans 1 % of what it shows at least: what hardly changes looks like it, in short numbers."""
    low, high = axes.get_ylim()
    lacking = SMALLEST_SPAN * max(abs(low), abs(high)) - (high - low)
    if lacking > 0:
        axes.set_ylim(low - lacking / 2, high + lacking / 2)


def legend(axes: Axes, *, place: str = "upper right", columns: int = 3, above: bool = False) -> None:
    """The legend in one line, inside the axes or just above them."""
    where: dict[str, Any] = {"bbox_to_anchor": (1.0, 1.005), "loc": "lower right"} if above else {"loc": place}
    found = axes.legend(
        fontsize=8,
        ncols=columns,
        frameon=not above,
        framealpha=0.85,
        edgecolor="none",
        borderpad=0.2,
        handlelength=1.4,
        columnspacing=1.2,
        **where,
    )
    found.set_zorder(5)


def note(axes: Axes, text: str) -> None:
    """A sentence in the middle of axes that have nothing to show, and no numbers beside them."""
    axes.set_yticks([])
    axes.text(
        0.5,
        0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=9,
        color="#777777",
        wrap=True,
        parse_math=False,
    )


def png(figure: Figure) -> bytes:
    """The sheet as a PNG of at most `MAX_BYTES`: with fewer colours where it must be, then with fewer pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    while True:
        for colours in COLOURS_KEPT:
            found = _encoded(image, colours)
            if len(found) <= MAX_BYTES:
                return found
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4))


def _encoded(image: Image.Image, colours: int) -> bytes:
    buffer = BytesIO()
    image.quantize(colours, method=Image.Quantize.FASTOCTREE).save(buffer, "png")
    return buffer.getvalue()


def literal(text: str) -> str:
    """`text` as it stands: no formula, and what the font has no glyph for as its escape (matplotlib would warn)."""
    font = get_font(findfont("DejaVu Sans"))
    shown = "".join(c if font.get_char_index(ord(c)) else c.encode("unicode_escape").decode("ascii") for c in text)
    return shown.replace("$", r"\$")
