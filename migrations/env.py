"""Alembic's environment: our own version table, URL from the caller or from DATABASE_URL."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from signal_pipeline.db.migrate import VERSION_TABLE
from signal_pipeline.db.models import Base
from signal_pipeline.settings import DatabaseSettings

# Two hosts may be started at the same moment: the second waits, and then finds nothing left to do.
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('signal_pipeline migrations', 0))")


def database_url() -> str:
    url = context.config.get_main_option("sqlalchemy.url")
    if url:
        return url
    configured = DatabaseSettings().database_url
    if configured is None:
        raise SystemExit("set DATABASE_URL, or run `signal-pipeline db upgrade`, which knows the embedded server")
    from signal_pipeline.db.urls import domain_url

    return domain_url(configured.get_secret_value())


def run() -> None:
    if context.is_offline_mode():
        context.configure(
            url=database_url(),
            target_metadata=Base.metadata,
            literal_binds=True,
            version_table=VERSION_TABLE,
            dialect_opts={"paramstyle": "named"},  # psycopg's own style would double each % in the written SQL
        )
        with context.begin_transaction():
            context.run_migrations()
        return
    with create_engine(database_url(), poolclass=pool.NullPool).connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            version_table=VERSION_TABLE,
            compare_type=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            connection.execute(ONE_AT_A_TIME)
            context.run_migrations()


run()
