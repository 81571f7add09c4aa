"""The report: whole, escaped, bounded in size, and honest where there is nothing to show."""

from datetime import timedelta
from html.parser import HTMLParser
from uuid import UUID

import pytest
from sqlalchemy import Engine

from signal_pipeline.errors import SettingsError
from signal_pipeline.report import build, build_report
from signal_pipeline.settings import IngestSettings
from signal_pipeline_tests.report.conftest import HOSTILE
from signal_pipeline_tests.signals import MIDNIGHT, change, insert_signals

PLOTS = 10
"""Hours, scores, six features, currents, spectrum."""
LARGEST_BYTES = 6_000_000


class Page(HTMLParser):
    """What a browser would make of it: elements with their attributes, and the text outside of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts = ""
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts += data
        elif self._inside != "style":
            self.text += data


def page(engine: Engine, name: str = HOSTILE, **bounds: object) -> str:
    return build_report(engine, IngestSettings(), name, **bounds)  # type: ignore[arg-type]


@pytest.mark.usefixtures("reported")
def test_hostile_names_are_text_and_nothing_else(engine: Engine) -> None:
    found = Page(page(engine))
    assert HOSTILE in found.text
    assert "<b>i2_i1_pct</b>" in found.text
    assert {tag for tag, _ in found.tags} <= {
        "html", "head", "meta", "title", "style", "script", "body", "h1", "h2", "p", "div", "section", "table",
        "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert not [attrs for _, attrs in found.tags if {"src", "href", "onerror", "onload"} & set(attrs)]
    # plotly's library and one script for each plot; a name that broke out would have made more
    assert sum(tag == "script" for tag, _ in found.tags) == 1 + PLOTS
    assert "alert(1)" not in found.scripts


@pytest.mark.usefixtures("reported")
def test_a_report_says_on_top_how_the_motor_is(engine: Engine) -> None:
    found = Page(page(engine))
    top = found.text[: found.text.index("Current, hour by hour")]
    assert "1 anomaly open, since 2025-08-25 02:00 UTC." in top
    assert "Last recording: 2025-08-25 02:00 UTC; 3 recordings completed." in top
    assert "2 pole pairs, 1455 rpm, 10 A" in top
    assert "(since 2025-08-25 00:00 UTC, " in top or "(anomaly since 2025-08-25 02:00 UTC)" in top
    assert "cannot be said" in found.text, "a diagnosis of ten seconds at 1 kHz refuses something"


@pytest.mark.usefixtures("reported")
def test_a_report_is_one_file_of_a_few_megabytes_that_may_load_nothing(engine: Engine) -> None:
    html = page(engine)
    assert len(html.encode()) < LARGEST_BYTES
    policy = next(attrs["content"] for tag, attrs in Page(html).tags if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "connect-src" not in policy


@pytest.mark.usefixtures("reported")
def test_a_report_of_a_time_without_recordings_says_so(engine: Engine) -> None:
    found = Page(page(engine, start=MIDNIGHT + timedelta(days=9), end=MIDNIGHT + timedelta(days=10)))
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    for sentence in ("There is no recording in this time.", "None in this time.", "No hour has been summarised"):
        assert sentence in found.text


@pytest.mark.usefixtures("reported")
def test_without_scores_the_report_says_how_one_gets_them_with_and_without_a_model(engine: Engine) -> None:
    change(engine, "DELETE FROM anomaly_events")
    change(engine, "DELETE FROM anomaly_scores WHERE model_kind = 'stream'")
    text = Page(page(engine)).text
    assert "No stream model has scored it yet." in text
    assert "signal-pipeline train makes one, and signal-pipeline rescore --equipment NAME scores what is stored" in text


def test_bounds_are_those_of_the_recordings(engine: Engine, reported: list[UUID]) -> None:
    assert len(reported) == 3
    found = Page(page(engine, start=MIDNIGHT + timedelta(hours=1), end=MIDNIGHT + timedelta(hours=2)))
    assert "Last recording: 2025-08-25 01:00 UTC; 1 recording completed." in found.text


def test_failed_and_waiting_signals_are_told_and_need_no_samples(engine: Engine) -> None:
    insert_signals(engine, 2, equipment="M1")
    change(engine, "UPDATE raw_signals SET phase_a = NULL, phase_b = NULL, phase_c = NULL")
    found = Page(page(engine, "M1"))
    assert "0 recordings completed, 2 waiting." in found.text
    assert "plate not known" in found.text


@pytest.mark.usefixtures("reported")
def test_samples_that_cannot_be_read_leave_the_rest_of_the_report(engine: Engine) -> None:
    change(engine, "UPDATE raw_signals SET crc32_b = crc32_b + 1")
    found = Page(page(engine))
    assert "Its samples cannot be read: phase_b" in found.text
    assert sum(tag == "script" for tag, _ in found.tags) == 1 + PLOTS - 2


def test_an_unknown_equipment_is_an_error_that_names_the_known_ones(engine: Engine) -> None:
    insert_signals(engine, 1, equipment="pump-1")
    with pytest.raises(SettingsError, match=r"no equipment 'pmup-1'; known: pump-1"):
        page(engine, "pmup-1")


def test_without_plotly_the_error_names_the_extra(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="--extra plots"):
        page(engine)
