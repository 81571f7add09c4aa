"""Dagster's door: `dagster dev`, the daemon and every run import this. Reads the settings, connects to nothing."""

from signal_pipeline.uncollected import uncollected

with uncollected():
    from signal_pipeline.observability.logs import configure_logging
    from signal_pipeline.orchestration.build import build_definitions
    from signal_pipeline.settings import load_settings

_settings = load_settings()
configure_logging(_settings.app)
defs = build_definitions(_settings)
