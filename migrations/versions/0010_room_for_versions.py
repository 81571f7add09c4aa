"""What a claim costs: room in its indexes, dead entries that go in time, and no function of the guard on its way."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

CLAIMED = (
    "pk_raw_signals",
    "ix_raw_signals_status_created",
    "ix_raw_signals_lease",
    "ix_raw_signals_claim_token",
    "ix_raw_signals_source",
    "ix_raw_signals_equipment_recorded",
    "ix_raw_signals_unfinished",
)
"""Indexes that get an entry at a claim; not that of the hashes, whose order is random and which fillfactor only packs."""

# A signal leaves a dead version behind at its claim, its start, each heartbeat and its end. By default the table is
# cleaned when every fifth row is dead, and then its indexes only if that many pages are concerned.
CLEANED = {"autovacuum_vacuum_threshold": 1000, "autovacuum_vacuum_scale_factor": 0.02, "vacuum_index_cleanup": "on"}

GUARD = """
CREATE TRIGGER guard_status BEFORE UPDATE OF processing_status ON raw_signals
    FOR EACH ROW WHEN (OLD.processing_status IS DISTINCT FROM NEW.processing_status{but})
    EXECUTE FUNCTION signal_pipeline_guard_status()
"""

# The function allows these three as well, as it always did: it says what holds, and this only when to ask it.
BUT_THE_WORK = """
        AND NOT (OLD.processing_status = 'pending' AND NEW.processing_status = 'processing')
        AND NOT (OLD.processing_status = 'processing' AND NEW.processing_status IN ('completed', 'failed'))"""


def upgrade() -> None:
    # for pages that are written from now on: nothing is built again
    for index in CLAIMED:
        op.execute(f"ALTER INDEX {index} SET (fillfactor = 50)")
    op.execute(f"ALTER TABLE raw_signals SET ({', '.join(f'{name} = {value}' for name, value in CLEANED.items())})")
    guard(but=BUT_THE_WORK)


def downgrade() -> None:
    guard(but="")
    op.execute(f"ALTER TABLE raw_signals RESET ({', '.join(CLEANED)})")
    for index in CLAIMED:
        op.execute(f"ALTER INDEX {index} RESET (fillfactor)")


def guard(*, but: str) -> None:
    op.execute("DROP TRIGGER guard_status ON raw_signals")
    op.execute(GUARD.format(but=but))
