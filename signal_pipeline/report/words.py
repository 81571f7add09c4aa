"""What was found, in words that need no manual. Plain text: escaping is the page's business."""

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any

from signal_pipeline.catalogue import column_info
from signal_pipeline.counted import counted
from signal_pipeline.db.reported import Told
from signal_pipeline.domain import PHASE_NAMES, PHASES, Severity
from signal_pipeline.pictures import phrases

QUANTITIES = {
    "line_frequency": "Line frequency",
    "load": "Load",
    "slip": "Slip",
    "broken_bar": "Broken rotor bar",
    "eccentricity": "Eccentric rotor",
    "unbalance": "Unbalance of the phases",
    "interturn": "Inter-turn fault of the stator",
}

REFUSALS = {status: text if status == "off" else f"cannot be said: {text}" for status, text in phrases.REASONS.items()}

PLATE = "import the motor's plate: signal-pipeline equipment import FILE"
LONGER = "record longer"
REMEDIES = {
    "insufficient_resolution": LONGER,
    "no_motor_data": PLATE,
    "start_up": "record a running motor",
    "unsteady": "record at a steady load",
    "clock_quality": "check the recorder's clock and range",
    "noise_floor": "record longer, or at more load",
    "missing_phase": "check the sensors",
    "gaps": "check the recorder",
    "no_line": "check the sensors; or the motor was off, and its plate is not known",
    "slip_unknown": "record longer; a plate with the number of rotor bars helps",
    "slip_ambiguous": "record at a steady load",
    "sensors": "check the clamps: their direction, phase and range",
    "no_samples": "put the recording's file back, then set its batches to pending",
    "clipped": "set the recorder's range higher",
}
"""What a person can do about a refusal, where anything can be done; as in docs/diagnosis.md."""

PLATE_NAMES = {
    "rated_current_a": "the rated current",
    "rated_speed_rpm": "the rated speed",
    "pole_pairs": "the number of pole pairs",
    "line_freq_hz": "the nominal line frequency",
    "rotor_bars": "the number of rotor bars",
}

UNSCORED = (
    "No recording of this time was scored by a stream model: signal-pipeline train makes one, and "
    "signal-pipeline rescore --equipment NAME scores what is stored."
)

SEVERITIES = tuple(one.value for one in Severity)
STATES = {
    None: "cannot be judged",
    "healthy": "looks healthy",
    "incipient": "shows first signs of a fault",
    "moderate": "has a fault that should be looked at soon",
    "severe": "has a fault that should be looked at now",
}


def severity_now(told: Told) -> tuple[str | None, datetime | None]:
    """The newest judged severity, and since which recording without a break: ill, it was never better; healthy, never
    worse."""
    judged = [d for d in told.diagnoses if d.severity is not None]
    if not judged:
        return None, None
    now, since = judged[0].severity, judged[0].recorded_at
    for diagnosis in judged:
        better = SEVERITIES.index(diagnosis.severity) < SEVERITIES.index(now)
        if better or (now == "healthy" and diagnosis.severity != "healthy"):
            break
        since = diagnosis.recorded_at
    return now, since


def ill_since(told: Told) -> datetime | None:
    """The first sign of what is not healthy now: the oldest open anomaly, or the first recording of an unbroken row
    that was judged not healthy. None if there is none."""
    signs = [e.started_at for e in told.events if e.is_open]
    judged = [d for d in told.diagnoses if d.severity is not None]
    signs += [d.recorded_at for d in takewhile(lambda d: d.severity != "healthy", judged)]
    return min(signs, default=None)


def mark_of(told: Told) -> str | None:
    """The severity whose colour the summary carries: a motor with an open anomaly is never green."""
    severity, _ = severity_now(told)
    ill = severity in (None, "healthy") and any(e.is_open for e in told.events)
    return "incipient" if ill else severity


def headline(told: Told) -> str:
    """How the motor is, and since when: the first sign, and the worst that lasts."""
    severity, since = severity_now(told)
    name, first = told.equipment.name, ill_since(told)
    if severity is None or since is None:
        what = "behaves unusually; the diagnosis cannot judge it" if first else STATES[None]
        return f"{name} {what}" + (f" (anomaly since {moment(first)})." if first else ".")
    if severity == "healthy":
        if first is None:
            return f"{name} {STATES[severity]} (severity: healthy, since {moment(since)})."
        return f"{name} behaves unusually, though the diagnosis finds no fault (anomaly since {moment(first)})."
    earlier = f"since {moment(first)}, " if first is not None and first < since else ""
    return f"{name} {STATES[severity]} ({earlier}{severity} since {moment(since)})."


def summary(told: Told) -> list[str]:
    """The sentences on top, the most important first."""
    lines = [headline(told), _events(told), _recordings(told)]
    worst = _worst_finding(told.diagnoses)
    if worst is not None:
        lines.insert(1, worst)
    return lines


def _worst_finding(diagnoses: Sequence[Any]) -> str | None:
    """What the severity comes from."""
    if not diagnoses:
        return None
    judged = [f for f in diagnoses[0].findings if f["severity"] not in (None, "healthy")]
    if not judged:
        return None
    worst = max(judged, key=lambda f: SEVERITIES.index(f["severity"]))
    return f"What it rests on: {QUANTITIES[worst['quantity']].lower()}, {value_of(worst)}: {evidence(worst)}."


def _events(told: Told) -> str:
    scored = any(r.score is not None for r in told.recordings)
    if not scored and not told.events:
        return "No stream model has scored it yet."
    is_open = [e for e in told.events if e.is_open]
    if not is_open:
        return f"No anomaly is open; {counted(len(told.events), 'event')} in this time."
    oldest = min(e.started_at for e in is_open)
    return f"{counted(len(is_open), 'anomaly', 'anomalies')} open, since {moment(oldest)}."


def _recordings(told: Told) -> str:
    counts = told.counts
    if counts.newest is None:
        return "There is no recording in this time."
    parts = [f"Last recording: {moment(counts.newest)}; {counted(counts.completed, 'recording')} completed"]
    if counts.failed:
        parts.append(f"{counts.failed} failed")
    if counts.waiting:
        parts.append(f"{counts.waiting} waiting")
    return ", ".join(parts) + "."


def value_of(finding: dict[str, Any]) -> str:
    """A finding's value with its unit; or why there is none."""
    if finding["value"] is None:
        return REFUSALS.get(finding["status"], f"cannot be said: {finding['status']}")
    value, unit = finding["value"], finding["unit"]
    if unit == "pu":
        value, unit = 100 * value, "%"
    return f"{'at most ' if finding.get('upper_bound') else ''}{number(value)} {unit}"


def evidence(finding: dict[str, Any]) -> str:
    """What a finding rests on, or what keeps it from being one, and what would help."""
    told = str(finding["detail"])
    for column, name in PLATE_NAMES.items():
        told = re.sub(rf"\b{column}\b", name, told)
    remedy = REMEDIES.get(finding["status"])
    return told if remedy is None else f"{told}. What helps: {remedy}"


def feature(column: str) -> str:
    """A column of the features in words, with its phase; what is no column stands as it is."""
    return FEATURE_NAMES.get(column, column)


def _feature_names() -> dict[str, str]:
    named = {}
    for info in column_info():
        meaning = f"Park's vector, {info.meaning}" if info.feature.startswith("park_") else info.meaning
        phase = "" if info.phase is None else f", phase {PHASE_NAMES[PHASES.index(info.phase)]}"
        named[info.name] = f"{meaning}{phase}"
    return named


FEATURE_NAMES = _feature_names()


def number(value: float) -> str:
    """Three digits that matter, and never an exponent."""
    shown = f"{value:.3g}"
    return shown if "e" not in shown else f"{value:.0f}" if abs(value) >= 1 else f"{value:.6f}".rstrip("0").rstrip(".")


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
