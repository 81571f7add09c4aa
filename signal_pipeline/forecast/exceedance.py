"""The probability that an hour will lie above a limit, recalibrated by what such probabilities were worth before.

A raw probability is the share of past errors that would carry the forecast over the limit. It is made for the past
origins too, and a logistic curve from those to what came is drawn: two numbers a series, pulled towards "take it as
it is", so that a limit that was never near changes nothing. Not here: forecasts, and where limits come from.
Source: Platt, Probabilistic Outputs for Support Vector Machines, 1999.
"""

from typing import Final

import numpy as np

from signal_pipeline.forecast.arrays import F8
from signal_pipeline.forecast.lags import DAY

PRIOR_DAYS: Final = 1.0
"""The pull towards the identity, in days of evidence: neighbouring origins say nearly the same."""
IDENTITY: Final = np.array([0.0, 1.0])


def exceedance_probability(forecasts: F8, errors: F8, targets: F8, limit: float) -> F8:
    """P(hour > `limit`) for the last row of `forecasts` (rows, horizon), recalibrated on the rows before; (horizon,).

    `errors` (rows, horizon) are those that may happen, `targets` (rows, horizon) what came, NaN = unknown.
    """
    from scipy.special import expit  # not at import: it takes a second or more, and every run worker would pay it

    raw = _raw(forecasts, errors, limit)
    intercept, slope = _calibrate(raw[:-1], targets[:-1], limit)
    return np.asarray(expit(intercept + slope * raw[-1]), dtype=np.float64)


def _raw(forecasts: F8, errors: F8, limit: float) -> F8:
    """Log odds of passing `limit`, from the share of each horizon's errors that pass; never certain."""
    from scipy.special import logit

    odds = np.empty_like(forecasts)
    for h in range(forecasts.shape[1]):
        ordered = np.sort(errors[np.isfinite(errors[:, h]), h])
        above = len(ordered) - np.searchsorted(ordered, limit - forecasts[:, h], side="right")
        odds[:, h] = logit((above + 0.5) / (len(ordered) + 1))
    return odds


def _calibrate(odds: F8, targets: F8, limit: float) -> F8:
    """Intercept and slope (>= 0) of the logistic curve from log odds to what came."""
    from scipy.optimize import minimize
    from scipy.special import expit

    known = np.isfinite(odds) & np.isfinite(targets)
    x, came = odds[known], (targets[known] > limit).astype(np.float64)
    if len(x) == 0:
        return IDENTITY
    weight = len(odds) / DAY / len(x)

    def loss(line: F8) -> tuple[float, F8]:
        z = line[0] + line[1] * x
        residual = expit(z) - came
        pull = line - IDENTITY
        value = weight * np.sum(np.logaddexp(0.0, z) - came * z) + PRIOR_DAYS * (pull @ pull) / 2
        slope = weight * np.array([residual.sum(), residual @ x]) + PRIOR_DAYS * pull
        return float(value), slope

    best = minimize(loss, IDENTITY, jac=True, method="L-BFGS-B", bounds=[(None, None), (0.0, None)])
    return np.asarray(best.x, dtype=np.float64)
