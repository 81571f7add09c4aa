"""Forecasts of each equipment's hourly RMS, a day ahead, issued after new hours. Best effort.

A series that cannot be forecast is refused with a reason; an error is logged and counted, and the next equipment has
its turn. No signal ever waits for a forecast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from signal_pipeline.db import counters
from signal_pipeline.db.engine import is_transient
from signal_pipeline.db.forecasts import QUANTITIES, Due, due, read_hours, store_forecast
from signal_pipeline.db.history import find_equipment
from signal_pipeline.domain import Stage
from signal_pipeline.forecast.issue import Forecast, Refusal, issue
from signal_pipeline.processing.worker import Worker, retrying

log = structlog.get_logger(__name__)

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """What became of one equipment: the phases that were forecast, and why the others were not; `told` in words."""

    issued: tuple[str, ...]
    refused: dict[str, str]
    told: dict[str, str]


def forecast_due(worker: Worker, *, equipment: Sequence[str] | None = None) -> dict[str, Issued]:
    """Issue forecasts for all equipment (or those named) with hours that no forecast has seen yet.

    Raises `ValueError` for equipment that does not exist.
    """
    with worker.engine.connect() as conn:
        if equipment is not None:
            find_equipment(conn, equipment)
        waiting = due(conn, equipment)
    results: dict[str, Issued] = {}
    for one in waiting:
        try:
            results[one.name] = retrying(lambda one=one: _forecast(worker, one))  # type: ignore[misc]
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("forecast.failed", equipment=one.name)
            with worker.engine.begin() as conn:
                counters.add(conn, {"forecasts_failed_total": 1})
            failed = {"all": f"{type(error).__name__}: {error}"}
            results[one.name] = Issued((), failed, failed)
    return results


def _forecast(worker: Worker, one: Due) -> Issued:
    settings = worker.settings.forecast
    issued_at = one.newest + HOUR
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    told: dict[str, str] = {}
    began = perf_counter()
    with worker.engine.begin() as conn:
        series = _series(conn, one, days=settings.forecast_history_days)
        limit = None if one.rated_current_a is None else one.rated_current_a * settings.forecast_limit_pct / 100
        for quantity, history in series.items():
            answer = issue(history, horizon=settings.forecast_horizon_hours, limit=limit, floor=0.0)
            if isinstance(answer, Refusal):
                refused[quantity], told[quantity] = answer.reason.value, answer.message
            else:
                rows += _rows(one, quantity, answer, issued_at)
        store_forecast(conn, rows)
        counters.add(
            conn, {"forecasts_issued_total": len(series) - len(refused)}, {Stage.FORECAST: [perf_counter() - began]}
        )
    log.info("forecast.issued", equipment=one.name, issued=len(series) - len(refused), refused=refused)
    return Issued(tuple(q for q in series if q not in refused), refused, told)


def _series(conn: Any, one: Due, *, days: int) -> dict[str, NDArray[np.float64]]:
    """Each phase's hours up to the newest, NaN where there was no window, the first hour that is known first."""
    hours = read_hours(conn, one, since=one.newest - timedelta(days=days))
    first = hours[0][0]
    n = round((one.newest - first) / HOUR) + 1
    series = {quantity: np.full(n, np.nan) for quantity in QUANTITIES}
    for at, values in hours:
        for quantity, value in values.items():
            if value is not None:
                series[quantity][round((at - first) / HOUR)] = value
    return series


def _rows(one: Due, quantity: str, found: Forecast, issued_at: Any) -> list[dict[str, Any]]:
    probability = found.exceedance_probability
    return [
        {
            "equipment_id": one.equipment_id,
            "quantity": quantity,
            "issued_at": issued_at,
            "hour_start": issued_at + k * HOUR,
            "model": found.model.value,
            "mean": float(found.mean[k]),
            "lower_80": float(found.lower_80[k]),
            "upper_80": float(found.upper_80[k]),
            "lower_95": float(found.lower_95[k]),
            "upper_95": float(found.upper_95[k]),
            "limit_value": found.limit,
            "exceedance_probability": None if probability is None else float(probability[k]),
            "meta": {"past_mae": {m.value: v for m, v in found.past_mae.items()}, "past_errors": found.past_errors},
        }
        for k in range(len(found.mean))
    ]
