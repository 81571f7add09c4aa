"""Durations lie among the totals: a claim, and the end of a batch, write to one table of counts instead of two."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("counters", sa.Column("le", sa.Double(), server_default=sa.text("'Infinity'"), nullable=False))
    op.add_column("counters", sa.Column("microseconds", sa.BigInteger(), nullable=True))
    op.drop_constraint("pk_counters", "counters")
    op.create_primary_key("pk_counters", "counters", ["name", "le", "shard"])
    op.execute("""
        INSERT INTO counters (name, le, shard, value, microseconds)
        SELECT what, le, shard, observations, microseconds FROM durations
    """)
    op.drop_table("durations")


def downgrade() -> None:
    op.create_table(
        "durations",
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("le", sa.Double(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("observations", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("microseconds", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("what", "le", "shard", name=op.f("pk_durations")),
    )
    op.execute("""
        WITH moved AS (DELETE FROM counters WHERE microseconds IS NOT NULL RETURNING *)
        INSERT INTO durations (what, le, shard, observations, microseconds)
        SELECT name, le, shard, value, microseconds FROM moved
    """)
    op.drop_constraint("pk_counters", "counters")
    op.create_primary_key("pk_counters", "counters", ["name", "shard"])
    op.drop_column("counters", "microseconds")
    op.drop_column("counters", "le")
