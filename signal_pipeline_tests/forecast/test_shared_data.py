"""A measured hourly series, from outside of the project: the goals hold on some of its origins."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from signal_pipeline.forecast import accuracy
from signal_pipeline.forecast.issue import Forecast, issue

from .series import DAY

SHARED = Path(os.environ.get("SIGNAL_PIPELINE_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
ETT = SHARED / "ett" / "ETTh1.csv"


@pytest.mark.shared_data
@pytest.mark.skipif(not ETT.exists(), reason=f"{ETT} is not there; SIGNAL_PIPELINE_SHARED_DATA names its folder")
def test_oil_temperature_is_forecast_better_than_by_yesterday() -> None:
    with ETT.open(newline="") as lines:
        series = np.array([float(row["OT"]) for row in csv.DictReader(lines)])
    half = len(series) // 2
    scale, limit = accuracy.seasonal_scale(series[:half]), float(np.quantile(series[:half], 0.5))
    origins = range(half, len(series) - DAY, 409)
    issued = [issue(series[:origin], limit=limit) for origin in origins]
    good = [forecast for forecast in issued if isinstance(forecast, Forecast)]
    assert len(good) == len(origins)
    actual = np.stack([series[origin : origin + DAY] for origin in origins])
    naive = np.stack([series[origin - DAY : origin] for origin in origins])
    ours = accuracy.mase(actual, np.stack([f.mean for f in good]), scale=scale)
    assert ours < 0.92 * accuracy.mase(actual, naive, scale=scale)
    inside = accuracy.coverage(actual, np.stack([f.lower_80 for f in good]), np.stack([f.upper_80 for f in good]))
    assert 0.7 < inside < 0.9
    probability = np.stack([np.asarray(f.exceedance_probability) for f in good])
    usual = np.full(actual.shape, np.mean(series[:half] > limit))
    assert accuracy.brier(actual, probability, limit=limit) < accuracy.brier(actual, usual, limit=limit)
