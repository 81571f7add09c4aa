"""A filled pipeline behind Dagster's real UI, and a real browser before it.

Here: the server with a small simulated fleet that its sensor has processed, the browser, and screenshots. They are
written to the folder that SIGNAL_PIPELINE_TESTS_SCREENSHOTS names, if any (CI keeps them).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright
from pydantic import SecretStr

from signal_pipeline.cli.environment import Surroundings
from signal_pipeline.cli.files import load_and_tell, load_options
from signal_pipeline.cli.server import dagster_server
from signal_pipeline.db.diagnostics import store_plates
from signal_pipeline.db.engine import create_engine
from signal_pipeline.processing.training import train
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import AppSettings, DatabaseSettings, ModelSettings, Settings, ViewSettings
from signal_pipeline.synthetic import write_fleet
from signal_pipeline_tests.orchestration.serving import Ui, database, free_port, wait_until
from signal_pipeline_tests.programs import program
from signal_pipeline_tests.signals import value

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 90_000
SCREENSHOTS = "SIGNAL_PIPELINE_TESTS_SCREENSHOTS"

Shoot = Callable[[Page, str], None]

BUSY = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED")
UNFINISHED = "SELECT count(*) FROM raw_signals WHERE processing_status IN ('pending', 'processing')"


@pytest.fixture(scope="module")
def ui(server_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """Dagster on a fleet of three motors that its sensor has processed, the first half of which trained a model."""
    program("chromium")  # skipped before anything is started
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, database(server_url, template_database) as url:
        for name, text in {
            "CLAIM_BATCH_SIZE": "12",
            "CLAIM_MAX_RUNS": "1",
            "PICTURES_PER_RUN": "2",
            "PICTURES_THRIFTY": "false",
            "FEATURE_EXTRACTION_PARALLEL": "false",
        }.items():
            patch.setenv(name, text)
        with database(server_url) as dagster_url, ExitStack() as stack:
            settings = Settings(
                app=AppSettings(signal_pipeline_home=home),
                database=DatabaseSettings(dagster_database_url=SecretStr(dagster_url)),
                models=ModelSettings(models_dir=home / "models"),
                view=ViewSettings(pictures_per_run=2, pictures_thrifty=False),
            )
            engine = create_engine(url, settings.database)
            here = Surroundings(settings, url, engine, embedded=False)
            stack.callback(engine.dispose)
            _load_fleet(here, home / "data")
            with dagster_server(here, port=free_port(), quiet=True) as server:
                server.wait_until_ready()
                found = Ui(server.url, engine)
                patiently(lambda: not value(engine, UNFINISHED))
                patiently(lambda: not found.runs(*BUSY))
                train(Worker(engine, settings, "test"))
                yield found


def patiently(condition: Callable[[], bool]) -> None:
    """`wait_until` with five times the patience: what is awaited here is a whole run on a loaded machine."""
    for _ in range(4):
        try:
            return wait_until(condition)
        except TimeoutError:
            continue
    return wait_until(condition)


def _load_fleet(here: Surroundings, folder: Path) -> None:
    truth = write_fleet(folder, motors=3, recordings=5, fs=3200.0)
    with here.engine.begin() as conn:
        store_plates(conn, {name: asdict(motor) for name, motor in truth.motors.items()})
    options = load_options(
        equipment=None, sample_rate=truth.fs, recorded_at=None, times=None, columns=None, no_header=False
    )
    load_and_tell(here, [folder], options)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """Chromium with an empty profile."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=program("chromium"),
            headless=True,
            args=FLAGS,
            viewport={"width": 1440, "height": 900},
        )
        context.set_default_timeout(PATIENCE_MS)
        yield context
        context.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    found = browser.new_page()
    yield found
    found.close()


@pytest.fixture
def shoot() -> Shoot:
    """`shoot(page, "lineage")` keeps what the browser shows, where somebody wants to keep it."""
    folder = os.environ.get(SCREENSHOTS)

    def keep(page: Page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return keep
