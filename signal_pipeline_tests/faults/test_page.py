"""The page of the suite: it lists every fault, every fault has tests, and it says of a broken promise that it is."""

import re
from collections import Counter
from pathlib import Path

from signal_pipeline_tests.faults.catalogue import FAULTS
from signal_pipeline_tests.faults.report import PAGE, Seen, not_made, page

MARK = re.compile(r"mark\.faults\((\d+)\)")


def test_the_written_page_lists_every_fault_and_its_promise_as_the_suite_states_them() -> None:
    written = PAGE.read_text(encoding="utf-8")
    for fault in FAULTS:
        assert f"| {fault.number} | {fault.what} | {fault.promised} |" in written, "run `make test-faults` again"


def test_the_written_page_says_of_every_promise_that_it_was_kept() -> None:
    """A row of a run that was broken, skipped or left out is no row to be committed."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| [0-9]+ \|", line)]
    assert len(rows) == len(FAULTS)
    assert [row for row in rows if not row.endswith(" | kept |") or "skipped" in row] == []


def test_every_fault_has_tests() -> None:
    tests = Path(__file__).parent.glob("test_*.py")
    marked = {int(number) for test in tests for number in MARK.findall(test.read_text(encoding="utf-8"))}
    assert marked == {fault.number for fault in FAULTS}


def whole() -> dict[int, Seen]:
    seen = {fault.number: Seen() for fault in FAULTS}
    for one in seen.values():
        one.outcomes["passed"] += 1
        one.counts.update({"kills": 3})
    return seen


def test_a_promise_that_was_broken_is_written_down_as_broken() -> None:
    seen = whole()
    seen[2].outcomes["failed"] += 1
    rows = [line for line in page(seen, seeds=1).splitlines() if line.startswith("| 2 |")]
    assert rows[0].endswith("**broken** |")


def without_space() -> Seen:
    return Seen(outcomes=Counter(skipped=3), reasons={"run as root to fill a disk"})


def test_a_fault_that_could_not_be_made_counts_as_not_tried_and_says_why() -> None:
    seen = whole() | {5: without_space()}
    (row,) = [line for line in page(seen, seeds=1).splitlines() if line.startswith("| 5 |")]
    assert row.endswith("| (3 skipped: run as root to fill a disk) | **not tried** |")


def test_a_fault_that_was_made_in_part_is_not_kept_whole() -> None:
    seen = whole()
    seen[5].outcomes["skipped"] += 1
    (row,) = [line for line in page(seen, seeds=1).splitlines() if line.startswith("| 5 |")]
    assert row.endswith("| kept in part |")


def test_the_end_of_a_run_names_every_fault_that_could_not_be_made() -> None:
    (line,) = not_made(whole() | {5: without_space()})
    assert line.startswith("fault 5 NOT MADE in 3 tests: disk full")
    assert line.endswith("run as root to fill a disk")
    assert not_made(whole()) == []


def test_a_fault_that_was_not_run_is_listed_as_not_run() -> None:
    seen = whole()
    del seen[7]
    (row,) = [line for line in page(seen, seeds=1).splitlines() if line.startswith("| 7 |")]
    assert row.endswith("|  | not run |")
