"""Hourly series with known answers. Not here: tests."""

import numpy as np

from signal_pipeline.forecast.arrays import F8

DAY = 24


def sine(days: int) -> F8:
    """A day's wave around 10, the same every day."""
    return 10 + np.sin(2 * np.pi * (np.arange(days * DAY) % DAY) / DAY)


def working_week(days: int) -> F8:
    """5 A from 6 to 18 h of five days in seven, else 1 A."""
    hours = np.arange(days * DAY)
    return np.where((hours // DAY % 7 < 5) & (hours % DAY >= 6) & (hours % DAY < 18), 5.0, 1.0)


def motor(days: int, *, seed: int = 0, noise: float = 0.1) -> F8:
    """A day's wave, a level that wanders and comes back, and noise."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, noise, days * DAY + 72)
    wandering = np.convolve(steps, 0.9 ** np.arange(72), mode="valid")[: days * DAY]
    return sine(days) + wandering + rng.normal(0, noise, days * DAY)


def with_gaps(values: F8, *, share: float = 0.2, seed: int = 1) -> F8:
    """The same with hours missing here and there, and one day missing whole."""
    holes = values.copy()
    holes[np.random.default_rng(seed).random(len(values)) < share] = np.nan
    holes[-5 * DAY : -4 * DAY] = np.nan
    return holes
