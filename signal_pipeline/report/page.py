"""The HTML of a report: everything that is not a number is escaped, and the page may load nothing.

The content security policy forbids every request, so that a name which slipped through could do nothing either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 1.5rem auto; padding: 0 1rem; }
h1 { margin: 0 0 .2rem; overflow-wrap: anywhere; } h2 { margin: 2rem 0 .3rem; font-size: 1.15rem; }
.about { color: #666; margin: 0 0 1rem; }
.summary { border-left: 6px solid #9AA5B1; background: #F5F7F9; padding: .7rem 1rem; overflow-wrap: anywhere; }
.summary p { margin: .25rem 0; } .summary p:first-child { font-size: 1.2rem; font-weight: 600; }
.healthy { border-color: #00A878; } .incipient, .moderate { border-color: #E69F00; } .severe { border-color: #CC3377; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); gap: 0 1rem; }
.grid > div { min-width: 0; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #E6E6E6; vertical-align: top;
         overflow-wrap: break-word; }
.note { color: #666; }
@media (max-width: 640px) {
  thead { display: none; } table, tbody, tr, td { display: block; } td { border: 0; padding: .1rem 0; }
  tr { border-bottom: 1px solid #E6E6E6; padding: .5rem 0; } td:first-child { font-weight: 600; }
  td:empty { display: none; }
  td:not(:first-child)::before { content: attr(data-label) ": "; color: #666; }
}
@media print { body { margin: 0; max-width: none; } section { break-inside: avoid; } .modebar { display: none; } }
"""


@dataclass(frozen=True, slots=True)
class Table:
    """Plain texts; they are escaped when they are written."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: a figure, a table, or a sentence why there is neither."""

    title: str
    content: "go.Figure | Sequence[go.Figure] | Table | str"
    """Several figures stand side by side where the page is wide enough, else one below the other."""


def render(title: str, about: str, summary: Sequence[str], severity: str | None, sections: Sequence[Section]) -> str:
    """The whole page. `title`, `about`, `summary` and tables may hold anything."""
    sentences = "".join(f"<p>{escape(line)}</p>" for line in summary)
    body = "\n".join(_section(number, section) for number, section in enumerate(sections))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="about">{escape(about)}</p>
<div class="summary {escape(severity or "unknown")}">{sentences}</div>
{body}
</body>
</html>
"""


def _section(number: int, section: Section) -> str:
    content = section.content
    if isinstance(content, str):
        inner = f'<p class="note">{escape(content)}</p>'
    elif isinstance(content, Table):
        inner = _table(content)
    elif isinstance(content, go.Figure):
        inner = _plot(content, f"plot-{number}")
    else:
        plots = "".join(f"<div>{_plot(figure, f'plot-{number}-{k}')}</div>" for k, figure in enumerate(content))
        inner = f'<div class="grid">{plots}</div>'
    return f"<section><h2>{escape(section.title)}</h2>\n{inner}</section>"


def _plot(figure: go.Figure, name: str) -> str:
    config = {"responsive": True, "displaylogo": False}
    return str(figure.to_html(include_plotlyjs=False, full_html=False, div_id=name, config=config))


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{escape(label)}">{escape(cell)}</td>'
            for label, cell in zip(table.header, row, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
