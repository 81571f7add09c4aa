"""Machines with known truth, as feature matrices. Not here: tests."""

from dataclasses import dataclass

import numpy as np

from signal_pipeline.anomaly.arrays import F8

FEATURES = tuple(f"feature_{i}" for i in range(12))


def wander(rng: np.random.Generator, n: int, columns: int, memory: float) -> F8:
    """AR(1) (n, columns) of variance 1: each value is `memory` times the one before it, and something new."""
    news = rng.normal(size=(n, columns)) * (1 - memory**2) ** 0.5
    out = np.empty((n, columns))
    last = rng.normal(size=columns)
    for t in range(n):
        last = memory * last + news[t]
        out[t] = last
    return out


def wandering(rng: np.random.Generator, n: int, memory: float) -> F8:
    """Healthy windows (n, 12) of one recording, whose three causes and what each feature has of its own wander."""
    causes = wander(rng, n, 3, memory) @ rng.normal(size=(3, 12))
    return np.asarray(causes + 0.5 * wander(rng, n, 12, memory) + 0.3 * rng.normal(size=(n, 12)))


@dataclass(frozen=True)
class Machine:
    """A machine whose 12 features share three causes, differ a little from recording to recording, and have units."""

    rng: np.random.Generator

    def recording(self, n: int = 60) -> F8:
        """Healthy windows (n, 12) of one recording."""
        mixing = np.random.default_rng(1).normal(size=(3, 12))
        causes = self.rng.normal(size=(n, 3)) + 0.5 * self.rng.normal(size=3)
        own = 0.3 * self.rng.normal(size=(n, 12))
        return np.asarray(10.0 + np.geomspace(0.01, 100, 12) * (causes @ mixing + own))

    def recordings(self, count: int, n: int = 60) -> tuple[F8, list[str]]:
        """`count` recordings one after the other, and the recording of each window."""
        names = [f"recording_{i}" for i in range(count) for _ in range(n)]
        return np.concatenate([self.recording(n) for _ in range(count)]), names
