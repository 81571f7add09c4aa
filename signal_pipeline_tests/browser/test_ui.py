"""What a data scientist does in Dagster's UI, done by a real browser on a real server."""

import re

import pytest
from playwright.sync_api import Page, expect

from signal_pipeline.orchestration.ops import PER_SIGNAL
from signal_pipeline_tests.browser.conftest import BUSY, PATIENCE_MS, Shoot, patiently
from signal_pipeline_tests.orchestration.serving import Ui, wait_until
from signal_pipeline_tests.signals import count, value

pytestmark = [pytest.mark.programs, pytest.mark.dagster, pytest.mark.timeout(1800)]

EXPANDED = "expanded=global%40global%3Asignals%2Cglobal%40global%3Amodels"
FIRST = "SELECT id::text FROM raw_signals WHERE processing_status = 'completed' ORDER BY created_at, id LIMIT 1"
LAST_OF_FAN = """
    SELECT r.id::text FROM raw_signals AS r JOIN equipment AS e ON e.id = r.equipment_id
    WHERE e.name = 'fan-2' AND processing_status = 'completed' ORDER BY recorded_at DESC LIMIT 1
"""
FAILED = """
    SELECT id::text FROM raw_signals
    WHERE processing_status = 'failed' AND meta -> 'failure' ->> 'reason' = 'insufficient_data'
"""


def see(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.get_by_text(text).first).to_be_visible(timeout=PATIENCE_MS)


def open_partitions(page: Page, ui: Ui, asset: str, key: str | None = None) -> None:
    page.goto(f"{ui.url}/assets/{asset}?view=partitions" + (f"&partition={key}" if key else ""))
    see(page, re.compile(r"Materialized \(\d+\)"))


def open_picture(page: Page) -> tuple[int, int]:
    """Click on the picture of the partition at hand; the size in pixels that the browser has drawn."""
    page.get_by_text("[Show Markdown]").first.click()
    image = page.locator("img[src^='data:image/png;base64,']")
    expect(image).to_be_visible(timeout=PATIENCE_MS)
    wait_until(lambda: bool(image.evaluate("image => image.complete")))
    width, height = image.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    return width, height


def launch(page: Page, ui: Ui) -> None:
    """Press the dialog's button, and wait until the runs that it started have ended."""
    before = len(ui.runs())
    page.get_by_role("button", name=re.compile("^Launch ")).click()
    patiently(lambda: len(ui.runs()) > before)
    patiently(lambda: not ui.runs(*BUSY))


def test_the_lineage_shows_every_asset_and_where_it_flows(ui: Ui, page: Page, shoot: Shoot) -> None:
    page.set_viewport_size({"width": 1900, "height": 1400})
    page.goto(f"{ui.url}/asset-groups?{EXPANDED}")
    for name in (
        *("raw_signals", "features", "anomaly_scores", "signal_diagnostics"),
        *("anomaly_model", "detected_anomalies", "forecasts"),
    ):
        see(page, name)
    wait_until(lambda: page.locator("svg path[d^='M']").count() >= 6)
    page.wait_for_load_state("networkidle")
    shoot(page, "lineage")


def test_a_failed_partition_stands_beside_materialized_ones_and_says_why(ui: Ui, page: Page, shoot: Shoot) -> None:
    failed = str(value(ui.engine, FAILED))
    for asset in (key.to_user_string() for key in PER_SIGNAL):
        open_partitions(page, ui, asset)
        see(page, "Failed (1)")
        see(page, "Materialized (15)")
    open_partitions(page, ui, "raw_signals", failed)
    see(page, "failed, and did not materialize this asset")
    shoot(page, "failed-partition")
    page.get_by_text("View logs").first.click()
    see(page, re.compile("1 of [0-9]+ signals failed"))
    see(page, re.compile(f"{failed} insufficient_data: the record has 1280 samples at 3200 Hz"))
    shoot(page, "failed-run")


def test_a_partition_shows_a_picture_of_its_recording(ui: Ui, page: Page, shoot: Shoot) -> None:
    open_partitions(page, ui, "raw_signals", str(value(ui.engine, FIRST)))
    see(page, "sample_rate_hz")
    assert open_picture(page) == (800, 390)
    shoot(page, "picture")


def test_a_person_materializes_one_partition_and_looks_at_its_scores(ui: Ui, page: Page, shoot: Shoot) -> None:
    key = str(value(ui.engine, LAST_OF_FAN))
    assert count(ui.engine, "anomaly_scores") == 0
    open_partitions(page, ui, "anomaly_scores", key)
    page.get_by_role("button", name="Materialize").first.click()
    see(page, "Launch runs to materialize anomaly_scores")
    see(page, "1 partition")
    launch(page, ui)
    assert value(ui.engine, "SELECT count(DISTINCT raw_id) FROM anomaly_scores") == 1
    open_partitions(page, ui, "anomaly_scores", key)
    see(page, "highest_score")
    shoot(page, "partition")
    assert open_picture(page) == (800, 390)
    shoot(page, "scores")


def test_a_person_starts_a_backfill(ui: Ui, page: Page, shoot: Shoot) -> None:
    before = set(ui.runs())
    open_partitions(page, ui, "hourly_feature_summary")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="All", exact=True).click()
    see(page, "16 partitions")
    launch(page, ui)
    # At most twelve signals a run; the one that failed has no features to summarise, and its run fails with it.
    patiently(lambda: len(set(ui.runs()) - before) == 2)
    patiently(lambda: not ui.runs(*BUSY))
    assert [len(set(ui.runs(status)) - before) for status in ("SUCCESS", "FAILURE")] == [1, 1]
    page.goto(f"{ui.url}/runs?view=backfills")
    see(page, "hourly_feature_summary")
    shoot(page, "backfill")


def test_checks_are_shown_with_what_they_found(ui: Ui, page: Page, shoot: Shoot) -> None:
    page.goto(f"{ui.url}/assets/raw_signals?view=checks")
    for name in ("few_signals_fail", "every_equipment_sends", "the_queue_moves", "no_lease_is_stuck"):
        see(page, name)
    shoot(page, "checks")
