"""A motor that does not exist, with a known truth: for the demo, the load tests and the tests of everything else.

Here: three-phase currents of an induction motor in a stated condition (`motor`), and folders of recordings made of
them (`fleet`, `history`). Not here: any analysis of a current. The package knows numpy; only writing CSV files needs
pyarrow.
"""

from signal_pipeline.synthetic.fleet import FleetRecording, FleetTruth, write_fleet, write_many_signals
from signal_pipeline.synthetic.history import HistoryTruth, write_history
from signal_pipeline.synthetic.motor import Condition, Motor, Truth, known_truth, simulate

__all__ = [
    "Condition",
    "FleetRecording",
    "FleetTruth",
    "HistoryTruth",
    "Motor",
    "Truth",
    "known_truth",
    "simulate",
    "write_fleet",
    "write_history",
    "write_many_signals",
]
