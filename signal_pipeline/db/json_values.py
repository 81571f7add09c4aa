"""What may go into a JSONB column. Postgres refuses NaN, infinities, NUL and lone surrogates.

If they were not removed first, a failing signal could not even be marked failed.
"""

import math
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

# A union would be built anew at each value, and scoring cleans twenty values a window.
TEXTS = (str, UUID, Path)
WHOLE = (bool, int)
MANY = (list, tuple, set, frozenset)


def clean_json(value: Any) -> Any:  # noqa: PLR0911  one return a kind of value reads best
    """A copy of `value` that JSONB accepts: not-finite numbers become None, text loses what Postgres cannot hold."""
    if isinstance(value, TEXTS):
        return clean_text(str(value))
    if isinstance(value, np.generic):
        return clean_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, WHOLE):
        return value
    if isinstance(value, MANY):
        return [clean_json(v) for v in value]
    if isinstance(value, Mapping):
        return {clean_text(str(k)): clean_json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return clean_json(value.tolist())
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(f"{value!r} of type {type(value).__name__} has no form in JSON")


def clean_text(value: str) -> str:
    """`value` without NUL, and with lone surrogates (from undecodable file names) made visible."""
    if value.isascii() and "\x00" not in value:
        return value
    return value.replace("\x00", "").encode("utf-8", "backslashreplace").decode("utf-8")
