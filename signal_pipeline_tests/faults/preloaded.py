"""What the fork server does before it forks: imports everything that a worker needs, and loads the kernels.

A worker that had to do this itself would take seconds. Nothing here may start a thread: forks would not have it.
"""

import blosc2  # noqa: F401

import signal_pipeline_tests.faults.worker  # noqa: F401
from signal_pipeline.db.engine import create_engine
from signal_pipeline.dsp.diagnosis import MotorData, diagnose
from signal_pipeline.dsp.warm_up import warm_up
from signal_pipeline.processing.diagnosis_of_record import severity_bands
from signal_pipeline.settings import DatabaseSettings, DiagnosisSettings
from signal_pipeline_tests.signals import current

warm_up()
diagnose(
    current((0,), seconds=2.0),
    fs=1000.0,
    motor=MotorData(),
    present=(True, True, True),
    bands=severity_bands(DiagnosisSettings()),
    max_gap=0,
)
create_engine("postgresql+psycopg:///nowhere", DatabaseSettings()).dispose()
