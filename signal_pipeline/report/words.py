"""What was found, in words that need no manual. Plain text: escaping is the page's business."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from signal_pipeline.db.reported import Told

QUANTITIES = {
    "line_frequency": "Line frequency",
    "load": "Load",
    "slip": "Slip",
    "broken_bar": "Broken rotor bar",
    "eccentricity": "Eccentric rotor",
    "unbalance": "Unbalance of the phases",
    "interturn": "Inter-turn fault of the stator",
}

REFUSALS = {
    "insufficient_resolution": "cannot be said: the recording is too short to keep the lines apart",
    "no_motor_data": "cannot be said: the motor's plate is not known",
    "off": "the motor was off",
    "start_up": "cannot be said: the motor was starting",
    "unsteady": "cannot be said: the current changed its level in the recording",
    "clock_quality": "cannot be said: the line is smeared, by the recorder's clock or by noise around it",
    "noise_floor": "cannot be said: a line that matters could hide in the noise",
    "missing_phase": "cannot be said: a phase was not recorded",
    "gaps": "cannot be said: samples are missing",
    "one_sided": "cannot be said: there is a line on one side of the carrier only",
    "no_line": "cannot be said: no line frequency carries the current",
    "slip_unknown": "cannot be said: the slip is not known",
    "slip_ambiguous": "cannot be said: two ways to the slip disagree",
    "sensors": "cannot be said: the currents do not fit together, a sensor may be dead, reversed or set wrong",
    "clipped": "cannot be said: the current was larger than the recorder's range",
}

SEVERITIES = ("healthy", "incipient", "moderate", "severe")
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


def summary(told: Told) -> list[str]:
    """The sentences on top, the most important first."""
    severity, since = severity_now(told)
    name = told.equipment.name
    first = f"{name} {STATES[severity]}."
    if severity is not None and since is not None:
        first = f"{name} {STATES[severity]} (severity: {severity}, since {moment(since)})."
    lines = [first, _events(told), _recordings(told)]
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
    return f"What it rests on: {QUANTITIES[worst['quantity']].lower()}, {value_of(worst)}. {worst['detail']}"


def _events(told: Told) -> str:
    scored = any(r.score is not None for r in told.recordings)
    if not scored and not told.events:
        return "No anomaly model has scored it yet."
    is_open = [e for e in told.events if e.is_open]
    if not is_open:
        return f"No anomaly is open; {_count(len(told.events), 'event')} in this time."
    oldest = min(e.started_at for e in is_open)
    return f"{_count(len(is_open), 'anomaly', 'anomalies')} open, since {moment(oldest)}."


def _recordings(told: Told) -> str:
    counts = told.counts
    if counts.newest is None:
        return "There is no recording in this time."
    parts = [f"Last recording: {moment(counts.newest)}; {_count(counts.completed, 'recording')} completed"]
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
    return f"{'at most ' if finding.get('upper_bound') else ''}{value:.3g} {unit}"


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"
