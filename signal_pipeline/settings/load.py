"""Reading the settings, once, at the door: what is wrong is named by its variable, without showing a secret.

No room below reads the environment. Not here: which settings there are (`groups`).
"""

import io
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, cast

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import ValidationError

from signal_pipeline.errors import SettingsError
from signal_pipeline.settings.groups import AppSettings, Group, Settings

_SECRET: Final = re.compile("://|@|passw|pwd|secret", re.IGNORECASE)
"""What a URL with a password has in it, or a line of its parts, that was put into another variable by mistake."""


def load_settings() -> Settings:
    """Read the environment and `.env` once.

    Raises `SettingsError` naming every bad variable and what it accepts; values of secrets are never shown.
    """
    _check_file()
    groups: dict[str, Any] = {}
    complaints: list[str] = []
    for name, field in Settings.model_fields.items():
        group = cast(type[Group], field.annotation)
        try:
            groups[name] = group()
        except ValidationError as error:
            complaints += _complaints(error)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f".env cannot be read as UTF-8 text: {error}") from error
    if not complaints:
        try:
            return Settings(**groups)
        except ValidationError as error:
            complaints = _complaints(error)
    raise SettingsError("bad settings, from the environment or .env:\n  " + "\n  ".join(complaints))


def _check_file() -> None:
    """Whether `.env` can be read to its end: what is left out of it would be replaced by defaults, in silence."""
    path = Path(str(AppSettings.model_config["env_file"]))
    if path.is_fifo():
        raise SettingsError(f"{path.name} is a pipe, not a file: reading it could wait for ever")
    if not path.is_file():
        return
    try:
        written = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f".env cannot be read as UTF-8 text: {error}") from error
    if written.startswith("\ufeff"):
        raise SettingsError(f"{path.name} begins with a byte order mark, and so would its first name: save it without")
    broken = [statement.original for statement in parse_stream(io.StringIO(written)) if statement.error]
    if broken:
        line = broken[0].line + broken[0].string[: -len(broken[0].string.lstrip())].count("\n")
        raise SettingsError(f"{path.name}, line {line} is no NAME=value: is a quote not closed, or text behind one?")


def misspelt_names() -> list[str]:
    """A line for each name in `.env` that is no setting but looks like one; `.env` may hold names of other programs."""
    file = AppSettings.model_config["env_file"]
    try:
        written = list(dotenv_values(str(file), encoding="utf-8")) if file and Path(str(file)).is_file() else []
    except (OSError, UnicodeDecodeError):
        return []  # `load_settings` says so
    groups = [cast(type[Group], field.annotation) for field in Settings.model_fields.values()]
    known = [name.upper() for group in groups for name in group.model_fields]
    found = []
    for name in written:
        if name.upper() not in known and (close := get_close_matches(name.upper(), known, n=1, cutoff=0.8)):
            found.append(f".env: {name} is no setting and changes nothing; did you mean {close[0]}?")
    return found


def _complaints(error: ValidationError) -> list[str]:
    """A line for each bad variable. A value is shown unless it may hold a password."""
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        name = str(item["loc"][0]).upper() if item["loc"] else ""
        value = str(item["input"])
        secret = name.endswith("_URL") or _SECRET.search(value) is not None
        shown = "" if not name else " (its value is not shown)" if secret else f" (got {value[:200]!r})"
        message = item["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {message}{shown}" if name else message)
    return lines
