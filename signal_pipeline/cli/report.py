"""`signal-pipeline report`: one equipment as one HTML file, for people who never open Dagster."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from signal_pipeline.cli.console import out, print_json, readable_errors
from signal_pipeline.cli.environment import surroundings
from signal_pipeline.cli.models import From, To
from signal_pipeline.cli.watch import AsJson
from signal_pipeline.errors import SettingsError
from signal_pipeline.ingest.recorded_at import parse_range
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.settings import load_settings


def report(
    equipment: Annotated[str, typer.Option("--equipment", help="Whose report.")],
    start: From = None,
    end: To = None,
    output: Annotated[Path | None, typer.Option(help="The file; default: report-NAME.html in this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write what is known of an equipment into one HTML file with interactive plots; it needs no network."""
    from signal_pipeline.report import build_report

    with readable_errors():
        target = _target(output or Path(f"report-{file_name(equipment)}.html"))
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        since, until = parse_range(start, end)
        with surroundings(settings, create=False) as here:
            page = build_report(here.engine, settings.ingest, equipment, start=since, end=until)
        _write(target, page)
    size = target.stat().st_size
    if as_json:
        print_json({"file": str(target), "bytes": size})
        return
    out.print(f"{target} ({size / 1e6:.1f} MB)", markup=False, soft_wrap=True)


def file_name(equipment: str) -> str:
    """The name with what a file's name should not hold replaced."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", equipment).strip("._")[:80] or "equipment"


def _target(wanted: Path) -> Path:
    """Where the file goes, links followed. Raises `SettingsError` for what a file must not take the place of."""
    try:
        target = wanted.resolve()
        is_taken = target.exists() and not target.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a NUL in the name
        raise SettingsError(f"--output {wanted}: {error}") from error
    if is_taken:
        kind = "a folder" if target.is_dir() else "a pipe or device"
        raise SettingsError(f"--output {wanted} is {kind}, and would be replaced: name a file")
    return wanted if not wanted.is_symlink() else target


def _write(target: Path, page: str) -> None:
    """Whole or not at all. Raises `SettingsError` where it cannot be written."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        unfinished.write_text(page, encoding="utf-8")
        unfinished.replace(target)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise SettingsError(f"{target} cannot be written: {error.strerror}") from error
