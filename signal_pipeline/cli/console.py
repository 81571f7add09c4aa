"""Output of the commands: tables for people, JSON for programs, errors in one line. Nothing is computed here."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from signal_pipeline.errors import SignalPipelineError
from signal_pipeline.ingest.sources import printable

MAX_LINE = 4000
"""Characters of one line of a message."""

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output, nothing else."""
    typer.echo(json.dumps(value, default=str))


def say(line: str) -> None:
    """A line on standard error, never folded: a message that is searched for must stand in one piece."""
    err.print(line, soft_wrap=True)


def fail(message: str, code: int = 1) -> NoReturn:
    """One red line on standard error, and the exit code."""
    # what a person typed stands in it, and a file's name may have typed itself
    shown = "\n".join(printable(line, limit=MAX_LINE) for line in message.splitlines())
    say(f"[bold red]error[/]: {escape(shown)}")
    raise typer.Exit(code)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Our own errors say what to do; a traceback would only hide it."""
    try:
        yield
    except SignalPipelineError as error:
        fail(str(error))
