"""`signal-pipeline equipment`: what the motors' plates say, and how the motors are."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from signal_pipeline.cli.console import out, print_json, readable_errors
from signal_pipeline.cli.environment import surroundings
from signal_pipeline.cli.watch import AsJson
from signal_pipeline.db.diagnostics import store_plates
from signal_pipeline.db.fleet import PLATE_FIELDS, Motor, read_motors
from signal_pipeline.errors import SettingsError
from signal_pipeline.ingest.dialect import DELIMITERS
from signal_pipeline.ingest.sources import equipment_of, open_csv
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.settings import load_settings

equipment_app = typer.Typer(no_args_is_help=True, help="The motors and their plates.")

MAX_BYTES = 16 * 2**20
"""A list of motors is small; anything larger is another file."""

MAX_YAML_BYTES = 2**20
"""Some ten thousand motors; YAML is read a hundred times more slowly than CSV."""

YAML_NULLS = ("", "~", "null", "Null", "NULL")


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


@equipment_app.command("list")
def list_motors(as_json: AsJson = False) -> None:
    """Every motor, the most urgent first: how it is, since when, its last recording, and whether its plate is known.

    The state is that of the newest recording which could be judged; `anomalous`: the diagnosis finds no fault, but the
    model of its healthy days does not know it like this.
    """
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app, default_level="ERROR")
        with surroundings(settings, create=False) as here:
            motors = read_motors(here.engine)
    if as_json:
        print_json([motor.as_dict() for motor in motors])
    elif motors:
        out.print(motors_table(motors))
    else:
        out.print("no motor yet: signal-pipeline ingest FOLDER, or equipment import FILE")


def motors_table(motors: Sequence[Motor]) -> Table:
    """A line a motor; what is not known is a dash."""
    headers = ("motor", "state", "anomaly since", "last recording", "plate")
    table = Table(*(Column(header, overflow="fold") for header in headers), box=None, pad_edge=False)
    for motor in motors:
        times = [f"{at:%Y-%m-%d %H:%M}" if at else "-" for at in (motor.anomalous_since, motor.last_recorded)]
        table.add_row(escape(motor.name), _state(motor), *times, _plate(motor.plate_fields_missing))
    return table


def _state(motor: Motor) -> str:
    if motor.anomalous_since and motor.severity in (None, "healthy"):
        return "anomalous"
    return motor.severity or "not judged"


def _plate(missing: int) -> str:
    return {0: "known", PLATE_FIELDS: "none"}.get(missing, "partly")


def read_rows(file: Path) -> list[Mapping[str, Any]]:
    """The rows of a CSV or YAML file. Raises `SettingsError` or `FileRejected` if it cannot be read as a table."""
    is_yaml = file.suffix.lower() in (".yaml", ".yml")
    text = _text_of(file, MAX_YAML_BYTES if is_yaml else MAX_BYTES)
    rows = _from_yaml(text, file) if is_yaml else _from_csv(text, file)
    if not rows:
        raise SettingsError(f"{file} names no motor: a header is needed, and a row for each")
    _check_names(rows, file)
    return rows


def _text_of(file: Path, max_bytes: int) -> str:
    try:
        with open_csv(file.resolve(strict=True)) as opened:
            content = opened.read(max_bytes + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle (Python 3.11, 3.12)
        raise SettingsError(f"{file} cannot be read: {getattr(error, 'strerror', error)}") from error
    if len(content) > max_bytes:
        raise SettingsError(f"{file}: more than {max_bytes} bytes are no list of motors")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8: save it as UTF-8 text") from error


def _from_csv(text: str, file: Path) -> list[Mapping[str, Any]]:
    # the delimiters of recordings; a header holds no text in which another one could stand
    delimiter = max(DELIMITERS, key=text.partition("\n")[0].count)
    lines = io.StringIO(text, newline="")
    table = csv.DictReader(lines, delimiter=delimiter, restkey="(more cells than columns)", strict=True)
    rows: list[Mapping[str, Any]] = []
    try:
        for row in table:
            rows.append(row)
    except csv.Error as error:
        raise SettingsError(f"{file}, row {len(rows) + 1} is not CSV: {error}") from error
    twice = [name for name, n in Counter(table.fieldnames or ()).items() if n > 1]
    if twice:
        raise SettingsError(f"{file}: column {twice[0]} stands more than once in the header")
    return rows


def _from_yaml(text: str, file: Path) -> list[Mapping[str, Any]]:
    """A list of mappings with `equipment`, or a mapping from equipment to fields."""
    from signal_pipeline.cli.plain_yaml import load_plain

    found = load_plain(text, file)
    if isinstance(found, dict):
        found = [
            {"equipment": name, **fields} if isinstance(fields, dict) else fields for name, fields in found.items()
        ]
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
        raise SettingsError(f"{file}: a list of motors is needed, or a mapping from equipment to its fields")
    for number, row in enumerate(found, start=1):
        for name, value in row.items():
            if isinstance(value, (dict, list)):
                raise SettingsError(f"{file}, row {number}, column {name}: one value is needed, not several")
    return [{name: None if value in YAML_NULLS else value for name, value in row.items()} for row in found]


def _check_names(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """A motor's name is held to the rule of a recording's equipment; one that is missing is told with the plates."""
    for number, row in enumerate(rows, start=1):
        name = next((value for column, value in row.items() if str(column).strip() == "equipment"), None)
        if name and str(name).strip():
            try:
                equipment_of(file, name)
            except SettingsError as error:
                raise SettingsError(f"{file}, row {number}: {error}") from error
