"""What the README and the docs let a person type: every session is run, every command line exists."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from signal_pipeline.cli.app import app
from signal_pipeline_tests.docs.console import rewritten, steady, typed

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "README.ru.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINE = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?(signal-pipeline .*)$", re.MULTILINE)
FENCED = re.compile(r"^```(?:sh|console|bash)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def command_lines(document: Path) -> list[str]:
    text = "\n".join(FENCED.findall(document.read_text(encoding="utf-8"))).replace("\\\n", " ")
    # what stands behind ` -- ` or a pipe is another program's
    return [re.split(r"  #| \| | -- ", line)[0].strip() for line in LINE.findall(text)]


LINES = [(document.relative_to(ROOT), line) for document in DOCUMENTS for line in command_lines(document)]


@pytest.mark.parametrize(("document", "line"), LINES, ids=[f"{d}: {text}" for d, text in LINES])
def test_every_command_line_in_the_documents_exists_with_its_options(document: Path, line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    command: Any = typer.main.get_command(app)
    while commands := getattr(command, "commands", None):
        assert words, f"{document}: {line} names no command"
        assert words[0] in commands, f"{document}: {line}: there is no command {words[0]!r}"
        command, words = commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    asked = {word.split("=")[0] for word in words if word[:1] == "-"}
    assert asked <= known | {"--help", "-h"}, f"{document}: {line}"


@pytest.mark.processes
def test_the_sessions_in_the_readme_print_what_it_says(
    tmp_path: Path, database_url: str, empty_database_url: str
) -> None:
    readme = ROOT / "README.md"
    session = typed(readme)
    assert len(session) >= 5
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "100",
        "DATABASE_URL": database_url,
        "DAGSTER_DATABASE_URL": empty_database_url,
    }
    printed = []
    for step in session:
        ended = subprocess.run(
            ["bash", "-c", step.command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        printed.append(ended.stdout)
    if os.environ.get("SIGNAL_PIPELINE_TESTS_WRITE_README") == "1":
        for document in (readme, ROOT / "README.ru.md"):
            document.write_text(rewritten(document.read_text(encoding="utf-8"), printed), encoding="utf-8")
    for step, seen in zip(session, printed, strict=True):
        assert steady(seen) == steady(step.printed), f"$ {step.command}"
