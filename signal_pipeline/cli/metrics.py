"""`metrics`: serve Prometheus until told to stop. What is served is said in `observability.metrics`."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from sqlalchemy import Engine

from signal_pipeline.cli.console import fail, readable_errors, say
from signal_pipeline.cli.environment import surroundings
from signal_pipeline.db.engine import create_engine
from signal_pipeline.db.urls import dagster_url, domain_url
from signal_pipeline.observability.logs import configure_logging
from signal_pipeline.settings import Settings, load_settings

Host = Annotated[str | None, typer.Option(help="Address to listen on; default METRICS_HOST.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port; default METRICS_PORT; 0: any free one.")]

GRACE_SECONDS = 1
"""A server that works says by then that it has ended a statement."""


def metrics(host: Host = None, port: Port = None) -> None:
    """Serve Prometheus metrics, read from the database at each scrape. The database may come and go meanwhile."""
    from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

    from signal_pipeline.observability.metrics import PipelineCollector

    with readable_errors():
        settings = load_settings()
        configure_logging(settings.app)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        with _engines(settings) as (engine, dagster):
            registry = CollectorRegistry()
            registry.register(
                PipelineCollector(engine, dagster, settings.metrics, settings.app.signal_pipeline_home.resolve())
            )
            ProcessCollector(registry=registry)
            address = settings.metrics.metrics_host if host is None else host
            wanted = settings.metrics.metrics_port if port is None else port
            try:
                server, thread = start_http_server(wanted, addr=address, registry=registry)
            except OSError as error:
                fail(f"cannot listen on {address}:{wanted}: {error.strerror}. Set METRICS_HOST and METRICS_PORT.")
            say(f"metrics on http://{address}:{server.server_port}/metrics")
            stop.wait()
            server.shutdown()
            server.server_close()
            thread.join()


@contextmanager
def _engines(settings: Settings) -> Iterator[tuple[Engine, Engine]]:
    """Engines on the domain database and on Dagster's; neither needs to be up."""
    configured = settings.database.database_url
    if configured is None:
        with surroundings(settings, create=False) as here, impatient_engines(settings, here.url) as engines:
            yield engines
    else:
        with impatient_engines(settings, domain_url(configured.get_secret_value())) as engines:
            yield engines


@contextmanager
def impatient_engines(settings: Settings, url: str) -> Iterator[tuple[Engine, Engine]]:
    """Engines on the database at `url` and on Dagster's, which give up what a scrape has given up soon after it.

    The server ends a statement at METRICS_TIMEOUT_SECONDS; one that does not is given up a second later.
    """
    patience = settings.metrics.metrics_timeout_seconds
    limits = {
        "database_pool_size": 1,
        "database_statement_timeout_seconds": patience,
        "database_lock_timeout_seconds": patience,
        "database_connect_timeout_seconds": max(2, round(patience)),
    }
    database = settings.database.model_copy(update=limits)
    configured = settings.database.dagster_database_url
    dagster = domain_url(
        dagster_url(url, configured.get_secret_value() if configured else None), variable="DAGSTER_DATABASE_URL"
    )
    engines = tuple(create_engine(each, database, grace_seconds=GRACE_SECONDS) for each in (url, dagster))
    try:
        yield engines[0], engines[1]
    finally:
        for engine in engines:
            engine.dispose()
