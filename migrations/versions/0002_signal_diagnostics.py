"""A diagnosis for each recording, and the motor's own reference for it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

QUANTITIES = ("line_frequency", "load", "slip", "broken_bar", "eccentricity", "unbalance", "interturn")


def upgrade() -> None:
    op.add_column("equipment", sa.Column("reference_i2_i1_pct", sa.Double(), nullable=True))
    op.create_table(
        "signal_diagnostics",
        sa.Column("raw_id", sa.Uuid(), nullable=False),
        sa.Column("equipment_id", sa.Uuid(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("severity", sa.Text(), nullable=True),
        sa.Column("analysed_seconds", sa.Double(), nullable=False),
        *(
            sa.Column(name, kind, nullable=True)
            for quantity in QUANTITIES
            for name, kind in ((quantity, sa.Double()), (f"{quantity}_status", sa.Text()))
        ),
        sa.Column("findings", postgresql.JSONB(), nullable=False),
        sa.Column("motor", postgresql.JSONB(), nullable=False),
        sa.Column("diagnosis_version", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["equipment_id"], ["equipment.id"], name="fk_signal_diagnostics_equipment_id"),
        sa.ForeignKeyConstraint(
            ["raw_id"], ["raw_signals.id"], name="fk_signal_diagnostics_raw_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("raw_id", name="pk_signal_diagnostics"),
    )
    op.create_index("ix_signal_diagnostics_equipment_recorded", "signal_diagnostics", ["equipment_id", "recorded_at"])


def downgrade() -> None:
    op.drop_table("signal_diagnostics")
    op.drop_column("equipment", "reference_i2_i1_pct")
