"""Our forecasts against the seasonal naive's on hourly series, from rolling origins.

    uv run python benchmarks/forecast.py CSV... [--column OT] [--every 23] [--simulated 4]

Every numeric column of every CSV (or those named) is a series. The first half only teaches; from then on a forecast is
issued every N hours (N prime to 24, so that every hour of the day is an origin) from the hours before it, 24 h ahead,
by the shipped defaults. The limit of each series is the 90th percentile of its first half. Seasonal naive: the same
hour of the day before, same origins, same scale (mean absolute difference at lag 24 in the first half). Brier skill is
against the share of all earlier hours above the limit, and against that share of the same hour of the day. Widths are
in units of the same scale.
`--simulated` adds hourly RMS of simulated motors, whose load the day, the week and chance decide. The last line is one
JSON object: figures over all series of one origin (a mean of ratios and skills pooled over scores), and by series. Not
here: assertions; settings for a series.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from signal_pipeline.forecast import accuracy
from signal_pipeline.forecast.arrays import F8
from signal_pipeline.forecast.issue import Forecast, issue

DAY = 24
LIMIT_QUANTILE = 0.9


@dataclass
class Checked:
    """Forecasts of one series, beside what came; lists of (horizon,) arrays, one an origin."""

    limit: float
    scale: float
    actual: list[F8] = field(default_factory=list)
    naive: list[F8] = field(default_factory=list)
    climatology: list[F8] = field(default_factory=list)
    hourly_climatology: list[F8] = field(default_factory=list)
    issued: list[Forecast] = field(default_factory=list)
    refused: int = 0

    def of(self, name: str) -> F8:
        return np.stack([np.asarray(getattr(forecast, name)) for forecast in self.issued])


def roll(values: F8, every: int) -> Checked:
    """Issue forecasts through the second half of `values`."""
    first = len(values) // 2
    checked = Checked(float(np.nanquantile(values[:first], LIMIT_QUANTILE)), accuracy.seasonal_scale(values[:first]))
    above = np.where(np.isfinite(values), values > checked.limit, np.nan)
    for origin in range(first, len(values) - DAY + 1, every):
        forecast = issue(values[:origin], limit=checked.limit)
        if not isinstance(forecast, Forecast):
            checked.refused += 1
            continue
        checked.issued.append(forecast)
        checked.actual.append(values[origin : origin + DAY])
        checked.naive.append(values[origin - DAY : origin])
        checked.climatology.append(np.full(DAY, np.nanmean(above[:origin])))
        checked.hourly_climatology.append(np.nanmean(above[origin % DAY : origin].reshape(-1, DAY), axis=0))
    return checked


def judge(checked: Checked) -> dict[str, Any]:
    """The figures of one series."""
    actual, limit, scale = np.stack(checked.actual), checked.limit, checked.scale
    ours = accuracy.mase(actual, checked.of("mean"), scale=scale)
    naive = accuracy.mase(actual, np.stack(checked.naive), scale=scale)
    figures: dict[str, Any] = {"mase": ours, "mase_seasonal_naive": naive, "ratio": ours / naive}
    for level in (80, 95):
        lower, upper = checked.of(f"lower_{level}"), checked.of(f"upper_{level}")
        figures[f"coverage_{level}"] = accuracy.coverage(actual, lower, upper)
        figures[f"width_{level}"] = float(np.mean(upper - lower)) / scale
    scores = {
        "brier": checked.of("exceedance_probability"),
        "brier_climatology": np.stack(checked.climatology),
        "brier_hourly_climatology": np.stack(checked.hourly_climatology),
    }
    figures |= {name: accuracy.brier(actual, p, limit=limit) for name, p in scores.items()}
    figures |= skills(figures)
    models = [forecast.model.value for forecast in checked.issued]
    figures |= {"above_limit": float(np.mean(actual > limit)), "origins": len(models), "refused": checked.refused}
    return figures | {"models": {name: models.count(name) for name in sorted(set(models))}}


def skills(figures: dict[str, float]) -> dict[str, float]:
    return {
        "brier_skill": accuracy.skill(figures["brier"], figures["brier_climatology"]),
        "brier_skill_hourly": accuracy.skill(figures["brier"], figures["brier_hourly_climatology"]),
    }


def summary(by_series: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Means over series; skills from the mean scores, since a series that never passes its limit has none."""
    names = [name for name, value in next(iter(by_series.values())).items() if isinstance(value, float)]
    means = {name: float(np.mean([figures[name] for figures in by_series.values()])) for name in names}
    return means | skills(means)


def series_of(path: Path, columns: list[str]) -> Iterator[tuple[str, F8]]:
    """Numeric columns of a CSV whose rows are consecutive hours."""
    table = pd.read_csv(path)
    for name in columns or table.select_dtypes("number").columns:
        yield f"{path.stem}.{name}", table[name].to_numpy(dtype=np.float64)


def simulated(count: int, days: int = 300) -> Iterator[tuple[str, F8]]:
    """RMS (A) of phase R of simulated motors, an hour a value: shifts, idle weekends, wandering load, gaps."""
    from signal_pipeline.synthetic.motor import Condition, Motor, simulate

    loads = np.linspace(0.0, 1.2, 13)
    rms = [
        float(np.sqrt(np.mean(simulate(Motor(), Condition(load=x), fs=1000.0, seconds=1.0, seed=0)[0] ** 2)))
        for x in loads
    ]
    hours = np.arange(days * DAY)
    for k in range(count):
        rng = np.random.default_rng(k)
        shift = 0.3 * (np.abs(hours % DAY - 13) < 4 + k) * (hours // DAY % 7 < 5)
        wandering = np.convolve(rng.normal(0, 0.03, len(hours) + 72), 0.95 ** np.arange(72), mode="valid")[: len(hours)]
        drift = 0.15 * np.sin(2 * np.pi * hours / (120 * DAY) + k)
        load = np.clip(0.45 + shift + wandering + drift, 0, 1.2)
        values = np.interp(load, loads, rms) + rng.normal(0, 0.02, len(hours))
        values[rng.random(len(hours)) < 0.1] = np.nan
        yield f"simulated.motor-{k + 1}", values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, nargs="*")
    parser.add_argument("--column", action="append", default=[], help="may be repeated; default: every numeric column")
    parser.add_argument("--every", type=int, default=23, help="hours between origins")
    parser.add_argument("--simulated", type=int, default=0, metavar="N", help="also N simulated motors")
    arguments = parser.parse_args()
    sources = {path.stem: list(series_of(path, arguments.column)) for path in arguments.csv}
    if arguments.simulated:
        sources["simulated"] = list(simulated(arguments.simulated))
    if not sources:
        parser.error("nothing to forecast: name a CSV, or --simulated N")
    result: dict[str, Any] = {}
    for source, series in sources.items():
        start, by_series = time.perf_counter(), {}
        for name, values in series:
            by_series[name] = judge(roll(values, arguments.every))
            print(name, json.dumps(rounded(by_series[name])), file=sys.stderr)
        seconds = time.perf_counter() - start
        issues = sum(figures["origins"] for figures in by_series.values())
        times = {"seconds": seconds, "seconds_a_forecast": seconds / issues, "origins": issues}
        result[source] = {**summary(by_series), **times, "series": by_series}
    print(json.dumps({"every": arguments.every, **rounded(result)}))


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return (round(value, 4) if np.isfinite(value) else None) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
