"""Hostile blobs, generated: samples in every form that is read, truncated, flipped, mislabelled, inflated.

Not here: decoding them.
"""

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from signal_pipeline.ingest.codec import checksum, encode

FORMS: dict[str, Callable[[NDArray[np.float32]], bytes]] = {
    "blosc2": encode,
    "raw": lambda samples: samples.tobytes(),
    "gzip": lambda samples: gzip.compress(samples.tobytes(), 1),
    "zlib": lambda samples: zlib.compress(samples.tobytes()),
    "zstd": lambda samples: pa.Codec("zstd").compress(samples.tobytes(), asbytes=True),
    "lz4": lambda samples: pa.Codec("lz4").compress(samples.tobytes(), asbytes=True),  # never was a form of ours
    "npy": lambda samples: b"\x93NUMPY\x01\x00" + samples.tobytes(),
    "pickle": lambda samples: b"\x80\x04\x95" + samples.tobytes(),
    "big-endian": lambda samples: samples.astype(">f4").tobytes(),
    "bomb": lambda samples: gzip.compress(bytes(2_000_000 + samples.nbytes), 1),
    "zlib bomb": lambda samples: zlib.compress(bytes(2_000_000 + samples.nbytes), 1),
    "zstd bomb": lambda samples: pa.Codec("zstd").compress(bytes(2_000_000 + samples.nbytes), asbytes=True),
}
READ = ("blosc2", "raw", "gzip", "zlib", "zstd")
HEADER_VALUES = (0, 1, -1, 4, 2**31 - 1, -(2**31), 2**30)


@dataclass(frozen=True)
class BlobCase:
    """A blob, and what its row says of it."""

    blob: bytes
    samples_count: int
    crc32: int | None
    original: NDArray[np.float32] | None
    """The samples, if the blob is as it was written and the row tells the truth."""
    damaged_since_checksum: bool
    kind: str


@st.composite
def blob_cases(draw: st.DrawFn) -> BlobCase:
    form = draw(st.sampled_from(tuple(FORMS)))
    bits = draw(arrays(np.uint32, st.integers(0, 200), elements=st.integers(0, 2**32 - 1), fill=st.just(0)))
    samples = bits.view(np.float32)
    written = FORMS[form](samples)
    damage = draw(st.sampled_from(("none", "bits", "cut", "more", "header", "swap")))
    blob = _damaged(draw, written, damage)
    count = draw(st.just(samples.size) | st.sampled_from((0, 1, -1, samples.size + 1, 2**29 - 1, 2**31, 10**12)))
    with_checksum = draw(st.booleans())
    true = form in READ and blob == written and count == samples.size
    return BlobCase(
        blob,
        count,
        checksum(written) if with_checksum else None,
        samples if true else None,
        with_checksum and blob != written,
        f"{form}, {'whole' if blob == written else damage}",
    )


def _damaged(draw: st.DrawFn, blob: bytes, damage: str) -> bytes:
    changed = bytearray(blob)
    match damage:
        case "bits" if changed:
            for place in draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=8)):
                changed[place] ^= 1 << draw(st.integers(0, 7))
        case "cut":
            del changed[draw(st.integers(0, len(changed))) :]
        case "more":
            changed += draw(st.binary(min_size=1, max_size=40) | st.just(blob))
        case "header" if len(changed) >= 32:
            place = draw(st.sampled_from((0, 1, 2, 3, 4, 8, 12, 16, 22, 31)))
            size = min(4, len(changed) - place)
            changed[place : place + size] = struct.pack("<i", draw(st.sampled_from(HEADER_VALUES)))[:size]
        case "swap":
            changed = (
                bytearray(draw(st.sampled_from((b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x78\x9c")))) + changed[4:]
            )
        case _:
            pass
    return bytes(changed)
