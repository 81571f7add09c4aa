"""Why something cannot be said, in phrases that need no manual: the same under a picture and in a report.

Keys are `FindingStatus`. Not here: whole sentences, and what to do about it (`report.words`).
"""

from typing import Final

REASONS: Final = {
    "insufficient_resolution": "the recording is too short to keep the lines apart",
    "no_motor_data": "the motor's plate is not known",
    "off": "the motor was off",
    "start_up": "the motor was starting",
    "unsteady": "the current changed its level in the recording",
    "clock_quality": "the line is smeared, by the recorder's clock or by noise around it",
    "noise_floor": "a line that matters could hide in the noise",
    "missing_phase": "a phase was not recorded",
    "gaps": "samples are missing",
    "one_sided": "there is a line on one side of the carrier only",
    "no_line": "no line frequency carries the current",
    "slip_unknown": "nothing shows the slip",
    "slip_ambiguous": "two ways to the slip disagree",
    "sensors": "the currents do not fit together, a sensor may be dead, reversed or set wrong",
    "no_samples": "a part of the recording cannot be had any more",
    "clipped": "the current was larger than the recorder's range",
}


def reason(status: str) -> str:
    """The phrase for a status; a status of another version stands for itself, with spaces."""
    return REASONS.get(status, status.replace("_", " "))
