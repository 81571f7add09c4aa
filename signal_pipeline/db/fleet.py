"""All motors at a glance: how each is, since when, and when it was last heard of. A few rows by index for each motor.

Not here: one motor in full (`reported`), and the queue (`queue`).
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, text

from signal_pipeline.domain import Severity

RANKS: Final = (None, *Severity)
"""How urgent a motor is; one that nobody could judge comes last."""
PLATE_FIELDS: Final = 5

# A motor that was never judged would have all its diagnoses read: the newest fifty say how it is now.
MOTORS = text("""
    SELECT e.name, num_nulls(e.pole_pairs, e.rated_speed_rpm, e.line_freq_hz, e.rated_current_a, e.rotor_bars)
               AS plate_fields_missing,
           d.severity, d.recorded_at AS judged_at, a.anomalous_since, r.last_recorded
    FROM equipment AS e
    LEFT JOIN LATERAL (
        SELECT severity, recorded_at
        FROM (SELECT severity, recorded_at FROM signal_diagnostics
              WHERE equipment_id = e.id ORDER BY recorded_at DESC LIMIT 50) AS newest
        WHERE severity IS NOT NULL ORDER BY recorded_at DESC LIMIT 1) AS d ON true
    CROSS JOIN LATERAL (
        SELECT min(started_at) AS anomalous_since FROM anomaly_events
        WHERE equipment_id = e.id AND is_open AND model_kind = 'stream') AS a
    LEFT JOIN LATERAL (
        SELECT recorded_at AS last_recorded FROM raw_signals
        WHERE equipment_id = e.id AND recorded_at <= now() + interval '1 day'
        ORDER BY recorded_at DESC LIMIT 1) AS r ON true
    ORDER BY e.name
""")


@dataclass(frozen=True, slots=True)
class Motor:
    """One motor: the newest severity that could be judged (None: none could) and its recording's time, the start of
    its oldest open anomaly, the time of its last recording, and how many of the plate's five fields are missing."""

    name: str
    severity: str | None
    judged_at: datetime | None
    anomalous_since: datetime | None
    last_recorded: datetime | None
    plate_fields_missing: int

    @property
    def urgency(self) -> int:
        """The severity's rank; a motor with an open anomaly counts as one with first signs at least."""
        rank = RANKS.index(None if self.severity is None else Severity(self.severity))
        return max(rank, RANKS.index(Severity.INCIPIENT)) if self.anomalous_since else rank

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_motors(engine: Engine) -> list[Motor]:
    """Every motor, the most urgent first, then by name."""
    with engine.connect() as conn:
        motors = [Motor(**row._mapping) for row in conn.execute(MOTORS)]
    return sorted(motors, key=lambda motor: -motor.urgency)
