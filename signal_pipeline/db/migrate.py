"""Alembic as functions: upgrade, downgrade, where a database stands. An explicit step, never at import."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

VERSION_TABLE = "signal_pipeline_alembic_version"
"""Dagster has a table named `alembic_version`; ours must not meet it in a shared database."""

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def config(url: str | None = None) -> Config:
    """Alembic's configuration, with the script folder found wherever the command was started."""
    result = Config(str(PROJECT_ROOT / "alembic.ini"))
    result.set_main_option("script_location", str(PROJECT_ROOT / "migrations").replace("%", "%%"))
    if url is not None:
        result.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return result


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` up to `revision`."""
    command.upgrade(config(url), revision)


def downgrade(url: str, revision: str = "base") -> None:
    """Bring the database at `url` down to `revision`. Drops data; for tests and for a person who means it."""
    command.downgrade(config(url), revision)


def head_revision() -> str:
    head = ScriptDirectory.from_config(config()).get_current_head()
    if head is None:
        raise RuntimeError("migrations/versions holds no migration")
    return head


def current_revision(engine: Engine) -> str | None:
    """The migration that the database stands at, or None for an empty one."""
    with engine.connect() as conn:
        return MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE}).get_current_revision()
