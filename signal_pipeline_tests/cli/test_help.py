"""`--help` of every command, in a terminal of any width."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from signal_pipeline.cli.app import app


def commands(group: Any, *before: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*before, name), command
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_a_paragraph_is_one_line_that_the_terminal_folds(words: tuple[str, ...]) -> None:
    assert re.findall(r".*[^\n]\n[^\n].*", ALL[words].help) == []
