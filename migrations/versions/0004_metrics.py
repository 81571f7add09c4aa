"""What the metrics are read from: durations as histograms, and indexes for what a scrape and `status` ask."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "durations",
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("le", sa.Double(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("observations", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("microseconds", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("what", "le", "shard", name=op.f("pk_durations")),
    )
    # The last success, and what was finished within the last hour, without reading what was finished before.
    op.create_index(
        "ix_raw_signals_finalized",
        "raw_signals",
        ["processing_status", "finalized_at"],
        postgresql_where=sa.text("finalized_at IS NOT NULL"),
    )
    op.create_index("ix_anomaly_events_open", "anomaly_events", ["equipment_id"], postgresql_where=sa.text("is_open"))


def downgrade() -> None:
    op.drop_index("ix_anomaly_events_open", table_name="anomaly_events")
    op.drop_index("ix_raw_signals_finalized", table_name="raw_signals")
    op.drop_table("durations")
