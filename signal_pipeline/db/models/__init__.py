"""The tables, as SQLAlchemy 2 models. States and their rules stand in the schema, not only in the code.

Alembic's migrations create them (a test compares the two). The triggers that guard status changes are plain SQL in
the migrations. Not here: queries.
"""

from signal_pipeline.db.models.base import Base
from signal_pipeline.db.models.results import AnomalyEvent, AnomalyScore, AnomalyState, Forecast, ReferenceProposal
from signal_pipeline.db.models.signals import (
    DIAGNOSED,
    Counter,
    Equipment,
    Feature,
    HourlyFeatureSummary,
    RawSignal,
    SignalDiagnostic,
    Source,
)

__all__ = [
    "DIAGNOSED",
    "AnomalyEvent",
    "AnomalyScore",
    "AnomalyState",
    "Base",
    "Counter",
    "Equipment",
    "Feature",
    "Forecast",
    "HourlyFeatureSummary",
    "RawSignal",
    "ReferenceProposal",
    "SignalDiagnostic",
    "Source",
]
