"""The ids of what a new file brings, made of its time and its content (docs/decisions/0109).

In the order of time, so that rows which are worked on together lie together in every index on ids; and the same for the
same recording in every database. Not here: ids of rows that have none of a file, which the database makes.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

NAMESPACE: Final = UUID("354705ee-7421-5da9-8d4e-7b1dc14e97df")
"""Of all ids that are made of a file. Another one would give the same recording other ids in a new database."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def source_id(sha256: str, recorded_at: datetime) -> UUID:
    """The id of a new file with this content (SHA-256, hex), which begins at `recorded_at`."""
    return _ordered_by_time(recorded_at, sha256)


def signal_id(sha256: str, batch_index: int, recorded_at: datetime) -> UUID:
    """The id of one batch of such a file."""
    return _ordered_by_time(recorded_at, f"{sha256}:{batch_index}")


def _ordered_by_time(at: datetime, name: str) -> UUID:
    """A UUID of version 8 (RFC 9562): 48 bits of milliseconds since 1970, as version 7 has them, then 74 of a hash."""
    milliseconds = min(max((at - _EPOCH) // timedelta(milliseconds=1), 0), 2**48 - 1)
    digest = hashlib.sha256(NAMESPACE.bytes + name.encode()).digest()
    octets = bytearray(milliseconds.to_bytes(6) + digest[:10])
    octets[6] = 0x80 | octets[6] & 0x0F
    octets[8] = 0x80 | octets[8] & 0x3F
    return UUID(bytes=bytes(octets))
