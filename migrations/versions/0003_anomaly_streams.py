"""Where each equipment's stream of scores stands, the events that it made, and references that it proposes."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")


def stream_key() -> list[sa.Column[Any]]:
    return [
        sa.Column("equipment_id", sa.Uuid(), nullable=False),
        sa.Column("model_kind", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "anomaly_states",
        *stream_key(),
        sa.Column("manifest_hash", sa.Text(), nullable=False),
        sa.Column("state", postgresql.JSONB(), nullable=False),
        sa.Column("tracker", postgresql.JSONB(), nullable=False),
        sa.Column("last_window_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_raw_id", sa.Uuid(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.CheckConstraint(
            "(last_window_start IS NULL) = (last_raw_id IS NULL)", name=op.f("ck_anomaly_states_position_is_whole")
        ),
        sa.ForeignKeyConstraint(["equipment_id"], ["equipment.id"], name="fk_anomaly_states_equipment_id"),
        sa.PrimaryKeyConstraint("equipment_id", "model_kind", "model_version", name="pk_anomaly_states"),
    )
    op.create_table(
        "anomaly_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        *stream_key(),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("peak_score", sa.Double(), nullable=False),
        sa.Column("peak_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("windows", sa.BigInteger(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("features", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["equipment_id"], ["equipment.id"], name="fk_anomaly_events_equipment_id"),
        sa.PrimaryKeyConstraint("id", name="pk_anomaly_events"),
        sa.UniqueConstraint(
            "equipment_id", "model_kind", "model_version", "started_at", name="uq_anomaly_events_stream_started_at"
        ),
    )
    op.create_table(
        "reference_proposals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        *stream_key(),
        sa.Column("status", sa.Text(), server_default=sa.text("'proposed'"), nullable=False),
        sa.Column("evidence", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('proposed', 'accepted', 'dismissed')", name=op.f("ck_reference_proposals_status")
        ),
        sa.ForeignKeyConstraint(["equipment_id"], ["equipment.id"], name="fk_reference_proposals_equipment_id"),
        sa.PrimaryKeyConstraint("id", name="pk_reference_proposals"),
    )
    # at most one open proposal for a stream
    op.create_index(
        "uq_reference_proposals_open",
        "reference_proposals",
        ["equipment_id", "model_kind", "model_version"],
        unique=True,
        postgresql_where=sa.text("status = 'proposed'"),
    )
    # What a stream has to wait for; holds the backlog only.
    op.create_index(
        "ix_raw_signals_unfinished",
        "raw_signals",
        ["equipment_id", "recorded_at"],
        postgresql_where=sa.text("processing_status IN ('pending', 'processing')"),
    )


def downgrade() -> None:
    op.drop_index("ix_raw_signals_unfinished", table_name="raw_signals")
    op.drop_table("reference_proposals")
    op.drop_table("anomaly_events")
    op.drop_table("anomaly_states")
