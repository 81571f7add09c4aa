"""Diagnosis of a whole recording: what is found, how bad it is, or why it cannot be said.

Here: from three phase currents and a motor's nameplate to a fixed list of findings. `statorscope` supplies the
spectrum, the clock audit, the fault frequencies and the sideband search; ours is what it has not: preparing long
recordings, refusals, slip from more than sidebands, the inter-turn signature from symmetrical components, severity.
Not here: features of windows, and anything stored. Importing this costs numpy; scipy comes with the first call.
"""

from signal_pipeline.domain import Severity
from signal_pipeline.dsp.diagnosis.clipping import clipped_share
from signal_pipeline.dsp.diagnosis.diagnose import diagnose
from signal_pipeline.dsp.diagnosis.findings import (
    Diagnosis,
    Finding,
    FindingStatus,
    Quantity,
    SeverityBands,
    refusal_of_all,
)
from signal_pipeline.dsp.diagnosis.motor_data import MotorData, MotorDataError, motor_data_from_rows
from signal_pipeline.dsp.diagnosis.record import Decimator, bridge_gaps

__all__ = [
    "Decimator",
    "Diagnosis",
    "Finding",
    "FindingStatus",
    "MotorData",
    "MotorDataError",
    "Quantity",
    "Severity",
    "SeverityBands",
    "bridge_gaps",
    "clipped_share",
    "diagnose",
    "motor_data_from_rows",
    "refusal_of_all",
]
