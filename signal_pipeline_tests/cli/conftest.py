"""The commands on the test's own databases, in this process (`run`) or as a real one (`COMMAND`)."""

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url
from typer.testing import CliRunner, Result

from signal_pipeline.cli.app import app

COMMAND = str(Path(sys.executable).with_name("signal-pipeline"))

Run = Callable[..., Result]


@pytest.fixture
def pipeline_environment(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """Variables that put the commands on the test's databases and a home of its own."""
    dagster = make_url(database_url).set(database=f"dagster_{uuid.uuid4().hex}")
    variables = {
        "DATABASE_URL": database_url,
        "DAGSTER_DATABASE_URL": dagster.render_as_string(hide_password=False),
        "SIGNAL_PIPELINE_HOME": str(tmp_path / "home"),
        "MODELS_DIR": str(tmp_path / "models"),
        # `process` sets these for Dagster; what a command sets must not outlive the test
        "DAGSTER_HOME": str(tmp_path / "home" / "dagster"),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield variables
    maintenance = make_url(database_url).set(drivername="postgresql", database="postgres")
    with psycopg.connect(maintenance.render_as_string(hide_password=False), autocommit=True) as conn:
        conn.execute(f"DROP DATABASE IF EXISTS {dagster.database} WITH (FORCE)")


@pytest.fixture
def run(pipeline_environment: dict[str, str]) -> Run:
    """`run("status", "--json")` in this process."""

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def as_json(run: Run) -> Callable[..., Any]:
    """The JSON document that a command printed."""

    def invoke(*arguments: str, code: int = 0) -> Any:
        return json.loads(run(*arguments, "--json", code=code).stdout)

    return invoke


def write_csv(path: Path, *, rows: int = 2000, header: str = "current_R,current_S,current_T", seed: int = 0) -> Path:
    """A good recording: `rows` rows at 1 kHz."""
    from signal_pipeline_tests.signals import recording

    samples = recording(seconds=rows / 1000, seed=seed)
    lines = [",".join(f"{value:.3f}" for value in row) for row in samples.T]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines] if header else lines) + "\n")
    return path
