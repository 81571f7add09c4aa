"""A machine and a reference of it, for every test of this room."""

import numpy as np
import pytest

from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.reference import Reference
from signal_pipeline_tests.anomaly.machines import FEATURES, Machine


@pytest.fixture
def machine() -> Machine:
    return Machine(np.random.default_rng(7))


@pytest.fixture(scope="session")
def reference() -> Reference:
    """A stream reference fitted on eight recordings."""
    values, names = Machine(np.random.default_rng(3)).recordings(8)
    return fit(FEATURES, values, names)
