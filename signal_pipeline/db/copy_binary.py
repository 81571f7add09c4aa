"""Rows of arrays as Postgres' binary COPY format, encoded by numpy for all rows at once.

Format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". Every field is a big-endian int32
length (-1 for NULL) and that many bytes. Not here: which table the bytes go to.
"""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
JSONB_VERSION = b"\x01"

Bytes = NDArray[np.uint8]


def encode_rows(prefix: Sequence[bytes], values: NDArray[np.float64], *, n_fields: int) -> bytes:
    """The body of a binary COPY: for each row its encoded `prefix` fields, then `values` as float8.

    Parameters: `prefix`, one bytes object a row, from `field`; `values` (rows, columns) float64, NaN is NULL;
    `n_fields`, the number of fields of a row, prefix included.
    """
    doubles = _encode_doubles(values)
    count = struct.pack("!h", n_fields)
    body = b"".join(part for head, row in zip(prefix, doubles, strict=True) for part in (count, head, row))
    return SIGNATURE + body + TRAILER


def _encode_doubles(values: NDArray[np.float64]) -> list[bytes]:
    """Each row's float8 fields; a NULL keeps its length word and loses its eight bytes."""
    n_rows, n_columns = values.shape
    cells = np.zeros((n_rows, n_columns), dtype=np.dtype([("length", ">i4"), ("value", ">f8")]))
    null = np.isnan(values)
    cells["length"] = np.where(null, -1, 8)
    cells["value"] = values
    raw = cells.view(np.uint8).reshape(n_rows, n_columns, 12)
    keep = np.ones(raw.shape, dtype=bool)
    keep[null, 4:] = False
    return [row[mask].tobytes() for row, mask in zip(raw, keep, strict=True)]


def field(value: bytes | None) -> bytes:
    """One field: length and bytes, or NULL."""
    return struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value


def timestamp(value: datetime) -> bytes:
    """A timestamptz: microseconds since 2000-01-01 UTC."""
    delta = value - POSTGRES_EPOCH
    return struct.pack("!q", (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds)


def real_array(values: NDArray[np.float32]) -> bytes:
    """A one-dimensional real[]: dimensions, no NULLs, element type 700 (float4), then the elements."""
    cells = np.empty(values.size, dtype=np.dtype([("length", ">i4"), ("value", ">f4")]))
    cells["length"] = 4
    cells["value"] = values
    return struct.pack("!iiiii", 1, 0, 700, values.size, 1) + cells.tobytes()
