"""What ops and sensors need of the world: one `Worker` a process, made from the environment.

Nothing of it is Dagster configuration: a database password must not appear in a run's config.
"""

from collections.abc import Callable
from functools import lru_cache

from dagster import InitResourceContext, ResourceDefinition

from signal_pipeline.db.engine import create_engine
from signal_pipeline.db.urls import domain_url
from signal_pipeline.errors import SettingsError
from signal_pipeline.orchestration.identity import instance_name
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import Settings

WorkerFactory = Callable[[str], Worker]
"""From the name that claims will carry to a worker."""


def worker_factory(settings: Settings) -> WorkerFactory:
    """Workers on `settings`; one engine a process, shared by all runs in it."""

    @lru_cache(maxsize=1)
    def engine_for(url: str):  # type: ignore[no-untyped-def]
        return create_engine(url, settings.database)

    def make(name: str) -> Worker:
        url = settings.database.database_url
        if url is None:
            raise SettingsError(
                "DATABASE_URL is not set. Start Dagster with `signal-pipeline dev`, which starts the embedded "
                "database and sets it, or set it yourself."
            )
        return Worker(engine_for(domain_url(url.get_secret_value())), settings, name)

    return make


def worker_resource(make: WorkerFactory) -> ResourceDefinition:
    """The `worker` resource of every op and sensor."""

    def init(context: InitResourceContext) -> Worker:
        if context.instance is None:
            raise RuntimeError("the worker resource needs a Dagster instance")
        name = instance_name(context.instance)
        return make(f"{name}/{context.run.run_id[:8]}" if context.run else name)

    return ResourceDefinition(init, description="Engine, settings and name of the process that works on signals")
