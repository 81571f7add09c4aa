"""When an equipment last sent a signal: by two indexes that share the rows, so that a claim makes an entry less."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UNFINISHED = "processing_status IN ('pending', 'processing')"
FINISHED = "processing_status IN ('completed', 'failed')"


def upgrade() -> None:
    op.drop_index("ix_raw_signals_equipment_created", "raw_signals")
    op.drop_index("ix_raw_signals_unfinished", "raw_signals")
    create("ix_raw_signals_finished", "created_at", FINISHED)
    create("ix_raw_signals_unfinished", "created_at", UNFINISHED)


def downgrade() -> None:
    op.drop_index("ix_raw_signals_unfinished", "raw_signals")
    op.drop_index("ix_raw_signals_finished", "raw_signals")
    create("ix_raw_signals_unfinished", "recorded_at", UNFINISHED)
    op.create_index("ix_raw_signals_equipment_created", "raw_signals", ["equipment_id", "created_at"])


def create(name: str, time: str, which: str) -> None:
    op.create_index(name, "raw_signals", ["equipment_id", time], unique=False, postgresql_where=sa.text(which))
