"""What each picture shows: stored rows and samples in, one drawing out. Each returns None if there is nothing to see.

Not here: which signals are drawn, and what becomes of a drawing that fails (`plots`).
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.anomaly import stream
from signal_pipeline.anomaly.models import Models
from signal_pipeline.db import pictured
from signal_pipeline.db.forecasts import QUANTITIES
from signal_pipeline.db.history import Range, find_equipment, read_windows
from signal_pipeline.db.pictured import Place
from signal_pipeline.db.signals import load_signal
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline.ingest.sources import printable
from signal_pipeline.processing.load import Recording, load_recording
from signal_pipeline.processing.worker import Worker

if TYPE_CHECKING:
    from signal_pipeline.pictures.recordings import Sideband

F8 = NDArray[np.float64]
Drawing = bytes
"""A PNG."""

HOURS_DAYS = 7
TRAINING_WINDOWS = 5000
EQUIPMENT_SHOWN = 12
PANELS = (("RMS", "rms", "A"), ("crest factor", "crest", "1"), ("THD", "thd_pct", "%"))
UNBALANCE = ("I2/I1", "%")


def draw_waveform(worker: Worker, signal_id: UUID) -> Drawing | None:
    """The samples with their windows; None where the row holds no samples (they are in the CSV only)."""
    from signal_pipeline.pictures.recordings import Window, waveform

    place, recording, starts, line_freq = _recorded(worker, signal_id)
    if recording is None or place.sample_rate_hz is None:
        return None
    settings, fs = worker.settings.features, place.sample_rate_hz
    grid = WindowGrid.for_rate(fs, window_ms=settings.window_ms, overlap=settings.window_overlap)
    owned = grid.owned(place.first_row, recording.n_samples - place.lead_in)
    offsets = [k * grid.hop_length / fs - recording.start_row / fs for k in owned]
    stored = {round((at - place.starts_at).total_seconds(), 3) for at in starts}
    windows = [
        Window(offset, offset + grid.window_length / fs, skipped=bool(stored) and round(offset, 3) not in stored)
        for offset in offsets
    ]
    return waveform(_title(place), recording.phases, fs=fs, windows=windows, line_freq=line_freq)


def draw_spectrum(worker: Worker, signal_id: UUID) -> Drawing | None:
    """The spectrum with the line frequency, its harmonics, and the sidebands of the diagnosed slip."""
    from signal_pipeline.pictures.recordings import spectrum
    from signal_pipeline.pictures.thinning import spectrum_db

    place, recording, _, line_freq = _recorded(worker, signal_id)
    if recording is None or place.sample_rate_hz is None:
        return None
    with worker.engine.connect() as conn:
        diagnosis = pictured.stored_diagnosis(conn, signal_id)
    freqs, levels = spectrum_db(recording.phases, fs=place.sample_rate_hz)
    remark, slip, pole_pairs = "no sidebands are marked: the file is diagnosed with its last batch", None, None
    if diagnosis is not None:
        line_freq = diagnosis.line_frequency or line_freq
        slip, pole_pairs = diagnosis.slip, diagnosis.motor.get("pole_pairs")
        remark = spectrum_remark(slip, diagnosis.slip_status, diagnosis.severity)
    bands = sidebands(line_freq, slip, pole_pairs)
    return spectrum(_title(place), freqs, levels, line_freq=line_freq, sidebands=bands, remark=remark)


def spectrum_remark(slip: float | None, slip_status: str, severity: str | None) -> str:
    """The line below the title: the slip (pu) whose sidebands are marked, or why none are; and the diagnosis."""
    from signal_pipeline.pictures.phrases import reason

    judged = "diagnosis: " + (severity or "no verdict")
    told = f"slip {100 * slip:.2f} %" if slip is not None else f"no sidebands are marked: {reason(slip_status)}"
    return f"{told} · {judged}"


def sidebands(line_freq: float | None, slip: float | None, pole_pairs: int | None) -> "tuple[Sideband, ...]":
    """Where a broken rotor bar, f1·(1 ± 2ks), and an eccentric rotor, f1 ± f1·(1 - s)/p, would show."""
    from signal_pipeline.pictures.recordings import Sideband

    if line_freq is None or slip is None:
        return ()
    bars = [
        Sideband(line_freq * (1 + sign * 2 * k * slip), f"f1(1{mark}{2 * k}s)")
        for k in (1, 2)
        for sign, mark in ((-1, "−"), (1, "+"))
    ]
    if not pole_pairs:
        return tuple(bars)
    rotor = line_freq * (1 - slip) / pole_pairs
    return (*bars, Sideband(line_freq - rotor, "f1−fr"), Sideband(line_freq + rotor, "f1+fr"))


def draw_features(worker: Worker, signal_id: UUID) -> Drawing | None:
    """Level, shape, distortion and unbalance of each window."""
    from signal_pipeline.pictures.series import Panel, features

    columns = [f"{name}_{phase}" for _, name, _ in PANELS for phase in "abc"] + ["i2_i1_pct"]
    with worker.engine.connect() as conn:
        place = pictured.places(conn, [signal_id])[signal_id]
        starts, values = pictured.stored_windows(conn, signal_id, columns)
    if not starts:
        return None
    panels = [Panel(title, unit, values[:, 3 * i : 3 * i + 3]) for i, (title, _, unit) in enumerate(PANELS)] + [
        Panel(*UNBALANCE, values[:, -1:])
    ]
    return features(_title(place), _seconds(place, starts), panels)


def draw_scores(worker: Worker, signal_id: UUID, version: str) -> Drawing | None:
    """The scores of each window under model `version`, and the contributions to the highest."""
    from signal_pipeline.pictures.series import Contribution, scores

    with worker.engine.connect() as conn:
        place = pictured.places(conn, [signal_id])[signal_id]
        rows = pictured.stored_scores(conn, signal_id, version)
    if not rows:
        return None
    highest = max(rows, key=lambda row: row.score)
    return scores(
        f"{_title(place)} · model {version}",
        _seconds(place, [row.window_start for row in rows]),
        np.array([row.score for row in rows]),
        threshold=rows[-1].threshold,
        warming=any(row.meta.get("warming") for row in rows),
        top=[Contribution(name, share) for name, share in highest.meta.get("top", [])],
    )


def draw_hours(worker: Worker, signal_id: UUID) -> Drawing | None:
    """The last week of hours of the signal's equipment."""
    with worker.engine.connect() as conn:
        place = pictured.places(conn, [signal_id])[signal_id]
    return _draw_hours(worker, place.equipment_id, place.equipment)


def draw_equipment_hours(worker: Worker, equipment: str) -> Drawing | None:
    """The last week of hours of an equipment. Raises `ValueError` if it does not exist."""
    with worker.engine.connect() as conn:
        equipment_id = find_equipment(conn, [equipment])[equipment]
    return _draw_hours(worker, equipment_id, equipment)


def _draw_hours(worker: Worker, equipment_id: UUID, equipment: str) -> Drawing | None:
    from signal_pipeline.pictures.series import Band, Hours, hours

    with worker.engine.connect() as conn:
        starts, values = pictured.stored_hours(conn, equipment_id, days=HOURS_DAYS)
        issued = pictured.newest_forecast(conn, equipment_id)
    if not starts:
        return None
    bands = []
    for phase, quantity in enumerate(QUANTITIES):
        rows = [row for row in issued if row.quantity == quantity and row.lower_80 is not None]
        if rows:
            mean, low, high = (np.array([getattr(r, c) for r in rows]) for c in ("mean", "lower_80", "upper_80"))
            bands.append(Band(phase, [row.hour_start for row in rows], mean, low, high))
    past = Hours(starts, values[:, :, 0], values[:, :, 1], values[:, :, 2])
    limit = next((row.limit_value for row in issued if row.limit_value is not None), None)
    return hours(f"{printable(equipment)} · hourly RMS", past, forecast=bands, limit=limit)


def draw_healthy(
    worker: Worker, models: Models, equipment: Sequence[str], *, start: datetime | None, end: datetime | None
) -> Drawing | None:
    """The first windows of [start, end) of each equipment against the threshold that was calibrated for it."""
    from signal_pipeline.pictures.series import Healthy, healthy_scores

    shown = []
    with worker.engine.connect() as conn:
        ids = find_equipment(conn, list(equipment)[:EQUIPMENT_SHOWN])
        for name, equipment_id in ids.items():
            reference = models.reference(name)
            wanted = Range(models.features, models.feature_version, start, end)
            windows = read_windows(conn, equipment_id, wanted, limit=TRAINING_WINDOWS)
            if reference is None or not len(windows):
                continue
            scored, _ = stream.score(reference, stream.start(reference), windows.values)
            levels = scored.score[np.isfinite(scored.score)] / scored.threshold
            if len(levels):
                shown.append(Healthy(printable(name), levels))
    return healthy_scores(f"anomaly model {models.version}", shown) if shown else None


def _recorded(worker: Worker, signal_id: UUID) -> tuple[Place, Recording | None, list[datetime], float | None]:
    """Place, samples if the row holds them, starts of stored windows, and the line frequency (Hz) they found."""
    with worker.engine.connect() as conn:
        place = pictured.places(conn, [signal_id])[signal_id]
        signal = load_signal(conn, signal_id)
        starts, values = pictured.stored_windows(conn, signal_id, [f"line_freq_hz_{p}" for p in "abc"])
    # Reading a CSV again would cost more than the whole picture.
    recording = load_recording(signal, worker.settings.ingest) if signal.has_samples else None
    found = values[np.isfinite(values)]
    return place, recording, starts, float(np.median(found)) if found.size else None


def _title(place: Place) -> str:
    name = printable(Path(place.file_name).name) if place.file_name else f"{place.recorded_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{printable(place.equipment)} · {name}"


def _seconds(place: Place, starts: Sequence[datetime]) -> F8:
    return np.array([(at - place.starts_at).total_seconds() for at in starts])
