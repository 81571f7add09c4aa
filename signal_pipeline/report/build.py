"""Puts the report of one equipment together: reads, says it in words, draws, renders."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from signal_pipeline.catalogue import FEATURES
from signal_pipeline.db import reported
from signal_pipeline.db.engine import wrapped
from signal_pipeline.db.pictured import newest_forecast
from signal_pipeline.db.reported import SHOWN_FEATURES, Told
from signal_pipeline.db.signals import load_signal
from signal_pipeline.errors import SettingsError, SignalError
from signal_pipeline.processing.load import load_recording
from signal_pipeline.report import words
from signal_pipeline.settings import IngestSettings

if TYPE_CHECKING:
    from signal_pipeline.report.page import Section

EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))


def build_report(
    engine: Engine,
    settings: IngestSettings,
    equipment: str,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    now: datetime | None = None,
) -> str:
    """The report of `equipment` on its recordings in [start, end) as one HTML page; None: no bound.

    Raises `SettingsError` if there is no such equipment, or plotly is not installed.
    """
    if find_spec("plotly") is None:
        raise SettingsError("a report needs plotly: `uv sync --extra plots`, or pip install 'signal-pipeline[plots]'")
    from signal_pipeline.report.page import render

    with wrapped(engine), engine.connect() as conn:
        found = reported.find(conn, equipment)
        if found is None:
            known = ", ".join(reported.some_names(conn)) or "none yet"
            raise SettingsError(f"there is no equipment {equipment!r}; known: {known}")
        told = reported.tell(conn, found, start=start or EVER[0], end=end or EVER[1])
        forecast = newest_forecast(conn, found.id) if end is None else []
    written = words.moment(now or datetime.now(UTC))
    return render(
        equipment,
        f"{_plate(found)} · report of {written}",
        words.summary(told),
        words.mark_of(told),
        [*_over_time(told, forecast), _diagnosis(told), *_last_recording(engine, settings, told), _events(told)],
    )


def _plate(found: Any) -> str:
    parts = [
        (found.pole_pairs, "{:d} pole pairs"),
        (found.rated_speed_rpm, "{:g} rpm"),
        (found.rated_current_a, "{:g} A"),
        (found.line_freq_hz, "{:g} Hz"),
    ]
    known = [shape.format(value) for value, shape in parts if value is not None]
    return ", ".join(known) if known else "plate not known"


def _over_time(told: Told, forecast: Sequence[Any]) -> "list[Section]":
    from signal_pipeline.report import plots
    from signal_pipeline.report.page import Section

    units = {feature.name: feature.unit for feature in FEATURES}
    labels = {"rms": "RMS", "crest": "crest factor", "thd_pct": "THD", "kurt": "kurtosis", "i2_i1_pct": "I2/I1",
              "park_2f_pct": "Park's vector at 2f"}  # fmt: skip
    described = [
        (name, labels[name] if units[name] == "1" else f"{labels[name]} ({units[name]})")
        for name in (*SHOWN_FEATURES, "i2_i1_pct", "park_2f_pct")
    ]
    scored = any(row.score is not None for row in told.recordings)
    return [
        Section(
            "Current, hour by hour",
            plots.trend(told.hours, forecast) if told.hours else "No hour has been summarised in this time.",
        ),
        Section(
            "Anomaly scores",
            plots.scores(told.recordings, told.events) if scored else words.UNSCORED,
        ),
        Section(
            "Features of each recording",
            plots.features(told.recordings, described) if told.recordings else "No recording was completed.",
        ),
    ]


def _diagnosis(told: Told) -> "Section":
    from signal_pipeline.report.page import Section, Table

    if not told.diagnoses:
        return Section("Diagnosis", "No recording of this time was diagnosed.")
    newest = told.diagnoses[0]
    rows = [
        (words.QUANTITIES.get(f["quantity"], f["quantity"]), words.value_of(f), f["severity"] or "", words.evidence(f))
        for f in newest.findings
    ]
    return Section(
        f"Diagnosis of the recording of {words.moment(newest.recorded_at)}",
        Table(("what", "value", "severity", "evidence"), rows),
    )


def _last_recording(engine: Engine, settings: IngestSettings, told: Told) -> "list[Section]":
    from signal_pipeline.report import plots
    from signal_pipeline.report.page import Section

    title = "The last recording"
    if told.with_samples is None:
        return [Section(title, "No samples are stored: they are in the CSV files only.")]
    with wrapped(engine), engine.connect() as conn:
        signal = load_signal(conn, told.with_samples)
    try:
        phases, fs = load_recording(signal, settings).phases, signal.sample_rate_hz
    except SignalError as error:
        return [Section(title, f"Its samples cannot be read: {error}")]
    if fs is None:
        return [Section(title, "Its sample rate is not known.")]
    line_freq = next(
        (f["value"] for d in told.diagnoses for f in d.findings
         if d.raw_id == signal.id and f["quantity"] == "line_frequency"), None
    )  # fmt: skip
    at = words.moment(signal.recorded_at)
    return [
        Section(f"{title} ({at}): currents", plots.waveform(phases, fs=fs)),
        Section(f"{title} ({at}): spectrum", plots.spectrum(phases, fs=fs, line_freq=line_freq)),
    ]


def _events(told: Told) -> "Section":
    from signal_pipeline.report.page import Section, Table

    if not told.events:
        return Section("Anomaly events", "None in this time.")
    rows = [
        (
            words.moment(e.started_at),
            "still open" if e.is_open else words.moment(e.ended_at),
            f"{words.number(e.peak_score)} (threshold {words.number(e.threshold)})",
            "; ".join(f"{words.feature(name)}: {100 * share:.0f} %" for name, share in e.features[:3]),
        )
        for e in told.events
    ]
    return Section("Anomaly events", Table(("from", "until", "highest score", "made by"), rows))
