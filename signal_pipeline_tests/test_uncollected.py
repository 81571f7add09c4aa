"""The garbage collector is away while much is imported, and back afterwards."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from signal_pipeline.uncollected import uncollected


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_meanwhile_and_the_collector_comes_back() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_it_comes_back_after_an_import_that_fails() -> None:
    with pytest.raises(ModuleNotFoundError), uncollected():
        raise ModuleNotFoundError("no such module")
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()


@pytest.mark.parametrize("door", ["signal_pipeline.cli", "signal_pipeline.definitions"])
def test_a_door_imports_without_collections_and_leaves_the_collector_on(door: str) -> None:
    look = "gc.isenabled(), gc.get_stats()[2]['collections'] <= 1, gc.get_freeze_count() > 10_000"
    code = f"import gc, {door}; print({look})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert told.stdout.split() == ["True", "True", "True"]
