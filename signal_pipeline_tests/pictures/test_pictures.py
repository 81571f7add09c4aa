"""Pictures: small, whole, of one look, whatever the arrays hold. How they look is for people to judge."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from signal_pipeline.pictures import recordings, series
from signal_pipeline.pictures.canvas import MAX_BYTES
from signal_pipeline.pictures.colours import ALARM, HIGHLIGHT, PHASE_COLOURS
from signal_pipeline.pictures.thinning import spectrum_db
from signal_pipeline_tests.signals import FS, MIDNIGHT, recording

HOSTILE = r"$\frac{1}{ <script>alert(1)</script> ![x](javascript:alert(1)) _a_ ^ Ä 泵"


def a_waveform(title: str = "M1", phases: object = None) -> bytes:
    samples = recording(seconds=4) if phases is None else np.asarray(phases, dtype=np.float32)
    windows = [recordings.Window(0.5 * k, 0.5 * k + 1, skipped=k == 3) for k in range(7)]
    return recordings.waveform(title, samples, fs=FS, windows=windows, line_freq=50.0)


def a_spectrum(title: str = "M1", phases: object = None, line_freq: float | None = 50.0) -> bytes:
    samples = recording(seconds=4) if phases is None else np.asarray(phases, dtype=np.float32)
    freqs, levels = spectrum_db(samples, fs=FS)
    bands = [recordings.Sideband(48.0, "f1(1−2s)"), recordings.Sideband(26.0, "f1−fr")]
    return recordings.spectrum(title, freqs, levels, line_freq=line_freq, sidebands=bands, remark=title)


def some_features(title: str = "M1", n: int = 9) -> bytes:
    values = np.linspace(1, 2, 3 * n).reshape(n, 3)
    panels = [series.Panel("RMS", "A", values), series.Panel("I2/I1", "%", values[:, :1] * np.nan)]
    return series.features(title, np.arange(n) / 2, panels)


def some_scores(title: str = "M1", n: int = 9) -> bytes:
    top = [series.Contribution(title[:20], 0.7), series.Contribution("thd_pct_a", 0.2)]
    return series.scores(title, np.arange(n) / 2, np.linspace(0, 2, n), threshold=1.0, warming=False, top=top)


def some_hours(title: str = "M1", n: int = 40, *, forecast: bool = True) -> bytes:
    starts = [MIDNIGHT + timedelta(hours=k + 5 * (k > 20)) for k in range(n)]
    mean = 10 + np.sin(np.arange(n) / 4)[:, None] * np.array([1, 1.1, 0.9])
    later = [MIDNIGHT + timedelta(hours=50 + k) for k in range(24)]
    band = series.Band(0, later, np.full(24, 10.0), np.full(24, 9.0), np.full(24, 11.0))
    return series.hours(
        title, series.Hours(starts, mean, mean - 0.1, mean + 0.1), forecast=[band] * forecast, limit=12.0
    )


def healthy(title: str = "M1") -> bytes:
    return series.healthy_scores(title, [series.Healthy(title, np.array([0.1, 0.4, 1.2]))])


ALL: list[Callable[..., bytes]] = [a_waveform, a_spectrum, some_features, some_scores, some_hours, healthy]


def pixels(png: bytes) -> np.ndarray:
    image = Image.open(BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)


def shows(png: bytes, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(pixels(png) - wanted).max(axis=1) < 24).any())


@pytest.mark.parametrize("draw", ALL)
def test_a_picture_fits_into_an_event_whatever_its_names_are(draw: Callable[..., bytes]) -> None:
    png = draw(HOSTILE)
    assert len(pixels(png)) > 100_000
    assert len(png) <= MAX_BYTES
    assert 4 * len(png) / 3 < 60_000


def test_noise_and_a_long_recording_fit_too() -> None:
    noise = np.random.default_rng(0).normal(0, 5, (3, 400_000))
    assert len(a_waveform(phases=noise)) <= MAX_BYTES
    assert len(a_spectrum(phases=noise)) <= MAX_BYTES


@pytest.mark.parametrize("draw", [a_waveform, some_features, some_hours])
def test_the_phases_have_the_same_colours_everywhere(draw: Callable[..., bytes]) -> None:
    png = draw()
    assert [shows(png, colour) for colour in PHASE_COLOURS] == [True] * 3


def test_what_lies_above_the_threshold_and_what_was_skipped_is_marked() -> None:
    assert shows(some_scores(), ALARM)
    assert shows(a_spectrum(), HIGHLIGHT)
    assert not shows(a_spectrum(line_freq=None), HIGHLIGHT)


@pytest.mark.parametrize("missing", [1, 3])
def test_phases_that_were_not_recorded_leave_a_picture_of_the_others(missing: int) -> None:
    phases = recording(seconds=4)
    phases[:missing] = np.nan
    png = a_waveform(phases=phases)
    assert [shows(png, colour) for colour in PHASE_COLOURS[1:]] == [missing < 2, missing < 3]
    assert len(a_spectrum(phases=phases)) > 1000


def test_one_window_and_one_hour_are_enough() -> None:
    for draw in (some_features, some_scores, some_hours):
        assert len(draw(n=1)) > 1000
    assert len(some_hours(n=1, forecast=False)) > 1000


def test_pictures_drawn_in_threads_are_the_same_as_alone() -> None:
    alone = [draw() for draw in ALL]
    with ThreadPoolExecutor(4) as pool:
        together = [pool.submit(draw) for _ in range(3) for draw in ALL]
    assert [one.result() for one in together] == alone * 3


def test_no_picture_needs_pyplot_or_a_display() -> None:
    code = """
import sys
from signal_pipeline_tests.pictures.test_pictures import ALL
for draw in ALL:
    draw()
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=_root(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _root() -> str:
    from signal_pipeline.cli.environment import PROJECT_ROOT

    return str(PROJECT_ROOT)
