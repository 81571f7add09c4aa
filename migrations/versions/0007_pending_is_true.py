"""The index of what waits says IS TRUE, as the fetch does: no other index can serve the fetch then."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    replace("(processing_status = 'pending') IS TRUE")


def downgrade() -> None:
    replace("processing_status = 'pending'")


def replace(what: str) -> None:
    op.drop_index("ix_raw_signals_pending", "raw_signals")
    op.create_index(
        "ix_raw_signals_pending", "raw_signals", ["created_at", "id"], unique=False, postgresql_where=sa.text(what)
    )
