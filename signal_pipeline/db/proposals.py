"""References that a stream proposes because its motor has drifted: noticed by machine, decided by a person."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert as upsert

from signal_pipeline.db.json_values import clean_json
from signal_pipeline.db.models import ReferenceProposal
from signal_pipeline.db.streams import StreamKey

OPEN = text("""
    SELECT p.id, e.name AS equipment, p.model_kind, p.model_version, p.evidence, p.created_at
    FROM reference_proposals AS p JOIN equipment AS e ON e.id = p.equipment_id
    WHERE p.status = 'proposed' ORDER BY p.created_at, p.id
""")

DECIDE = text("""
    UPDATE reference_proposals SET status = :status, decided_at = now()
    WHERE id = :id AND status = 'proposed' RETURNING id
""")


@dataclass(frozen=True, slots=True)
class Proposal:
    """An open proposal, and the evidence for it."""

    id: int
    equipment: str
    model_kind: str
    model_version: str
    evidence: dict[str, Any]
    created_at: datetime


def propose(conn: Connection, key: StreamKey, evidence: Mapping[str, Any]) -> None:
    """Propose a new reference for a stream; an open proposal stays as it is, and a dismissed one is not repeated."""
    decided = conn.execute(DECIDED, key.as_dict()).scalar_one()
    if not decided:
        statement = upsert(ReferenceProposal).values(**key.as_dict(), evidence=clean_json(evidence))
        conn.execute(statement.on_conflict_do_nothing())


DECIDED = text("""
    SELECT EXISTS (SELECT 1 FROM reference_proposals WHERE equipment_id = :equipment_id AND model_kind = :model_kind
                   AND model_version = :model_version AND status <> 'proposed')
""")


def open_proposals(conn: Connection) -> list[Proposal]:
    """What waits for a person, oldest first."""
    return [
        Proposal(r.id, r.equipment, r.model_kind, r.model_version, r.evidence, r.created_at) for r in conn.execute(OPEN)
    ]


def decide(conn: Connection, proposal_id: int, *, accepted: bool) -> None:
    """Close a proposal. Raises `ValueError` if it is not open."""
    status = "accepted" if accepted else "dismissed"
    if conn.execute(DECIDE, {"id": proposal_id, "status": status}).one_or_none() is None:
        raise ValueError(f"proposal {proposal_id} is not open")
