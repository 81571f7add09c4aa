"""How much is generated, from which seed, and the count of what came of it.

`SIGNAL_PIPELINE_TESTS_FUZZ=10000` is the long run; `SIGNAL_PIPELINE_TESTS_SEED` makes another one. The same seed and
number generate the same files and blobs. With `SIGNAL_PIPELINE_TESTS_FUZZ_SECONDS=180` more follow until that time, of
CSV files and blobs together, is over: as many as fit.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import hypothesis
from hypothesis.strategies import SearchStrategy

GENERATED = int(os.environ.get("SIGNAL_PIPELINE_TESTS_FUZZ", "1500"))
SECONDS = float(os.environ.get("SIGNAL_PIPELINE_TESTS_FUZZ_SECONDS", "0"))
ROUND = 50
SEED = int(os.environ.get("SIGNAL_PIPELINE_TESTS_SEED", "0"))

HUNG = timedelta(seconds=60)
"""An input that takes longer counts as one that hangs; most take milliseconds."""

TIMEOUT_SECONDS = 300 + GENERATED + 2 * SECONDS
"""For all of them together, on a machine that does other things, too."""


def fuzz(share: float, hold: Callable[..., None], **strategies: SearchStrategy[Any]) -> None:
    """Give the property `hold` this share of all that is generated, and then more until its share of the time is over.

    Each round has a seed of its own, the first one's is `SEED`.
    """
    end = time.monotonic() + share * SECONDS
    _round(SEED, round(share * GENERATED), hold, strategies)
    for later in range(1, 10**6):
        if time.monotonic() >= end:
            return
        _round(SEED + 1000 * later, ROUND, hold, strategies)


def _round(seed: int, n: int, hold: Callable[..., None], strategies: dict[str, SearchStrategy[Any]]) -> None:
    how = hypothesis.settings(
        max_examples=n,
        deadline=HUNG,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )

    def once(**given: Any) -> None:
        hold(**given)

    hypothesis.seed(seed)(how(hypothesis.given(**strategies)(once)))()


def counted(tally: Counter[str]) -> str:
    """`1500: 700 new, 800 failed csv_error`."""
    return f"{tally.total()}: " + ", ".join(f"{n} {outcome}" for outcome, n in sorted(tally.items()))
