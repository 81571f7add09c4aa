"""How much is generated, from which seed, and the count of what came of it.

`SIGNAL_PIPELINE_TESTS_FUZZ=10000` is the long run; `SIGNAL_PIPELINE_TESTS_SEED` makes another one. The same seed and
number generate the same files and blobs.
"""

import os
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import hypothesis

GENERATED = int(os.environ.get("SIGNAL_PIPELINE_TESTS_FUZZ", "1500"))
SEED = int(os.environ.get("SIGNAL_PIPELINE_TESTS_SEED", "0"))

HUNG = timedelta(seconds=60)
"""An input that takes longer counts as one that hangs; most take milliseconds."""

TIMEOUT_SECONDS = 300 + GENERATED
"""For all of them together, on a machine that does other things, too."""


def fuzzed(share: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a property that gets this share of all that is generated."""
    how = hypothesis.settings(
        max_examples=round(share * GENERATED),
        deadline=HUNG,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )
    return lambda test: hypothesis.seed(SEED)(how(test))


def counted(tally: Counter[str]) -> str:
    """`1500: 700 new, 800 failed csv_error`."""
    return f"{tally.total()}: " + ", ".join(f"{n} {outcome}" for outcome, n in sorted(tally.items()))
