"""The README in two languages says the same: as far as a machine can see, which is all but the sentences."""

import re
from pathlib import Path

import pytest

from signal_pipeline_tests.docs.console import typed
from signal_pipeline_tests.docs.test_readme import command_lines

ROOT = Path(__file__).parents[2]
ENGLISH, RUSSIAN = ROOT / "README.md", ROOT / "README.ru.md"
BOTH = [ENGLISH, RUSSIAN]
SETTING = re.compile(r"^\| `([A-Z][A-Z_]+)` \| (.*?) \| (.+) \|$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
CYRILLIC = re.compile("[а-яё]")


def without_code(document: Path) -> str:
    return re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def sections(document: Path) -> list[tuple[int, int]]:
    """Of each section: how many rows of tables and how many items of lists it has."""
    parts = re.split(r"^## ", without_code(document), flags=re.MULTILINE)
    rows, items = (re.compile(start, re.MULTILINE) for start in (r"^\| ", r"^(?:- |\d\. )"))
    return [(len(rows.findall(part)), len(items.findall(part))) for part in parts]


def anchors(document: Path) -> set[str]:
    """The addresses of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", without_code(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_both_show_the_same_session_and_the_same_commands() -> None:
    assert typed(RUSSIAN) == typed(ENGLISH)
    assert command_lines(RUSSIAN) == command_lines(ENGLISH)


def test_both_have_the_same_sections_with_as_many_rows_and_points() -> None:
    assert sections(RUSSIAN) == sections(ENGLISH)


def test_both_link_to_the_same_pages_and_pictures() -> None:
    linked = [set(LINK.findall(without_code(document))) - {"README.md", "README.ru.md"} for document in BOTH]
    assert linked[0] == linked[1]


def test_both_have_every_setting_with_its_default_and_a_meaning_in_their_language() -> None:
    english, russian = (SETTING.findall(document.read_text(encoding="utf-8")) for document in BOTH)
    assert len(english) > 40
    assert [row[:2] for row in russian] == [row[:2] for row in english]
    assert [name for name, _, meaning in russian if not CYRILLIC.search(meaning)] == []


@pytest.mark.parametrize("document", BOTH, ids=lambda document: document.name)
def test_every_place_in_the_table_of_contents_is_there(document: Path) -> None:
    places = re.findall(r"\]\(#([^)]+)\)", without_code(document))
    assert len(places) >= 8
    assert [place for place in places if place not in anchors(document)] == []
