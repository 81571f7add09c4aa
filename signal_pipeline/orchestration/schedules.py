"""Jobs that bring assets and checks together, and when they run by themselves: each on or off by default, with why.

Not here: the job that processes signals (`jobs`), which the sensor starts, and replaying a stream (`models`).
"""

from dagster import AssetSelection, DefaultScheduleStatus, ScheduleDefinition, define_asset_job

from signal_pipeline.orchestration.checks import CHECKS, features_are_complete, hours_equal_recomputation
from signal_pipeline.orchestration.models import anomaly_model, detected_anomalies, forecasts

check_job = define_asset_job(
    "check_data",
    selection=AssetSelection.checks(*CHECKS),
    description="All asset checks: a few indexed queries and samples. Materializes nothing.",
)

forecast_job = define_asset_job(
    "forecast_hours",
    selection=AssetSelection.checks(hours_equal_recomputation) | AssetSelection.assets(forecasts).without_checks(),
    description="Issues forecasts after new hours, unless the hours are not what their features give.",
)

train_job = define_asset_job(
    "train_model",
    selection=AssetSelection.checks(features_are_complete) | AssetSelection.assets(anomaly_model).without_checks(),
    description="Fits anomaly models, unless features are incomplete. On no schedule: which recordings are healthy is "
    "for a person to say.",
)

detect_job = define_asset_job(
    "detect_anomalies",
    selection=AssetSelection.assets(detected_anomalies),
    description="The detect pass over stored features, outside the stream. On no schedule: it can be asked for ranges.",
)

check_hourly = ScheduleDefinition(
    name="check_data_hourly",
    job=check_job,
    cron_schedule="50 * * * *",
    default_status=DefaultScheduleStatus.RUNNING,
    description="On by default: it costs the database some milliseconds, and a check that nobody runs finds nothing.",
)

forecast_hourly = ScheduleDefinition(
    name="forecast_hourly",
    job=forecast_job,
    cron_schedule="5 * * * *",
    default_status=DefaultScheduleStatus.RUNNING,
    description="On by default: it costs a query when no hour is new, and nobody misses a forecast that was never "
    "started. Five minutes past, when the hour before is most likely complete.",
)
