"""When the last recording of an equipment came, by an index: by `recorded_at` a time in the future hid all that came."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_raw_signals_equipment_created", "raw_signals", ["equipment_id", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_raw_signals_equipment_created", table_name="raw_signals")
