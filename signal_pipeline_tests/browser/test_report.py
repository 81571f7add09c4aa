"""The report in a real browser: every plot is drawn, nothing is asked of any network, no name becomes markup."""

from datetime import timedelta
from itertools import combinations
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from signal_pipeline.db.claims import claim_pending
from signal_pipeline.ingest.loader import LoadOptions, load_files
from signal_pipeline.processing import models
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.training import train
from signal_pipeline.processing.worker import Worker
from signal_pipeline.report import build_report
from signal_pipeline.settings import IngestSettings, ModelSettings, Settings
from signal_pipeline.synthetic import write_fleet
from signal_pipeline_tests.browser.conftest import PATIENCE_MS, Shoot
from signal_pipeline_tests.signals import MIDNIGHT, change

pytestmark = [pytest.mark.programs, pytest.mark.timeout(1800)]

DRAWN = ".svg-container > .main-svg:first-child"
"""What a plot has drawn; its frame is as wide as the column even where the drawing is wider."""

HOSTILE = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"


@pytest.fixture
def fan(engine: Engine, tmp_path: Path) -> str:
    """A motor whose inter-turn fault grows over its day, scored by a model of its first hours."""
    settings = Settings(models=ModelSettings(models_dir=tmp_path / "models"))
    worker = Worker(engine, settings, "test")
    truth = write_fleet(tmp_path / "data", motors=1, recordings=10, fs=3200.0)
    options = LoadOptions(sample_rate_hz=truth.fs)
    list(load_files(engine, [tmp_path / "data"], options=options, settings=settings.ingest, features=settings.features))
    (claim,) = claim_pending(engine, settings=settings.claims, claimed_by="test").claims
    run_batch(worker, Batch(claim.token, claim.signal_ids))
    train(worker, end=MIDNIGHT + timedelta(hours=8))
    models.rescore(worker, equipment=[truth.developing])
    return truth.developing


def open_report(page: Page, engine: Engine, equipment: str, folder: Path) -> list[str]:
    """Every request that the page made, but for itself."""
    file = folder / "report.html"
    file.write_text(build_report(engine, IngestSettings(), equipment), encoding="utf-8")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=PATIENCE_MS)
    return [url for url in requests if url != file.as_uri()]


def test_every_plot_is_drawn_nothing_is_loaded_and_a_hostile_name_runs_no_script(
    engine: Engine, fan: str, page: Page, shoot: Shoot, tmp_path: Path
) -> None:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.set_viewport_size({"width": 1160, "height": 1500})
    assert open_report(page, engine, fan, tmp_path) == []
    traces = "plots => plots.map(plot => plot.querySelectorAll('.scatterlayer .trace').length)"
    # hours, scores with threshold, features (four of each phase, two of the machine), currents, spectrum
    assert page.locator(".js-plotly-plot").evaluate_all(traces) == [3, 2, 3, 3, 3, 3, 1, 1, 3, 3]
    assert complaints == []
    shoot(page, "report")
    change(engine, "UPDATE equipment SET name = :name WHERE name = :fan", name=HOSTILE, fan=fan)
    assert open_report(page, engine, HOSTILE, tmp_path) == []
    assert page.evaluate("window.pwned") is None
    assert page.locator("h1").inner_text() == HOSTILE


def test_a_report_is_as_wide_as_the_screen_and_no_plot_lies_on_another(
    engine: Engine, fan: str, page: Page, tmp_path: Path
) -> None:
    for width in (320, 390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        open_report(page, engine, fan, tmp_path)
        page.wait_for_function("document.querySelectorAll('.svg-container').length == 10")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        boxes = [plot.bounding_box() for plot in page.locator(DRAWN).all()]
        for one, other in combinations([box for box in boxes if box], 2):
            beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            assert beside or one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
