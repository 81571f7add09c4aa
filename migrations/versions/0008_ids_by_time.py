"""Rows of other programs get ids in the order of time, as rows of files have: random ones cost every claim cold pages."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Two bits turn the version of a random UUID, 4, into 7.
NEW_ID = """
CREATE FUNCTION signal_pipeline_new_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT CAST(encode(set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send(CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS bigint)) FROM 3)
                FROM 1 FOR 6),
        52, 1), 53, 1), 'hex') AS uuid)
$$
"""


def upgrade() -> None:
    op.execute(NEW_ID)
    op.alter_column("raw_signals", "id", server_default=sa.text("signal_pipeline_new_id()"))


def downgrade() -> None:
    op.alter_column("raw_signals", "id", server_default=sa.text("gen_random_uuid()"))
    op.execute("DROP FUNCTION signal_pipeline_new_id()")
