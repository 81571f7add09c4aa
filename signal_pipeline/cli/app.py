"""The command line as a whole: its commands, in the order in which a newcomer needs them."""

import errno
import inspect
import os
import sys
from typing import Annotated, Final

import typer
from rich.markup import escape

from signal_pipeline import __version__
from signal_pipeline.cli.console import out, say
from signal_pipeline.cli.database import database_app
from signal_pipeline.cli.decisions import proposals_app, versions_app
from signal_pipeline.cli.demo import demo
from signal_pipeline.cli.dev import dev
from signal_pipeline.cli.equipment import equipment_app
from signal_pipeline.cli.files import ingest, simulate
from signal_pipeline.cli.metrics import metrics
from signal_pipeline.cli.models import detect, forecast, rescore, train
from signal_pipeline.cli.queue import partitions_app, process, recompute, retry
from signal_pipeline.cli.report import report
from signal_pipeline.cli.setup import warm_up
from signal_pipeline.cli.watch import health, status
from signal_pipeline.ingest.sources import printable
from signal_pipeline.settings import misspelt_names

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

app = typer.Typer(
    name="signal-pipeline",
    help="Three-phase motor currents to validated signals, features, anomaly scores and forecasts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        out.print(f"signal-pipeline {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True, help="The version; no more.")]


@app.callback()
def before_every_command(version: Version = False) -> None:
    """Tell of names in `.env` that were meant to be settings, before anything goes on without them."""
    for line in misspelt_names():
        say(f"[yellow]warning[/]: {escape(line)}")


app.command()(demo)
app.command()(dev)
app.command()(simulate)
app.command()(ingest)
app.command()(process)
app.command()(retry)
app.command()(recompute)
app.add_typer(partitions_app, name="partitions")
app.add_typer(equipment_app, name="equipment")
app.command()(train)
app.command()(detect)
app.command()(rescore)
app.add_typer(proposals_app, name="proposals")
app.add_typer(versions_app, name="models")
app.command()(forecast)
app.command()(report)
app.command()(status)
app.command()(health)
app.command()(metrics)
app.add_typer(database_app, name="db")
app.command()(warm_up)


def _let_the_terminal_fold(commands: typer.Typer) -> None:
    """A paragraph of a docstring becomes one line of help; Typer would end lines where they end in the code."""
    for command in commands.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _let_the_terminal_fold(group.typer_instance)


_let_the_terminal_fold(app)


def main() -> None:
    """The console script. A full disk below standard output ends it in words, as a full disk elsewhere does."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in FULL:
            raise
        # what is left in the buffer has nowhere to go, and the interpreter would try it once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        place = error.filename or "standard output"
        sys.stderr.write(f"error: {printable(str(place))} cannot be written: {error.strerror}\n")
        sys.exit(1)
