"""The README's state diagram shows the transitions that the database allows, all of them, and who makes them."""

import re
from pathlib import Path

import pytest

from signal_pipeline.domain import Status
from signal_pipeline_tests.db.test_status_guard import FOR_A_PERSON

ROOT = Path(__file__).parents[2]
BOTH = [ROOT / "README.md", ROOT / "README.ru.md"]
ARROW = re.compile(r"^    (\S+) --> (\w+): (.+)$", re.MULTILINE)
START = "[*]"
BORN = {(START, Status.PENDING), (START, Status.FAILED)}
TAKEN_OVER = (Status.PROCESSING, Status.PROCESSING)
"""An expired lease: the status stays, and so the guard has nothing to allow."""

MADE_BY = {
    (Status.COMPLETED, Status.PROCESSING): "recompute",
    (Status.FAILED, Status.PENDING): "retry --failed",
    (START, Status.PENDING): "ingest",
}


def arrows(document: Path) -> dict[tuple[str, str], str]:
    """(from, to) -> what stands beside the arrow."""
    found = re.search(r"^stateDiagram-v2\n(.*?)^```$", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found, f"{document.name} has no state diagram"
    return {(before, after): label for before, after, label in ARROW.findall(found[1])}


@pytest.mark.parametrize("document", BOTH, ids=lambda document: document.name)
def test_the_diagram_shows_exactly_what_the_database_allows(document: Path) -> None:
    assert set(arrows(document)) == FOR_A_PERSON | BORN | {TAKEN_OVER}


@pytest.mark.parametrize("document", BOTH, ids=lambda document: document.name)
def test_the_diagram_names_the_commands_that_bring_a_signal_back(document: Path) -> None:
    shown = arrows(document)
    assert {arrow: command for arrow, command in MADE_BY.items() if command not in shown[arrow]} == {}


@pytest.mark.parametrize("document", BOTH, ids=lambda document: document.name)
def test_no_label_holds_what_mermaid_takes_for_the_end_of_one(document: Path) -> None:
    assert [label for label in arrows(document).values() if set(label) & set(":;")] == []
