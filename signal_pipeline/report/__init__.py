"""The report of an equipment: one HTML file with interactive plots, for people who never open Dagster.

Here: from stored rows to a page that needs nothing but a browser: no network, no server, printable. Not here: pictures
in Dagster's UI (`pictures`), and reading rows (`db.reported`).
"""

from signal_pipeline.report.build import build_report

__all__ = ["build_report"]
