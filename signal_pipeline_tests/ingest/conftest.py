"""What the tests of ingest share: a CSV of given bytes, and the whole of a reader's batches."""

from collections.abc import Callable
from pathlib import Path

import pytest

WriteCsv = Callable[..., Path]


@pytest.fixture
def write_csv(tmp_path: Path) -> WriteCsv:
    """Writes text or bytes below a temporary folder, and gives the resolved path."""

    def write(content: str | bytes, name: str = "motor.csv") -> Path:
        path = tmp_path.resolve() / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write
