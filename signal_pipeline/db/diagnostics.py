"""Diagnoses as rows, and what their making needs: nameplates, and which batches make up a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert as upsert

from signal_pipeline.db.json_values import clean_json
from signal_pipeline.db.models import DIAGNOSED, Equipment, SignalDiagnostic

PLATE = ("pole_pairs", "rated_speed_rpm", "line_freq_hz", "rated_current_a", "rotor_bars", "reference_i2_i1_pct")
"""Columns of `equipment` that a diagnosis reads."""


@dataclass(frozen=True, slots=True)
class StoredDiagnosis:
    """One row of `signal_diagnostics`. `values` and `statuses` by quantity; `findings` as JSON."""

    raw_id: UUID
    equipment_id: UUID
    recorded_at: datetime
    severity: str | None
    analysed_seconds: float
    values: Mapping[str, float | None]
    statuses: Mapping[str, str]
    findings: Sequence[Mapping[str, Any]]
    motor: Mapping[str, Any]
    diagnosis_version: str


@dataclass(frozen=True, slots=True)
class RecordPart:
    """One batch of a file, and whether its work is done."""

    id: UUID
    first_row: int
    completed: bool


# A signal without a source, or the only batch of its file, is a record by itself.
PARTS = text("""
    SELECT asked.id AS asked, r.id, r.first_row, r.processing_status = 'completed' AS completed
    FROM raw_signals AS asked
    JOIN raw_signals AS r ON r.id = asked.id OR r.source_id = asked.source_id
    WHERE asked.id = ANY(:ids) ORDER BY asked.id, r.first_row, r.id
""")

MOTOR = text(f"SELECT {', '.join(PLATE)} FROM equipment WHERE id = :id")  # noqa: S608  column names are ours

# Whoever completes batches of one file does it one after the other, so exactly one of them sees that it is the last.
LOCK_SOURCES = text("""
    SELECT id FROM sources WHERE id IN (SELECT source_id FROM raw_signals WHERE id = ANY(:ids)) ORDER BY id FOR UPDATE
""")


def record_parts(conn: Connection, signal_ids: Sequence[UUID]) -> dict[UUID, tuple[RecordPart, ...]]:
    """For each signal all batches of its file, in order; itself alone if it is not split."""
    parts: dict[UUID, list[RecordPart]] = {}
    for row in conn.execute(PARTS, {"ids": list(signal_ids)}):
        parts.setdefault(row.asked, []).append(RecordPart(row.id, row.first_row, row.completed))
    return {asked: tuple(found) for asked, found in parts.items()}


def lock_sources(conn: Connection, signal_ids: Sequence[UUID]) -> None:
    """Keep others from completing batches of these signals' files until the transaction ends."""
    conn.execute(LOCK_SOURCES, {"ids": list(signal_ids)}).all()


def motor_plate(conn: Connection, equipment_id: UUID) -> dict[str, Any]:
    """What is known of a motor; unknown fields are None."""
    return dict(conn.execute(MOTOR, {"id": equipment_id}).one()._mapping)


def store_diagnoses(conn: Connection, diagnoses: Sequence[StoredDiagnosis]) -> None:
    """Write or replace. The caller holds the fence on the signals that the diagnoses were made of."""
    if not diagnoses:
        return
    table = SignalDiagnostic.__table__
    rows = [_row(d) for d in diagnoses]
    statement = upsert(table).values(rows)
    updated = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in ("raw_id", "created_at")}
    conn.execute(statement.on_conflict_do_update(index_elements=["raw_id"], set_=updated))


def _row(d: StoredDiagnosis) -> dict[str, Any]:
    quantities = {q: d.values[q] for q in DIAGNOSED} | {f"{q}_status": d.statuses[q] for q in DIAGNOSED}
    return {
        "raw_id": d.raw_id,
        "equipment_id": d.equipment_id,
        "recorded_at": d.recorded_at,
        "severity": d.severity,
        "analysed_seconds": d.analysed_seconds,
        "findings": json.loads(json.dumps(clean_json(d.findings))),
        "motor": clean_json(d.motor),
        "diagnosis_version": d.diagnosis_version,
        **quantities,
    }


KNOWN = text("SELECT name FROM equipment WHERE name = ANY(:names)")


def store_plates(conn: Connection, plates: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Put nameplates on equipment by name, making equipment that is not there; returns how many were new and known."""
    known = set(conn.execute(KNOWN, {"names": list(plates)}).scalars())
    for name in sorted(plates):
        values = {field: plates[name].get(field) for field in PLATE}
        statement = upsert(Equipment).values(name=name, **values)
        conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
    return {"new": len(plates) - len(known), "updated": len(known)}
