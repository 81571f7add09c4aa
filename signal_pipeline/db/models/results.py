"""What models say: scores, where their streams stand, events, proposals and forecasts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from signal_pipeline.db.models.base import CLOCK, EMPTY_JSON, Base


class AnomalyScore(Base):
    """How unusual one window was to one model. High is anomalous."""

    __tablename__ = "anomaly_scores"
    __table_args__ = (
        UniqueConstraint("feature_id", "model_kind", "model_version"),
        Index("ix_anomaly_scores_equipment_window", "equipment_id", "window_start"),
        Index("ix_anomaly_scores_raw", "raw_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    feature_id: Mapped[int] = mapped_column(ForeignKey("features.id", ondelete="CASCADE"))
    raw_id: Mapped[UUID] = mapped_column(ForeignKey("raw_signals.id", ondelete="CASCADE"))
    equipment_id: Mapped[UUID] = mapped_column(ForeignKey("equipment.id"))
    window_start: Mapped[datetime]
    model_kind: Mapped[str]
    model_version: Mapped[str]
    score: Mapped[float]
    threshold: Mapped[float]
    is_anomaly: Mapped[bool] = mapped_column(Boolean)
    meta: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_JSON)
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)


class AnomalyState(Base):
    """Where an equipment's stream stands: moved in the transaction that writes its scores, never beside it."""

    __tablename__ = "anomaly_states"
    __table_args__ = (CheckConstraint("(last_window_start IS NULL) = (last_raw_id IS NULL)", name="position_is_whole"),)

    equipment_id: Mapped[UUID] = mapped_column(ForeignKey("equipment.id"), primary_key=True)
    model_kind: Mapped[str] = mapped_column(primary_key=True)
    model_version: Mapped[str] = mapped_column(primary_key=True)
    manifest_hash: Mapped[str]
    state: Mapped[dict[str, Any]]
    tracker: Mapped[dict[str, Any]]
    last_window_start: Mapped[datetime | None]
    last_raw_id: Mapped[UUID | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=CLOCK)


class AnomalyEvent(Base):
    """Anomalous windows joined by persistence and hysteresis; known by its stream and its start."""

    __tablename__ = "anomaly_events"
    __table_args__ = (
        UniqueConstraint(
            "equipment_id", "model_kind", "model_version", "started_at", name="uq_anomaly_events_stream_started_at"
        ),
        Index("ix_anomaly_events_open", "equipment_id", postgresql_where=text("is_open")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    equipment_id: Mapped[UUID] = mapped_column(ForeignKey("equipment.id"))
    model_kind: Mapped[str]
    model_version: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    raised_at: Mapped[datetime]
    peak_score: Mapped[float]
    peak_at: Mapped[datetime]
    threshold: Mapped[float]
    windows: Mapped[int] = mapped_column(BigInteger)
    is_open: Mapped[bool]
    features: Mapped[dict[str, Any]]


class ReferenceProposal(Base):
    """A drift that was noticed, and is for a person to accept or dismiss; at most one is open for a stream."""

    __tablename__ = "reference_proposals"
    __table_args__ = (
        CheckConstraint("status IN ('proposed', 'accepted', 'dismissed')", name="status"),
        Index(
            "uq_reference_proposals_open",
            "equipment_id",
            "model_kind",
            "model_version",
            unique=True,
            postgresql_where=text("status = 'proposed'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    equipment_id: Mapped[UUID] = mapped_column(ForeignKey("equipment.id"))
    model_kind: Mapped[str]
    model_version: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'proposed'"))
    evidence: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    decided_at: Mapped[datetime | None]


class Forecast(Base):
    """One forecast hour of one issue; issues are kept, so that they can be checked against what came."""

    __tablename__ = "forecasts"
    __table_args__ = (UniqueConstraint("equipment_id", "quantity", "issued_at", "hour_start"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    equipment_id: Mapped[UUID] = mapped_column(ForeignKey("equipment.id"))
    quantity: Mapped[str]
    issued_at: Mapped[datetime]
    hour_start: Mapped[datetime]
    model: Mapped[str]
    mean: Mapped[float]
    lower_80: Mapped[float | None]
    upper_80: Mapped[float | None]
    lower_95: Mapped[float | None]
    upper_95: Mapped[float | None]
    limit_value: Mapped[float | None]
    exceedance_probability: Mapped[float | None]
    meta: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_JSON)
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
