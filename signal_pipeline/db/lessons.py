"""Windows to learn from: whole recordings spread evenly over the range, never more than fit into memory.

Not here: what is learnt (`anomaly`), and windows in stream order (`history`, `streams`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from signal_pipeline.db.history import Range
from signal_pipeline.domain import MAX_AHEAD

MIN_RECORDINGS = 12
"""So many recordings are kept at least, where there are; long ones give their first windows then."""
WINDOWS_A_READ = 5000

_CHOSEN = """
    FROM features AS f JOIN raw_signals AS r ON r.id = f.raw_id AND r.equipment_id = f.equipment_id
    WHERE f.equipment_id = :equipment_id AND f.feature_version = :feature_version
      AND r.processing_status = 'completed' AND f.window_start <= now() + :ahead
      AND (CAST(:start AS timestamptz) IS NULL OR f.window_start >= :start)
      AND (CAST(:end AS timestamptz) IS NULL OR f.window_start < :end)
"""
RECORDINGS = text(f"""
    SELECT f.raw_id, count(*) AS windows {_CHOSEN} GROUP BY f.raw_id ORDER BY min(f.window_start), f.raw_id
""")

# The windows of each recording together: recordings may overlap, as files copied at once do, whose time is the copy's.
WINDOWS = f"""
    SELECT w.raw_id, {{columns}}
    FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS chosen (id, place)
    CROSS JOIN LATERAL (
        SELECT f.* {_CHOSEN} AND f.raw_id = chosen.id ORDER BY f.window_start LIMIT :each) AS w
    ORDER BY chosen.place, w.window_start
"""  # noqa: S608  of constants


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """Windows of an equipment: `values` float64 (n, d), NaN for NULL, and the recording of each, those of a recording
    together, in the order in which the recordings begin. `left_out` is how many windows of the range are not here."""

    values: NDArray[np.float64]
    recordings: tuple[str, ...]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.recordings)

    def thinned(self, limit: int) -> "Lesson":
        """At most `limit` windows of it, by the same rule; itself if it has no more."""
        if len(self) <= limit:
            return self
        names, sizes = np.unique(np.array(self.recordings), return_counts=True)
        counts = dict(zip(names.tolist(), sizes.tolist(), strict=True))
        order = list(dict.fromkeys(self.recordings))
        begins = np.concatenate([[0], np.cumsum([counts[name] for name in order])])
        places, each = spread([counts[name] for name in order], limit)
        rows = np.concatenate([np.arange(begins[i], min(begins[i] + each, begins[i + 1])) for i in places])
        kept = tuple(self.recordings[row] for row in rows)
        return Lesson(self.values[rows], kept, self.left_out + len(self) - len(rows))


def spread(sizes: Sequence[int], limit: int) -> tuple[list[int], int]:
    """Which of recordings of these sizes are taken, the first and the newest among them, and how many windows of each
    at most, so that no more than `limit` windows come together. All of all, where they fit."""
    total = sum(sizes)
    if total <= limit:
        return list(range(len(sizes))), max(sizes, default=0)
    count = min(len(sizes), max(MIN_RECORDINGS, limit * len(sizes) // total))
    places = sorted(set(np.linspace(0, len(sizes) - 1, count).round().astype(int).tolist()))
    return places, max(1, limit // len(places))


def read_lesson(conn: Connection, equipment_id: UUID, wanted: Range, *, limit: int) -> Lesson:
    """At most `limit` stored windows of completed signals in the range."""
    where: dict[str, Any] = {
        "equipment_id": equipment_id,
        "feature_version": wanted.feature_version,
        "start": wanted.start,
        "end": wanted.end,
        "ahead": MAX_AHEAD,
    }
    found = conn.execute(RECORDINGS, where).all()
    places, each = spread([row.windows for row in found], limit)
    statement = text(WINDOWS.format(columns=", ".join(f"w.{name}" for name in wanted.columns)))
    parts, recordings = [np.empty((0, len(wanted.columns)))], []
    for ids in _groups([(found[i].raw_id, min(found[i].windows, each)) for i in places]):
        rows = conn.execute(statement, where | {"ids": ids, "each": each}).all()
        parts.append(np.array([row[1:] for row in rows], dtype=np.float64).reshape(len(rows), len(wanted.columns)))
        recordings += [str(row[0]) for row in rows]
    left_out = sum(row.windows for row in found) - len(recordings)
    return Lesson(np.concatenate(parts), tuple(recordings), left_out)


def _groups(recordings: Sequence[tuple[UUID, int]]) -> Iterator[list[UUID]]:
    """Ids of neighbouring recordings that together have about as many windows as are read at once."""
    group: list[UUID] = []
    windows = 0
    for raw_id, size in recordings:
        if group and windows + size > WINDOWS_A_READ:
            yield group
            group, windows = [], 0
        group.append(raw_id)
        windows += size
    if group:
        yield group
