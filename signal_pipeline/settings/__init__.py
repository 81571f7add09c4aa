"""Settings from the environment and `.env`: the groups (`groups`), and how they are read (`load`)."""

from signal_pipeline.settings.groups import (
    AppSettings,
    ClaimSettings,
    ClaimStrategy,
    DatabaseSettings,
    DiagnosisSettings,
    FeatureSettings,
    ForecastSettings,
    IngestSettings,
    MetricsSettings,
    ModelSettings,
    RetentionSettings,
    Settings,
    ViewSettings,
)
from signal_pipeline.settings.load import load_settings, misspelt_names

__all__ = [
    "AppSettings",
    "ClaimSettings",
    "ClaimStrategy",
    "DatabaseSettings",
    "DiagnosisSettings",
    "FeatureSettings",
    "ForecastSettings",
    "IngestSettings",
    "MetricsSettings",
    "ModelSettings",
    "RetentionSettings",
    "Settings",
    "ViewSettings",
    "load_settings",
    "misspelt_names",
]
