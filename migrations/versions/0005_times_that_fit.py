"""Times of a signal lie in the years 1 to 9999: one outside broke every fetch, for Python has no form for it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIMES = ("recorded_at", "created_at", "claimed_at", "lease_expires_at", "work_started_at", "finalized_at")
FIRST, LAST = "'0001-01-01 00:00:00+00'::timestamptz", "'9999-12-31 23:59:59.999999+00'::timestamptz"
FIT = " AND ".join(f"{name} BETWEEN {FIRST} AND {LAST}" for name in TIMES)


def upgrade() -> None:
    # What is there and does not fit goes to the nearest end, where it is as wrong as before: such a recording fails its
    # validation. Left as it is, its row could not be changed any more, so that no worker could ever claim it.
    op.execute("LOCK TABLE raw_signals IN SHARE ROW EXCLUSIVE MODE")
    # least() and greatest() pass over NULL, and would make a time of none.
    nearest = ", ".join(
        f"{name} = CASE WHEN {name} IS NOT NULL THEN least(greatest({name}, {FIRST}), {LAST}) END" for name in TIMES
    )
    op.execute(f"UPDATE raw_signals SET {nearest} WHERE NOT ({FIT})")  # noqa: S608  of constants
    op.create_check_constraint(op.f("ck_raw_signals_times"), "raw_signals", sa.text(FIT))


def downgrade() -> None:
    op.drop_constraint(op.f("ck_raw_signals_times"), "raw_signals", type_="check")
