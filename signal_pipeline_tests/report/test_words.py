"""Words for everything that can be found, and since when a motor is as it is."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from signal_pipeline.cli.report import file_name
from signal_pipeline.dsp.diagnosis import FindingStatus, Quantity, Severity
from signal_pipeline.report.words import QUANTITIES, REFUSALS, SEVERITIES, STATES, severity_now, value_of
from signal_pipeline_tests.signals import MIDNIGHT


def told(*severities: str | None) -> Any:
    """Diagnoses an hour apart, the newest first."""
    n = len(severities)
    return SimpleNamespace(
        diagnoses=[
            SimpleNamespace(severity=severity, recorded_at=MIDNIGHT + timedelta(hours=n - 1 - k))
            for k, severity in enumerate(severities)
        ]
    )


def test_there_are_words_for_every_quantity_refusal_and_severity() -> None:
    assert set(QUANTITIES) == {q.value for q in Quantity}
    assert set(REFUSALS) == {s.value for s in FindingStatus} - {"ok"}
    assert (*SEVERITIES,) == tuple(s.value for s in Severity)
    assert set(STATES) == {None, *SEVERITIES}


@pytest.mark.parametrize(
    ("newest_first", "severity", "hour"),
    [
        (("severe", "severe", "incipient"), "severe", 1),
        (("incipient", "severe", "healthy", "severe"), "incipient", 2),
        (("healthy", "severe"), "healthy", 1),
        (("healthy", None, "healthy", "incipient"), "healthy", 1),
        ((None, "moderate", None, "moderate", "healthy"), "moderate", 1),
    ],
)
def test_since_when_is_the_first_recording_of_an_unbroken_row(
    newest_first: tuple[str | None, ...], severity: str, hour: int
) -> None:
    assert severity_now(told(*newest_first)) == (severity, MIDNIGHT + timedelta(hours=hour))


def test_nothing_judged_is_neither_healthy_nor_ill() -> None:
    assert severity_now(told(None, None)) == (None, None)
    assert severity_now(told()) == (None, None)


def test_values_carry_their_unit_and_refusals_their_reason() -> None:
    assert value_of({"value": 0.0243, "unit": "pu", "status": "ok"}) == "2.43 %"
    assert value_of({"value": -61.2, "unit": "dBc", "status": "ok", "upper_bound": True}) == "at most -61.2 dBc"
    assert value_of({"value": None, "unit": "pu", "status": "gaps"}) == "cannot be said: samples are missing"


@pytest.mark.parametrize(("name", "expected"), [("pump-1", "pump-1"), ("../../etc/x", "etc_x"), ("泵", "equipment")])
def test_a_files_name_is_made_of_harmless_characters(name: str, expected: str) -> None:
    assert file_name(name) == expected
