"""Machines with known truth, as feature matrices. Not here: tests."""

from dataclasses import dataclass

import numpy as np

from signal_pipeline.anomaly.arrays import F8

FEATURES = tuple(f"feature_{i}" for i in range(12))


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
