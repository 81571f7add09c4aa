"""A person's door: the command `signal-pipeline`. Each module is a group of commands; `main` puts them together."""

from signal_pipeline.uncollected import uncollected

with uncollected():
    from signal_pipeline.cli.app import main

__all__ = ["main"]
