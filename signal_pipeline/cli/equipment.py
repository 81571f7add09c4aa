"""`signal-pipeline equipment`: what the motors' plates say."""

import csv
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from signal_pipeline.cli.console import out, print_json, readable_errors
from signal_pipeline.cli.environment import surroundings
from signal_pipeline.cli.watch import AsJson
from signal_pipeline.db.diagnostics import store_plates
from signal_pipeline.errors import SettingsError
from signal_pipeline.ingest.dialect import DELIMITERS
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.settings import load_settings

equipment_app = typer.Typer(no_args_is_help=True, help="The motors and their plates.")

MAX_BYTES = 16 * 2**20
"""A list of motors is small; anything larger is another file."""


@equipment_app.command("import")
def import_plates(
    file: Annotated[Path, typer.Argument(help="CSV or YAML: equipment, and any of the fields of a plate.")],
    as_json: AsJson = False,
) -> None:
    """Load motor data: pole_pairs, rated_speed_rpm, line_freq_hz, rated_current_a, rotor_bars, reference_i2_i1_pct.

    A table with an error is refused whole, naming every row, column and value. Recordings that are stored already
    can then be diagnosed again: materialize `signal_diagnostics` for them.
    """
    from signal_pipeline.dsp.diagnosis import motor_data_from_rows

    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        plates = {name: asdict(motor) for name, motor in motor_data_from_rows(read_rows(file)).items()}
        with surroundings(settings) as here, here.engine.begin() as conn:
            counts = store_plates(conn, plates)
    if as_json:
        print_json(counts)
    else:
        out.print(f"{counts['new']} new, {counts['updated']} updated")


def read_rows(file: Path) -> list[Mapping[str, Any]]:
    """The rows of a CSV or YAML file. Raises `SettingsError` if it cannot be read as a table."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise SettingsError(f"{file}: more than {MAX_BYTES} bytes are no list of motors")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8: save it as UTF-8 text") from error
    if file.suffix.lower() in (".yaml", ".yml"):
        return _from_yaml(text, file)
    lines = text.splitlines()
    # the delimiters of recordings; a header holds no text in which another one could stand
    delimiter = max(DELIMITERS, key=(lines[0] if lines else "").count)
    table = csv.DictReader(lines, delimiter=delimiter, restkey="(more cells than columns)")
    rows: list[Mapping[str, Any]] = list(table)
    if not rows:
        raise SettingsError(f"{file} names no motor: a header is needed, and a row for each")
    return rows


def _from_yaml(text: str, file: Path) -> list[Mapping[str, Any]]:
    """A list of mappings with `equipment`, or a mapping from equipment to fields."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{file} is not YAML: {error}") from error
    if isinstance(found, dict):
        found = [
            {"equipment": name, **fields} if isinstance(fields, dict) else fields for name, fields in found.items()
        ]
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
        raise SettingsError(f"{file}: a list of motors is needed, or a mapping from equipment to its fields")
    return found
