"""Rows without samples that another program wrote over: whatever they say of their CSV, each fails and says why."""

import json
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from signal_pipeline.ingest.loader import LoadOptions, load_files
from signal_pipeline.settings import Settings
from signal_pipeline_tests.hostile.test_rows import process, put
from signal_pipeline_tests.ingest.loading import csv_of
from signal_pipeline_tests.signals import FS, change, failure, insert_signals, recording, statuses

NOTHING = ", ".join(f"{kind}_{p} = NULL" for kind in ("phase", "crc32") for p in "abc")

META: dict[str, Any] = {
    "text": "16384",
    "no number": "a",
    "negative": -1,
    "within a line": 31,
    "past the end": 2**40,
    "more than a file has": 2**70,
    "a fraction": 1000.5,
    "truth": True,
    "a list": [1],
}
DIALECTS: dict[str, Any] = {
    "empty": {},
    "a list": [],
    "a number as delimiter": {"columns": {"R": "a", "S": "b", "T": "c"}, "header": True, "delimiter": 5},
    "a long delimiter": {"columns": {"R": "a", "S": "b", "T": "c"}, "header": True, "delimiter": "ab"},
    "a line end as delimiter": {"columns": {"R": "a", "S": "b", "T": "c"}, "header": True, "delimiter": "\n"},
    "other columns": {"columns": {"R": "x", "S": "y", "T": "z"}, "header": True, "delimiter": ","},
}


@pytest.fixture
def ids(engine: Engine, tmp_path: Path) -> list[UUID]:
    """Two batches of one file, pending and without their samples."""
    path = tmp_path / "a.csv"
    path.write_text(csv_of(recording(seconds=4.0)))
    settings = Settings().ingest.model_copy(update={"csv_batch_size": 2000})
    (report,) = load_files(
        engine, [path], options=LoadOptions(sample_rate_hz=FS), settings=settings, features=Settings().features
    )
    assert change(engine, f"UPDATE raw_signals SET {NOTHING}") == 2
    return list(report.signal_ids)


def assert_the_last_fails_alone(engine: Engine, ids: list[UUID], *reasons: str) -> None:
    process(engine)
    assert statuses(engine) == {ids[0]: "completed", ids[1]: "failed"}
    found = failure(engine, ids[1])
    assert found["reason"] in reasons, found
    assert found["stage"] == "load"
    assert len(found["message"]) < 1000


@pytest.mark.parametrize("what", META)
def test_a_row_whose_place_in_its_file_is_none_fails_alone(engine: Engine, ids: list[UUID], what: str) -> None:
    offset = json.dumps({"byte_offset": META[what]})
    change(engine, "UPDATE raw_signals SET meta = meta || CAST(:o AS jsonb) WHERE id = :id", o=offset, id=ids[1])
    assert_the_last_fails_alone(engine, ids, "file_changed", "csv_error")


@pytest.mark.parametrize("count", [-5, 0, 2**31 - 1])
def test_a_row_that_claims_other_rows_than_its_file_has_fails_alone(
    engine: Engine, ids: list[UUID], count: int
) -> None:
    put(engine, ids[1], {"samples_count": count})
    assert_the_last_fails_alone(engine, ids, "file_changed", "csv_error", "too_large", "validation_failed")


@pytest.mark.parametrize("claims", [{"samples_count": -5}, {"samples_count": 0}, {"samples_count": 2**31 - 1}])
def test_a_row_that_only_names_a_file_and_claims_impossible_rows_of_it_fails(
    engine: Engine, tmp_path: Path, claims: dict[str, int]
) -> None:
    """A negative count must not cut rows off its end."""
    path = tmp_path / "a.csv"
    path.write_text(csv_of(recording(seconds=4.0)))
    nothing: dict[str, Any] = {f"{kind}_{p}": None for kind in ("phase", "crc32") for p in "abc"}
    (signal_id,) = insert_signals(engine, 1, file_name=str(path), **nothing | {"samples_count": None} | claims)
    process(engine)
    assert statuses(engine) == {signal_id: "failed"}
    assert failure(engine, signal_id)["reason"] in ("csv_error", "too_large")


@pytest.mark.parametrize("what", DIALECTS)
def test_a_file_of_which_no_dialect_is_known_fails(engine: Engine, ids: list[UUID], what: str) -> None:
    change(engine, "UPDATE sources SET dialect = CAST(:dialect AS jsonb)", dialect=json.dumps(DIALECTS[what]))
    process(engine)
    assert set(statuses(engine).values()) == {"failed"}
    assert {failure(engine, i)["reason"] for i in ids} == {"csv_error"}


@pytest.mark.parametrize("path", ["/dev/zero", "/proc/self/environ", "fifo", "../../etc/shadow", "", "a\n\x1b[31m.csv"])
def test_a_file_that_is_none_of_ours_is_not_read(engine: Engine, ids: list[UUID], tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    change(engine, "UPDATE sources SET path = :path", path=str(tmp_path / path) if path == "fifo" else path)
    process(engine)
    assert set(statuses(engine).values()) == {"failed"}
    assert {failure(engine, i)["reason"] for i in ids} <= {"csv_error", "file_missing", "file_changed"}
    assert all(failure(engine, i)["message"].isprintable() for i in ids)
