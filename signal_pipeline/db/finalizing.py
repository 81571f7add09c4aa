"""Whether an earlier try of a transaction that makes signals final has landed after all.

A commit whose answer is lost may have landed; the next try then finds signals that carry no claim any more. They are
not lost if they became final in one of the tries. Not here: making them final (`claims`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

# By the time alone, a transaction's own: a signal that a person has asked for since is not final any more, and yet
# what was to be written with it is.
LANDED = text("SELECT id FROM raw_signals WHERE id = ANY(:ids) AND finalized_at = ANY(:tried_at)")


@dataclass(slots=True)
class Finalizing:
    """One such transaction over its tries; `tried_at`: what each wrote into `finalized_at`."""

    tried_at: set[datetime] = field(default_factory=set)

    def has_landed(self, conn: Connection, signal_ids: Sequence[UUID]) -> bool:
        """Whether an earlier try has made all of them final."""
        if not self.tried_at:
            return False
        parameters = {"ids": list(signal_ids), "tried_at": list(self.tried_at)}
        return set(conn.execute(LANDED, parameters).scalars()) == set(signal_ids)
