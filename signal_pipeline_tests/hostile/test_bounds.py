"""What is huge, or says that it is: refused early, in a process that has no memory for it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.domain import FailureReason
from signal_pipeline.errors import CorruptBlob
from signal_pipeline.processing import load
from signal_pipeline.settings import IngestSettings
from signal_pipeline_tests.db.rows import statuses
from signal_pipeline_tests.ingest.loading import HEADER, read_back
from signal_pipeline_tests.signals import insert_signals

pytestmark = pytest.mark.processes

SMALL_MEMORY = Path(__file__).with_name("small_memory.py")
HUNG_SECONDS = 300
GIGABYTE = 2**30


def small_memory(*arguments: str | Path) -> Any:
    """What the process with little memory says of its input. A crash of it fails the test, with what it said."""
    command = [sys.executable, str(SMALL_MEMORY), *map(str, arguments)]
    # Arrow's own allocator takes memory from the system in pieces of its choice, used or not.
    environment = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HUNG_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # before it, the log


def sparse(path: Path, *, start: str, size: int) -> None:
    """`start`, and then nothing: zeros that take no place on the disk."""
    with path.open("w") as file:
        file.write(start)
        file.truncate(size)


def repeated(path: Path, *, start: str, piece: str, n_bytes: int) -> None:
    block = piece * max(1, 2**20 // len(piece))
    with path.open("w") as file:
        file.write(start)
        for _ in range(n_bytes // len(block)):
            file.write(block)


HUGE: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "a line of a gigabyte": (lambda p: sparse(p, start=HEADER, size=GIGABYTE), "failed", "line 2 is longer than 65536"),
    "a header of a gigabyte": (lambda p: sparse(p, start="a,", size=GIGABYTE), "failed", "NUL bytes"),
    "a line of digits": (lambda p: repeated(p, start=HEADER, piece="9", n_bytes=2**26), "failed", "line 2 is longer"),
    "a million columns": (
        lambda p: repeated(p, start="current_R", piece=",c", n_bytes=2_000_000),
        "failed",
        "line 1 is longer than 65536 bytes",
    ),
    "a million cells a row": (
        lambda p: repeated(p, start=HEADER + "1", piece=",1", n_bytes=2_000_000),
        "failed",
        "line 2 is longer than 65536 bytes",
    ),
    "five thousand columns": (lambda p: _wide(p, 5000), "failed", "line 1 has 5000 columns; at most 4096"),
    "four thousand columns": (lambda p: _wide(p, 4000), "new", ""),
    "a million bad cells": (
        lambda p: repeated(p, start=HEADER, piece="x,y,z\n", n_bytes=2**21),
        "failed",
        "cells hold no number",
    ),
    "nothing but commas": (lambda p: repeated(p, start="", piece=",", n_bytes=2**24), "failed", "line 1 is longer"),
    "nothing but quotes": (lambda p: repeated(p, start=HEADER, piece='"', n_bytes=2**24), "failed", "line 2 is longer"),
    "nothing but line ends": (
        lambda p: repeated(p, start=HEADER, piece="\n", n_bytes=2**25),
        "failed",
        "a header, and no row below it",
    ),
    "a claim of ten gigabytes": (
        lambda p: sparse(p, start=HEADER, size=10 * GIGABYTE),
        "rejected",
        "has 10737418240 bytes; at most 4294967296 are read",
    ),
}


def _wide(path: Path, n_columns: int) -> None:
    header = "current_R,current_S,current_T" + ",c" * (n_columns - 3)
    path.write_text(f"{header}\n" + f"1,2,3{',4' * (n_columns - 3)}\n" * 300)


def test_huge_files_are_refused_in_little_memory(engine: Engine, database_url: str, tmp_path: Path) -> None:
    names = {}
    for i, (what, (write, _, _)) in enumerate(HUGE.items()):
        names[what] = f"{i}.csv"
        write(tmp_path / names[what])
    found = small_memory("load", database_url, tmp_path)["outcomes"]
    for what, (_, outcome, said) in HUGE.items():
        report = next(r for name, r in found.items() if Path(name).name == names[what])
        assert (report["outcome"], said in report["message"]) == (outcome, True), (what, report)
        assert report["reason"] != "internal_error"
    n_failed = sum(outcome == "failed" for _, outcome, _ in HUGE.values())
    assert statuses(engine) == {"pending": 1, "failed": n_failed}


def test_bombs_of_a_gigabyte_are_stopped_in_little_memory() -> None:
    found = small_memory("decode")
    assert max(found["sizes"].values()) < 6_000_000
    for form in ("gzip", "zlib", "zstd"):
        assert "at least 4001 bytes" in found["outcomes"][form]
    assert "found 1073741824 bytes" in found["outcomes"]["blosc2"]


def test_a_row_that_claims_more_than_memory_holds_is_too_large(engine: Engine) -> None:
    (signal_id,) = insert_signals(engine, 1)
    assert read_back(engine, signal_id).n_samples == 2000
    with engine.begin() as conn:
        conn.execute(text("UPDATE raw_signals SET samples_count = 2147483647"))
    with pytest.raises(CorruptBlob, match=f"claims 2147483647 samples; at most {load.MAX_SAMPLES}") as caught:
        read_back(engine, signal_id, IngestSettings())
    assert caught.value.reason is FailureReason.TOO_LARGE
