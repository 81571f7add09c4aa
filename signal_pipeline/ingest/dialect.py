"""What a person says about the form of their CSV: columns, header, delimiter, decimal mark.

Here: the dialect, how it is written on the command line, and its JSON form, which is stored with a file's source so
that the file can be read again the same way. Not here: looking into a file (`layout`) or reading it (`csv_reader`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from signal_pipeline.domain import PHASE_NAMES
from signal_pipeline.errors import SettingsError

DELIMITERS: Final = (",", ";", "\t")
DECIMALS: Final = (".", ",")
DEFAULT_COLUMNS: Final = ("current_R", "current_S", "current_T")
DEFAULT_NUMBERS: Final = ("1", "2", "3")
_MAX_NAME_LENGTH: Final = 200

Columns = tuple[str | None, str | None, str | None]
"""For the phases R, S, T: the column's name, or its number from 1 in a file without a header; None = not recorded."""


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How a CSV is written. `delimiter=None` means: find it in the first line.

    Always: UTF-8 (with or without byte order mark), LF or CRLF, quotes allowed. `decimal` is "." or ",", and a comma
    only where a person says so: 1,234 may be a thousand. Raises `ValueError` for what no file can have.
    """

    columns: Columns = DEFAULT_COLUMNS
    header: bool = True
    delimiter: str | None = None
    decimal: str = "."

    def __post_init__(self) -> None:
        named = [name for name in self.columns if name is not None]
        if len(self.columns) != len(PHASE_NAMES) or not named:
            raise ValueError(
                f"columns={self.columns!r}: one entry for each of R, S, T is needed, and at least one name"
            )
        if len(set(named)) != len(named):
            raise ValueError(f"columns={self.columns!r}: two phases cannot come from one column")
        for name in named:
            _check_name(name, header=self.header)
        if self.delimiter is not None and self.delimiter not in DELIMITERS:
            raise ValueError(f"delimiter={self.delimiter!r}: expected one of {DELIMITERS}, or none to find it")
        if self.decimal not in DECIMALS or self.decimal == self.delimiter:
            raise ValueError(f"decimal={self.decimal!r}: expected one of {DECIMALS}, and another delimiter")

    @classmethod
    def from_options(cls, columns: str | None = None, *, header: bool = True, decimal_comma: bool = False) -> Self:
        """The dialect that `--columns`, `--no-header` and `--decimal-comma` ask for; raises `SettingsError`."""
        default = DEFAULT_COLUMNS if header else DEFAULT_NUMBERS
        named = parse_columns(columns) if columns is not None else default
        try:
            return cls(named, header, decimal="," if decimal_comma else ".")
        except ValueError as error:
            raise SettingsError(f"--columns {columns}: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back to an equal dialect."""
        return {
            "columns": dict(zip(PHASE_NAMES, self.columns, strict=True)),
            "header": self.header,
            "delimiter": self.delimiter,
            "decimal": self.decimal,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | str) -> Self:
        """The dialect of `to_json`'s object, or of its text. Raises `ValueError` for anything else."""
        found = json.loads(stored) if isinstance(stored, str) else stored
        try:
            columns, header, delimiter = found["columns"], found["header"], found["delimiter"]
            names = tuple(columns[phase] for phase in PHASE_NAMES)
            decimal = found.get("decimal", ".")  # files loaded by earlier versions had points
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a stored dialect: {str(found)[:200]!r}") from error
        if not isinstance(header, bool) or not all(
            isinstance(text, str | None) for text in (*names, delimiter, decimal)
        ):
            raise ValueError(f"not a stored dialect: {str(found)[:200]!r}")
        return cls(names, header, delimiter, decimal)


def parse_columns(text: str) -> Columns:
    """`R=ia,S=ib,T=ic` as columns; a phase that is left out was not recorded. Raises `SettingsError`."""
    names: dict[str, str] = {}
    for part in text.split(","):
        phase, equals, name = (piece.strip() for piece in part.partition("="))
        if phase not in PHASE_NAMES or not equals or not name:
            raise SettingsError(f"--columns {text}: {part!r} is not PHASE=NAME; write for example R=ia,S=ib,T=ic")
        if phase in names:
            raise SettingsError(f"--columns {text}: phase {phase} stands there twice")
        names[phase] = name
    return names.get("R"), names.get("S"), names.get("T")


def _check_name(name: str, *, header: bool) -> None:
    if not name or len(name) > _MAX_NAME_LENGTH or name != name.strip():
        raise ValueError(
            f"column {name[:_MAX_NAME_LENGTH]!r}: a name has 1 to {_MAX_NAME_LENGTH} characters, none blank at its ends"
        )
    if any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in name):
        raise ValueError(f"column {name!r}: a name holds no control characters")
    if not header and not (name.isascii() and name.isdigit() and 1 <= int(name) <= 9999):
        raise ValueError(f"column {name!r}: without a header, columns are numbers from 1, as in R=2,S=3,T=4")
