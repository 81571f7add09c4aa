"""`signal-pipeline dev`: Dagster's UI and daemon on the current settings, until Ctrl-C."""

import time
from typing import Annotated

import typer

from signal_pipeline.cli.console import out, readable_errors
from signal_pipeline.cli.environment import surroundings
from signal_pipeline.cli.server import Stopped, dagster_server, stoppable
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.settings import load_settings

Port = Annotated[int, typer.Option(min=1, max=65535, help="Of Dagster's UI, on 127.0.0.1.")]


def dev(port: Port = 3000) -> None:
    """Serve Dagster's UI and run its daemon: the sensor claims and processes what is pending."""
    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app)
        try:
            with stoppable(), surroundings(settings) as here, dagster_server(here, port=port, quiet=False) as server:
                server.wait_until_ready()
                out.print(f"Dagster's UI: [bold]{server.url}[/]   Ctrl-C ends it")
                while True:
                    server.check()
                    time.sleep(0.5)
        except Stopped:
            out.print("stopped")
