"""Structured logs: one line a key step, with signal, claim and run; for people or for machines.

What others write through Python's own `logging` becomes JSON, too, where LOG_FORMAT=json. Not here: which fields a line
has (who runs a step binds `run` and `claim`), and Dagster's own processes, which take `--log-format json`.
"""

import logging
import sys

import structlog

from signal_pipeline.settings import AppSettings

QUIET = ("sqlalchemy", "alembic.runtime.migration", "numba", "urllib3", "asyncio")
"""Loggers of others that stay at WARNING whatever LOG_LEVEL says."""

FOREIGN = ("", "dagster")
"""Loggers of others with handlers of their own: the root, and Dagster's in a process that loads our definitions."""


def configure_logging(settings: AppSettings, *, default_level: str | None = None) -> None:
    """Send our lines to standard error, as LOG_FORMAT and LOG_LEVEL say.

    `default_level` holds where LOG_LEVEL is not set: commands that talk to a person need no log beside their output.
    """
    chosen = settings.log_level if default_level is None or "log_level" in settings.model_fields_set else default_level
    level = logging.getLevelNamesMapping()[chosen]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        # Plain tracebacks: rich ones print local variables, and with them whatever a variable holds.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if settings.log_format == "json" else _harmless,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        # not cached: a process that is configured again (a command inside a test) must not keep the first answer
        cache_logger_on_first_use=False,
    )
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    if settings.log_format == "json":
        _foreign_as_json()


def _foreign_as_json() -> None:
    """Lines of the standard library's loggers as JSON, to where they went before; to standard error if nowhere."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    for name in FOREIGN:
        for handler in logging.getLogger(name).handlers:
            if type(handler) is logging.StreamHandler:  # not those that write files or, in tests, keep records
                handler.setFormatter(formatter)


def _harmless(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A file's name may hold codes that move a terminal's cursor or change its title: show them, do not send them."""
    return {key: _shown(value) if isinstance(value, str) else value for key, value in event.items()}


def _shown(value: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in value)
