"""A feature version changes with everything that changes a number; and importing features costs no compiler."""

import subprocess
import sys
from typing import Any

import pytest

from signal_pipeline.dsp.version import feature_version

SETTINGS: dict[str, Any] = {"window_ms": 1000, "overlap": 0.5, "max_gap_ms": 1.0, "bands_hz": ((0, 40), (40, 80))}


def test_equal_settings_give_one_version_of_sixteen_hex_digits() -> None:
    version = feature_version(**SETTINGS)
    assert version == feature_version(**SETTINGS | {"window_ms": 1000.0})
    assert len(version) == 16
    assert int(version, 16) >= 0


@pytest.mark.parametrize(
    "change",
    [{"window_ms": 999}, {"overlap": 0.25}, {"max_gap_ms": 2}, {"bands_hz": ((0, 40), (40, 81))}, {"bands_hz": ()}],
)
def test_every_setting_changes_the_version(change: dict[str, Any]) -> None:
    assert feature_version(**SETTINGS | change) != feature_version(**SETTINGS)


def test_the_code_version_changes_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = feature_version(**SETTINGS)
    monkeypatch.setattr("signal_pipeline.dsp.version.FEATURE_CODE_VERSION", 10_000)
    assert feature_version(**SETTINGS) != before


def test_importing_the_features_does_not_import_the_compiler() -> None:
    modules = "extract, validation, version, warm_up, windows, gaps, plan"
    code = (
        f"from signal_pipeline.dsp import {modules}; import sys; print('numba' in sys.modules, 'scipy' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["False", "False"]
