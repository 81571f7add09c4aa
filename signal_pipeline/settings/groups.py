"""The settings: every variable, its default, its meaning and what it accepts, in groups that each room takes whole.

The same stands in `.env.example` and the README (a test compares them). Secrets are `SecretStr`. Not here: reading them
(`load`).
"""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class ClaimStrategy(StrEnum):
    """How pending signals are claimed: one by one (s1), or a batch with SKIP LOCKED (s2)."""

    S1 = "s1"
    S2 = "s2"


class Group(BaseSettings):
    """What all groups share: where they are read, and what an empty value means."""

    # No number of ours means anything when it is infinite: "no limit" is 0 or empty, and says so.
    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, values: Any) -> Any:
        """`NAME=` in `.env` means "not set", as a person reads it, not an empty value."""
        if isinstance(values, dict):
            return {k: v for k, v in values.items() if not (isinstance(v, str) and v.strip() == "")}
        return values


class AppSettings(Group):
    """Where the pipeline lives and how it speaks."""

    app_environment: Literal["development", "production", "test"] = Field(
        "development", description="production refuses to start without DATABASE_URL and DATA_ROOTS"
    )
    signal_pipeline_home: Path = Field(
        Path(".signal_pipeline"), description="holds the embedded database and Dagster's home"
    )
    log_format: Literal["console", "json"] = Field("console", description="console for people, json for machines")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="of our own lines; commands show ERROR only unless this is set"
    )


class DatabaseSettings(Group):
    """The one Postgres, and how patiently we talk to it."""

    database_url: SecretStr | None = Field(None, description="unset: an embedded Postgres below SIGNAL_PIPELINE_HOME")
    dagster_database_url: SecretStr | None = Field(
        None, description="Dagster's own storage; unset: a database `dagster` on the same server"
    )
    database_pool_size: int = Field(5, ge=1, le=100, description="connections kept by each process")
    database_pool_timeout_seconds: float = Field(30, gt=0, description="s to wait for a free connection")
    database_connect_timeout_seconds: int = Field(10, ge=1, description="s to wait for the server to answer")
    database_statement_timeout_seconds: float = Field(300, ge=0, description="s a statement may take; 0: no limit")
    database_lock_timeout_seconds: float = Field(60, ge=0, description="s to wait for a lock; 0: no limit")
    database_idle_transaction_seconds: float = Field(
        60, ge=0, description="s that a frozen worker keeps its rows locked in an open transaction; 0: no limit"
    )


class IngestSettings(Group):
    """What is read from CSV files, and from where."""

    csv_batch_size: int = Field(
        1_536_000,
        ge=1,
        le=2**25,
        description="new rows a batch; rounded down to a multiple of the hop, at least one hop",
    )
    csv_max_bytes: int = Field(4 * 2**30, ge=1, description="bytes; a larger file is rejected as too_large")
    data_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="folders, comma-separated, outside of which no CSV is read; empty: whatever a person names"
    )
    retain_raw_signals: bool = Field(
        True, description="false clears a completed signal's phases while its CSV can still give them back"
    )

    @field_validator("data_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        return tuple(Path(part).expanduser().resolve() for part in value)


class FeatureSettings(Group):
    """The windows, and what is computed in each. Everything here is part of `feature_version`, workers excepted."""

    window_ms: float = Field(1000, gt=0, le=600_000, description="ms, length of a window")
    window_overlap: float = Field(0.5, ge=0, lt=1, description="share of a window that the next one repeats")
    max_gap_ms: float = Field(
        1.0, ge=0, le=1000, description="ms, longest gap that is interpolated; a longer one skips the window"
    )
    feature_bands_hz: Annotated[tuple[tuple[float, float], ...], NoDecode] = Field(
        ((0, 40), (40, 80), (80, 500), (500, 2000), (2000, 10000)),
        max_length=5,
        description="bands whose power is a feature, at most five, as low-high in Hz: 0-40,40-80",
    )
    feature_extraction_workers: int = Field(2, ge=1, le=128, description="how many signals are extracted at once")
    feature_extraction_parallel: bool = Field(True, description="false extracts one signal after the other")

    @property
    def threads(self) -> int:
        """How many signals are worked on at once."""
        return self.feature_extraction_workers if self.feature_extraction_parallel else 1

    @field_validator("feature_bands_hz", mode="before")
    @classmethod
    def _split_bands(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        bands = [part.strip().partition("-") for part in value.split(",") if part.strip()]
        if not all(separator for _, separator, _ in bands):
            raise ValueError("write bands as low-high in Hz, with commas between: 0-40,40-80")
        return tuple((low, high) for low, _, high in bands)

    @field_validator("feature_bands_hz", mode="after")
    @classmethod
    def _check_bands(cls, bands: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        for low, high in bands:
            if not 0 <= low < high < float("inf"):
                raise ValueError(f"{low:g}-{high:g} is no band: 0 <= low < high is needed, in Hz")
        return bands


class ClaimSettings(Group):
    """How signals are taken from the queue, for how long, and how often they are tried."""

    claim_strategy: ClaimStrategy = Field(ClaimStrategy.S2, description="s2 takes a batch with SKIP LOCKED")
    claim_batch_size: int = Field(
        1000, ge=1, le=1000, description="signals a Dagster run at most; fewer where they are long"
    )
    claim_lease_seconds: float = Field(60, ge=1, le=3600, description="s a claim lasts; renewed at a third of it")
    claim_max_attempts: int = Field(3, ge=1, le=100, description="tries of a signal's own work, then FAILED crash_loop")
    claim_max_runs: int = Field(2, ge=1, le=64, description="batch runs of one instance at the same time")


Bands = Annotated[tuple[float, float, float], NoDecode]


class DiagnosisSettings(Group):
    """Where the severities of a diagnosis begin: incipient, moderate, severe, rising."""

    diagnosis_broken_bar_dbc: Bands = Field((-55, -45, -35), description="dBc, sidebands of a broken rotor bar")
    diagnosis_eccentricity_dbc: Bands = Field((-50, -40, -30), description="dBc, lines of an eccentric rotor")
    diagnosis_interturn_pct: Bands = Field(
        (3, 8, 15), description="points of I2/I1 (%) above the motor's own reference"
    )
    diagnosis_unbalance_pct: Bands = Field((10, 20, 30), description="% of unbalance between the phases")
    diagnosis_load_pct: Bands = Field((105, 115, 125), description="% of the rated current")
    diagnosis_line_deviation_hz: Bands = Field((0.5, 1, 2), description="Hz between line frequency and the nominal one")

    @field_validator("*", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("*", mode="after")
    @classmethod
    def _rising(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not (all(math.isfinite(v) for v in value) and value[0] <= value[1] <= value[2]):
            raise ValueError("three finite numbers that do not fall are needed: incipient,moderate,severe")
        return value


class ModelSettings(Group):
    """Anomaly, embedding and forecast models."""

    models_dir: Path = Field(Path("models"), description="shared by all hosts")
    anomaly_threshold: float | None = Field(
        None,
        gt=0,
        description="overrides the calibrated threshold of `stream`; `stats` keeps its own; unset: the calibrated ones",
    )


class ForecastSettings(Group):
    """Forecasts of each equipment's hourly RMS."""

    forecast_horizon_hours: int = Field(24, ge=1, le=24, description="hours ahead")
    forecast_history_days: int = Field(174, ge=11, le=174, description="days of hours that a forecast looks back on")
    forecast_limit_pct: float = Field(
        110, gt=0, description="% of the rated current; forecasts give the probability of passing it"
    )


class ViewSettings(Group):
    """What people see in Dagster: pictures, and when the checks of the data complain."""

    pictures_per_run: int = Field(
        1, ge=0, le=100, description="at most so many signals of a run get pictures in the UI; 0: none (extra `plots`)"
    )
    pictures_thrifty: bool = Field(
        True,
        description="runs by themselves draw only what costs 5 % of their work, the others nothing; false: all of them "
        "draw. A person's runs always do",
    )
    check_failed_pct: float = Field(5, ge=0, le=100, description="% of the latest signals that may have failed")
    check_silent_hours: float = Field(24, gt=0, description="h after which an equipment without new recordings is late")
    check_backlog_minutes: float = Field(60, gt=0, description="min that a pending signal may wait")


class MetricsSettings(Group):
    """What `signal-pipeline metrics` serves to Prometheus, and how it spares the database."""

    metrics_host: str = Field("127.0.0.1", description="address that `metrics` listens on; it has no login")
    metrics_port: int = Field(9464, ge=0, le=65535, description="port that `metrics` listens on; 0: any free one")
    metrics_cache_seconds: float = Field(5, ge=0, description="s for which all scrapes get the same answer")
    metrics_timeout_seconds: float = Field(5, ge=1, description="s after which a silent database is told as down")
    metrics_max_equipment: int = Field(
        200, ge=0, description="equipment with a metric of its own, by name; 0: none, and no alert on missing data"
    )


class RetentionSettings(Group):
    """How much Dagster keeps in its own storage. Rows of the domain are kept for ever."""

    partition_keys_kept: int = Field(
        20_000, ge=1, description="partition keys in the UI; the oldest of final signals go, their rows stay"
    )
    dagster_runs_kept_days: float = Field(
        30, gt=0, description="days that finished runs are kept, with their events; longer while a key needs them"
    )


class Settings(BaseModel):
    """All groups. Rooms take the group they need, never this."""

    model_config = ConfigDict(frozen=True)

    app: AppSettings = Field(default_factory=AppSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    features: FeatureSettings = Field(default_factory=FeatureSettings)
    claims: ClaimSettings = Field(default_factory=ClaimSettings)
    diagnosis: DiagnosisSettings = Field(default_factory=DiagnosisSettings)
    models: ModelSettings = Field(default_factory=ModelSettings)
    forecast: ForecastSettings = Field(default_factory=ForecastSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    view: ViewSettings = Field(default_factory=ViewSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)

    @model_validator(mode="after")
    def _production_is_explicit(self) -> Self:
        if self.app.app_environment == "production":
            missing = [
                name
                for name, value in (
                    ("DATABASE_URL", self.database.database_url),
                    ("DATA_ROOTS", self.ingest.data_roots),
                )
                if not value
            ]
            if missing:
                raise ValueError(f"APP_ENVIRONMENT=production needs {' and '.join(missing)}")
        return self
