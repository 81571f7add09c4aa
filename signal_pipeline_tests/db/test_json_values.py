"""Whatever goes into JSONB is accepted by Postgres, and comes back as something a person can read."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from signal_pipeline.db.json_values import clean_json, clean_text
from signal_pipeline.domain import Stage


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (-float("inf"), None),
        (1.5, 1.5),
        (True, True),
        (None, None),
        (10**30, 10**30),
        ("NUL \x00 gone", "NUL  gone"),
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        ("a file \udcff", "a file \\udcff"),
        ("a pair 😀", "a pair 😀"),
        (np.float32(0.5), 0.5),
        (np.float64("nan"), None),
        (np.float32("inf"), None),
        (np.int64(-3), -3),
        (np.bool_(True), True),
        (np.str_("x\x00"), "x"),
        (np.array([[1.0, np.nan], [np.inf, -2.0]]), [[1.0, None], [None, -2.0]]),
        (np.array(3), 3),
        (datetime(2024, 5, 1, 12, tzinfo=UTC), "2024-05-01T12:00:00+00:00"),
        (date(2024, 5, 1), "2024-05-01"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("/tmp/a\x00b"), "/tmp/ab"),  # noqa: S108  a name, never opened
        (Stage.LOAD, "load"),
        (
            {1: (np.float64("nan"), {"in\x00side": [float("inf")]}), None: set()},
            {"1": [None, {"inside": [None]}], "None": []},
        ),
    ],
)
def test_a_value_becomes_what_jsonb_can_hold(value: Any, expected: Any) -> None:
    cleaned = clean_json(value)
    assert cleaned == expected
    assert json.loads(json.dumps(cleaned, allow_nan=False)) == expected


@pytest.mark.parametrize("value", [b"bytes", 1j, object(), np.complex128(1), [{"deep": b"inside"}]])
def test_what_has_no_form_in_json_is_refused_by_type(value: Any) -> None:
    with pytest.raises(TypeError, match="has no form in JSON"):
        clean_json(value)


def test_cleaning_does_not_change_its_argument() -> None:
    value = {"a": [float("nan")]}
    clean_json(value)
    assert np.isnan(value["a"][0])


any_text = st.text(st.characters(exclude_categories=()))
scalars = st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | any_text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)


@given(value=values)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_postgres_takes_every_cleaned_value_and_gives_it_back(engine: Engine, value: Any) -> None:
    sent = json.dumps(clean_json({"value": value}))
    with engine.connect() as conn:
        stored = conn.execute(text("SELECT CAST(CAST(:value AS jsonb) AS text)"), {"value": sent}).scalar_one()
    # jsonb writes 1e16 as an integer; as doubles they are the same
    assert json.loads(stored, parse_int=float) == json.loads(sent, parse_int=float)


@given(raw=any_text)
def test_cleaning_text_twice_changes_nothing_more(raw: str) -> None:
    once = clean_text(raw)
    assert clean_text(once) == once
    assert "\x00" not in once
    once.encode("utf-8")
