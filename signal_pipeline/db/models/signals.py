"""Recordings and what is computed from each: equipment, sources, signals, features, hours, diagnoses, totals."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL
from sqlalchemy.orm import Mapped, mapped_column

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.db.models.base import CLOCK, EMPTY_JSON, MAKE_NEW_ID, NEW_ID, NEW_ID_BY_TIME, Base
from signal_pipeline.domain import PHASES, Status

DIAGNOSED = ("line_frequency", "load", "slip", "broken_bar", "eccentricity", "unbalance", "interturn")
"""Columns of `signal_diagnostics`: the quantities of `dsp.diagnosis` (a test compares the two)."""


def one_of(column: str, values: type[Status]) -> str:
    """The CHECK that mirrors an enum."""
    return f"{column} IN ({', '.join(repr(v.value) for v in values)})"


ROOM_FOR_VERSIONS = {"fillfactor": 50}
"""Of an index that gets an entry for each claim, start of work and heartbeat of a signal: they find room beside the
first one, where a full page would be searched for dead entries and then split (docs/decisions/0124)."""

# What SQLAlchemy has no argument for: room in the primary key, too, and dead entries that go in time, because whoever
# fetches steps over those of what was fetched before.
KEPT_AS_A_QUEUE = """
ALTER INDEX pk_raw_signals SET (fillfactor = 50);
ALTER TABLE raw_signals SET (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02,
                             vacuum_index_cleanup = on)
"""

SIGNAL_TIMES = ("recorded_at", "created_at", "claimed_at", "lease_expires_at", "work_started_at", "finalized_at")


def all_fit(columns: Iterable[str]) -> str:
    """The CHECK that Python's `datetime` can hold these times: the years 1 to 9999, and not infinity."""
    first, last = "'0001-01-01 00:00:00+00'::timestamptz", "'9999-12-31 23:59:59.999999+00'::timestamptz"
    return " AND ".join(f"{column} BETWEEN {first} AND {last}" for column in columns)


class Equipment(Base):
    """A motor, and what its plate says. Without motor data everything but the diagnosis works."""

    __tablename__ = "equipment"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    name: Mapped[str] = mapped_column(unique=True)
    pole_pairs: Mapped[int | None]
    rated_speed_rpm: Mapped[float | None]
    line_freq_hz: Mapped[float | None]
    rated_current_a: Mapped[float | None]
    rotor_bars: Mapped[int | None]
    reference_i2_i1_pct: Mapped[float | None]
    meta: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_JSON)
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)


class Source(Base):
    """A CSV that was loaded: enough to find it again, to see that it has not changed, and to read any part of it."""

    __tablename__ = "sources"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    path: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    n_rows: Mapped[int] = mapped_column(BigInteger)
    dialect: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_JSON)
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)


class RawSignal(Base):
    """One recording, or one batch of a split one: its samples, its place in the file, and its state in the queue."""

    __tablename__ = "raw_signals"
    __table_args__ = (
        CheckConstraint(one_of("processing_status", Status), name="processing_status"),
        CheckConstraint(
            "(claim_token IS NULL) = (lease_expires_at IS NULL) AND (claim_token IS NULL) = (claimed_by IS NULL)",
            name="claim_is_whole",
        ),
        CheckConstraint("processing_status <> 'processing' OR claim_token IS NOT NULL", name="processing_is_claimed"),
        CheckConstraint("attempts >= 0", name="attempts"),
        CheckConstraint("file_hash IS NULL OR coalesce(meta ->> 'batch_index', '0') = '0'", name="hash_on_batch_0"),
        CheckConstraint("lead_in >= 0 AND first_row >= lead_in", name="lead_in"),
        # Postgres knows infinity and years that Python does not: one such row, and no fetch could be read.
        CheckConstraint(all_fit(SIGNAL_TIMES), name="times"),
        Index(
            "ix_raw_signals_status_created",
            "processing_status",
            text("created_at DESC"),
            postgresql_with=ROOM_FOR_VERSIONS,
        ),
        # The pending fetch reads this one: it holds the backlog only, however long the table grows. IS TRUE, as the
        # fetch says it (see `claim_sql`).
        Index(
            "ix_raw_signals_pending",
            "created_at",
            "id",
            postgresql_where=text("(processing_status = 'pending') IS TRUE"),
        ),
        # Leases to renew, to reclaim and to look at; also the few rows that a person's subset run has borrowed.
        Index(
            "ix_raw_signals_lease",
            "lease_expires_at",
            postgresql_where=text("lease_expires_at IS NOT NULL"),
            postgresql_with=ROOM_FOR_VERSIONS,
        ),
        Index(
            "ix_raw_signals_claim_token",
            "claim_token",
            postgresql_where=text("claim_token IS NOT NULL"),
            postgresql_with=ROOM_FOR_VERSIONS,
        ),
        Index(
            "ix_raw_signals_source",
            "source_id",
            postgresql_where=text("source_id IS NOT NULL"),
            postgresql_with=ROOM_FOR_VERSIONS,
        ),
        Index(
            "ix_raw_signals_equipment_recorded",
            "equipment_id",
            "recorded_at",
            postgresql_with=ROOM_FOR_VERSIONS,
        ),
        # When an equipment last sent one, in two parts, because a claim makes a new entry in each index that holds the
        # row: this one gets none until the end of the work.
        Index(
            "ix_raw_signals_finished",
            "equipment_id",
            "created_at",
            postgresql_where=text("processing_status IN ('completed', 'failed')"),
        ),
        # And what an equipment's stream of scores has to wait for.
        Index(
            "ix_raw_signals_unfinished",
            "equipment_id",
            "created_at",
            postgresql_where=text("processing_status IN ('pending', 'processing')"),
            postgresql_with=ROOM_FOR_VERSIONS,
        ),
        # The last success, and what was finished within the last hour.
        Index(
            "ix_raw_signals_finalized",
            "processing_status",
            "finalized_at",
            postgresql_where=text("finalized_at IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=NEW_ID_BY_TIME)
    equipment_id: Mapped[UUID] = mapped_column(ForeignKey("equipment.id"))
    source_id: Mapped[UUID | None] = mapped_column(ForeignKey("sources.id", ondelete="CASCADE"))
    file_name: Mapped[str | None]
    file_hash: Mapped[str | None] = mapped_column(unique=True)
    sample_rate_hz: Mapped[float | None]
    recorded_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    """Time of the *file's* first sample (not the batch's)."""

    first_row: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """The file's row of the first new sample; `lead_in` earlier ones are stored before it."""
    lead_in: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    samples_count: Mapped[int | None]
    """Samples stored per phase, lead-in included."""

    phase_a: Mapped[bytes | None]
    phase_b: Mapped[bytes | None]
    phase_c: Mapped[bytes | None]
    crc32_a: Mapped[int | None] = mapped_column(BigInteger)
    crc32_b: Mapped[int | None] = mapped_column(BigInteger)
    crc32_c: Mapped[int | None] = mapped_column(BigInteger)
    meta: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_JSON)

    processing_status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    claim_token: Mapped[UUID | None]
    claimed_by: Mapped[str | None]
    claimed_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    work_started_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    finalized_at: Mapped[datetime | None]


event.listen(RawSignal.__table__, "before_create", DDL(MAKE_NEW_ID))  # type: ignore[no-untyped-call]
event.listen(RawSignal.__table__, "after_create", DDL(KEPT_AS_A_QUEUE))  # type: ignore[no-untyped-call]


class Feature(Base):
    """A window's features; one column for each name of the catalogue and phase, NULL where the window cannot say."""

    __table__ = Table(
        "features",
        Base.metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("raw_id", Uuid, ForeignKey("raw_signals.id", ondelete="CASCADE"), nullable=False),
        Column("equipment_id", Uuid, ForeignKey("equipment.id"), nullable=False),
        Column("window_start", DateTime(timezone=True), nullable=False),
        Column("feature_version", Text, nullable=False),
        Column("null_reasons", JSONB),
        Column("embedding", ARRAY(REAL)),
        *(Column(name, Double) for name in COLUMNS),
        UniqueConstraint("raw_id", "window_start"),
        Index("ix_features_equipment_window", "equipment_id", "window_start"),
    )


class HourlyFeatureSummary(Base):
    """What an hour of one equipment's windows looked like; always recomputed whole from `features`."""

    __table__ = Table(
        "hourly_feature_summary",
        Base.metadata,
        Column("equipment_id", Uuid, ForeignKey("equipment.id"), primary_key=True),
        Column("hour_start", DateTime(timezone=True), primary_key=True),
        Column("windows", BigInteger, nullable=False),
        *(Column(f"rms_{p}_{stat}", Double) for p in PHASES for stat in ("mean", "min", "max", "std")),
        Column("updated_at", DateTime(timezone=True), nullable=False, server_default=CLOCK),
    )


class SignalDiagnostic(Base):
    """What one recording says about its motor; of a split file one row, under its first batch.

    For each quantity a value, or NULL and a status that says why; `findings` has units, severities and the evidence.
    """

    __table__ = Table(
        "signal_diagnostics",
        Base.metadata,
        Column("raw_id", Uuid, ForeignKey("raw_signals.id", ondelete="CASCADE"), primary_key=True),
        Column("equipment_id", Uuid, ForeignKey("equipment.id"), nullable=False),
        Column("recorded_at", DateTime(timezone=True), nullable=False),
        Column("severity", Text),
        Column("analysed_seconds", Double, nullable=False),
        *(Column(name, kind) for q in DIAGNOSED for name, kind in ((q, Double), (f"{q}_status", Text))),
        Column("findings", JSONB, nullable=False),
        Column("motor", JSONB, nullable=False),
        Column("diagnosis_version", Text, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=CLOCK),
        Index("ix_signal_diagnostics_equipment_recorded", "equipment_id", "recorded_at"),
    )


class Counter(Base):
    """What only grows, kept by the transaction that did the work: one row a shard, so that workers do not queue.

    A total is its `value`, under an infinite `le`, and without time. A duration (of a stage, or `queue`) has a row for
    each bucket: its upper bound `le` (s), the observations in this bucket alone, and their sum.
    """

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(primary_key=True)
    le: Mapped[float] = mapped_column(primary_key=True, server_default=text("'Infinity'"))
    shard: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    microseconds: Mapped[int | None] = mapped_column(BigInteger)
