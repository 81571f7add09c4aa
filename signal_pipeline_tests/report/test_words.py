"""Words for everything that can be found, and since when a motor is as it is."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.cli.report import file_name
from signal_pipeline.dsp.diagnosis import FindingStatus, Quantity, Severity
from signal_pipeline.report.words import (
    QUANTITIES,
    REFUSALS,
    REMEDIES,
    SEVERITIES,
    STATES,
    evidence,
    feature,
    headline,
    mark_of,
    number,
    severity_now,
    value_of,
)
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


def anomalous(told: Any, *, hour: float) -> Any:
    """The same motor with an anomaly that has been open since `hour`."""
    event = SimpleNamespace(started_at=MIDNIGHT + timedelta(hours=hour), is_open=True)
    return SimpleNamespace(diagnoses=told.diagnoses, events=[event], equipment=SimpleNamespace(name="M1"))


def test_the_headline_says_the_first_sign_and_since_when_it_is_as_bad_as_now() -> None:
    growing = told("severe", "severe", "moderate", "healthy", "healthy")
    found = headline(anomalous(growing, hour=0.5))
    assert found.startswith("M1 has a fault that should be looked at now")
    assert found.endswith("(since 2025-08-25 00:30 UTC, severe since 2025-08-25 03:00 UTC).")
    assert "since 2025-08-25 02:00 UTC, severe since 2025-08-25 03:00 UTC" in headline(anomalous(growing, hour=5))
    assert headline(anomalous(told("severe"), hour=1)).endswith("(severe since 2025-08-25 00:00 UTC).")


@pytest.mark.parametrize("severities", [("healthy", "healthy"), (None,)])
def test_a_motor_with_an_open_anomaly_does_not_look_healthy(severities: tuple[str | None, ...]) -> None:
    motor = anomalous(told(*severities), hour=1)
    assert "behaves unusually" in headline(motor)
    assert "anomaly since 2025-08-25 01:00 UTC" in headline(motor)
    assert mark_of(motor) == "incipient"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1886.2, "1886"), (999.6, "1000"), (0.0243, "0.0243"), (2.0e-5, "0.00002"), (-61.23, "-61.2"), (0, "0")],
)
def test_numbers_have_no_exponent(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_refusal_says_what_would_help_and_names_no_column() -> None:
    refused = {"value": None, "unit": "%", "status": "no_motor_data", "detail": "rated_current_a is not known"}
    assert evidence(refused) == (
        "the rated current is not known. What helps: import the motor's plate: signal-pipeline equipment import FILE"
    )
    assert evidence({"status": "ok", "detail": "5.829 A rms of 8 A"}) == "5.829 A rms of 8 A"
    assert set(REMEDIES) < set(REFUSALS)


def test_every_feature_has_words_of_its_own() -> None:
    assert feature("i2_i1_pct") == "negative against positive sequence"
    assert feature("kurt_b") == "excess kurtosis, 0 for Gauss, phase S"
    assert len({feature(column) for column in COLUMNS}) == len(COLUMNS)
    assert feature("<b>not ours</b>") == "<b>not ours</b>"
