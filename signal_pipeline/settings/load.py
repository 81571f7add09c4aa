"""Reading the settings, once, at the door: what is wrong is named by its variable, without showing a secret.

No room below reads the environment. Not here: which settings there are (`groups`).
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from dotenv import dotenv_values
from pydantic import ValidationError

from signal_pipeline.errors import SettingsError
from signal_pipeline.settings.groups import AppSettings, Group, Settings


def load_settings() -> Settings:
    """Read the environment and `.env` once.

    Raises `SettingsError` naming every bad variable and what it accepts; values of secrets are never shown.
    """
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
        shown = "" if not name or name.endswith("_URL") else f" (got {str(item['input'])[:200]!r})"
        message = item["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {message}{shown}" if name else message)
    return lines
