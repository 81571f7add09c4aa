"""The float32 codec: what goes in comes out bit for bit, and nothing else passes for it."""

import gzip
import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from signal_pipeline.errors import CorruptBlob
from signal_pipeline.ingest.codec import checksum, decode, encode

float32_bits = arrays(np.uint32, st.integers(0, 300), elements=st.integers(0, 2**32 - 1))


def sine(n_samples: int = 5000) -> NDArray[np.float32]:
    return (5 * np.sin(np.arange(n_samples) / 20)).astype(np.float32)


@given(bits=float32_bits)
@settings(deadline=None)
def test_any_float32_comes_back_bit_for_bit(bits: NDArray[np.uint32]) -> None:
    samples = bits.view(np.float32)
    back = decode(encode(samples), samples_count=samples.size)
    assert back.dtype == np.float32
    assert back.flags.writeable
    assert back.tobytes() == samples.tobytes()


@pytest.mark.parametrize("value", [0.0, -0.0, 3.5, np.nan])
def test_a_constant_phase_comes_back_and_is_small(value: float) -> None:
    samples = np.full(100_000, value, np.float32)
    blob = encode(samples)
    assert len(blob) < 1000
    assert decode(blob, samples_count=samples.size).tobytes() == samples.tobytes()


def test_samples_that_do_not_lie_side_by_side_are_encoded_as_they_read() -> None:
    samples = sine()[::3]
    np.testing.assert_array_equal(decode(encode(samples), samples_count=samples.size), samples)


@pytest.mark.parametrize(
    "samples", [np.zeros(3), np.zeros((3, 2), np.float32), np.zeros(3, ">f4"), np.zeros(3, np.int32)]
)
def test_only_one_row_of_float32_is_encoded(samples: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="float32 of shape"):
        encode(samples)


def older_forms(samples: NDArray[np.float32]) -> dict[str, bytes]:
    raw = samples.tobytes()
    return {
        "raw": raw,
        "gzip": gzip.compress(raw),
        "zlib fast": zlib.compress(raw, 1),
        "zlib": zlib.compress(raw),
        "zlib best": zlib.compress(raw, 9),
        "zstd": pa.Codec("zstd").compress(raw, asbytes=True),
    }


@pytest.mark.parametrize("form", older_forms(sine(1)))
@pytest.mark.parametrize("n_samples", [1, 2, 5000])
def test_older_forms_are_still_read(form: str, n_samples: int) -> None:
    samples = sine(n_samples)
    back = decode(older_forms(samples)[form], samples_count=n_samples)
    np.testing.assert_array_equal(back, samples)
    assert back.flags.writeable


@pytest.mark.parametrize("mark", [b"\x1f\x8b\x08\x00", b"\x78\x9c\x00\x00", b"\x28\xb5\x2f\xfd"])
def test_raw_samples_that_begin_like_a_compressed_form_are_still_raw(mark: bytes) -> None:
    raw = mark + sine(10).tobytes()
    assert decode(raw, samples_count=11).tobytes() == raw


@pytest.mark.parametrize("form", ["blosc2", *(form for form in older_forms(sine(1)) if form != "raw")])
@pytest.mark.parametrize("cut", [1, 4, 20])
def test_a_truncated_blob_is_corrupt(form: str, cut: int) -> None:
    samples = sine()
    blob = {"blosc2": encode(samples), **older_forms(samples)}[form]
    with pytest.raises(CorruptBlob, match=r"bytes|truncated"):
        decode(blob[:-cut], samples_count=samples.size)


@pytest.mark.parametrize("form", ["blosc2", *older_forms(sine(1))])
@pytest.mark.parametrize("claimed", [4999, 5001, 0, 1])
def test_a_blob_of_another_length_names_both_lengths(form: str, claimed: int) -> None:
    samples = sine(5000)
    blob = {"blosc2": encode(samples), **older_forms(samples)}[form]
    with pytest.raises(CorruptBlob, match=f"{claimed} "):
        decode(blob, samples_count=claimed)


@pytest.mark.parametrize("form", ["gzip", "zlib", "zstd"])
def test_bytes_after_the_end_are_corrupt(form: str) -> None:
    samples = sine()
    with pytest.raises(CorruptBlob):
        decode(older_forms(samples)[form] + b"more", samples_count=samples.size)


@pytest.mark.parametrize(
    "compress",
    [partial(gzip.compress, compresslevel=1), partial(zlib.compress, level=1), pa.Codec("zstd").compress],
    ids=["gzip", "zlib", "zstd"],
)
def test_a_bomb_is_stopped_at_the_length_that_the_row_claims(compress: Callable[[bytes], bytes]) -> None:
    bomb = bytes(compress(bytes(40_000_000)))
    assert len(bomb) < 200_000
    with pytest.raises(CorruptBlob, match="at least 401 bytes"):
        decode(bomb, samples_count=100)


def test_a_blosc2_header_that_claims_two_gigabytes_is_not_believed() -> None:
    blob = bytearray(encode(np.zeros(1000, np.float32)))
    struct.pack_into("<i", blob, 4, 2**31 - 64)
    with pytest.raises(CorruptBlob, match="found 2147483584 bytes"):
        decode(bytes(blob), samples_count=1000)


def test_a_blosc2_chunk_of_memory_that_nobody_wrote_is_corrupt() -> None:
    blob = bytearray(encode(np.zeros(1000, np.float32)))
    assert len(blob) == 32
    blob[31] = 0x40
    with pytest.raises(CorruptBlob, match="damaged header"):
        decode(bytes(blob), samples_count=1000)


@pytest.mark.parametrize("count", [-1, 2**31])
def test_a_senseless_count_is_refused_before_anything_is_read(count: int) -> None:
    with pytest.raises(CorruptBlob, match=f"claims {count} samples"):
        decode(b"", samples_count=count)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(deadline=None)
def test_a_flipped_bit_never_passes_the_checksum(place: float, bit: int) -> None:
    blob = encode(sine())
    flipped = bytearray(blob)
    flipped[int(place * len(blob))] ^= 1 << bit
    with pytest.raises(CorruptBlob, match="expected CRC32"):
        decode(bytes(flipped), samples_count=5000, crc32=checksum(blob))


@given(
    start=st.sampled_from([encode(sine()), encode(np.zeros(5000, np.float32)), *older_forms(sine()).values()]),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.integers(0, 20_000),
)
@settings(deadline=None, max_examples=300)
def test_a_damaged_blob_is_corrupt_or_gives_the_claimed_samples_and_nothing_else(
    start: bytes, changes: list[tuple[int, int]], keep: int
) -> None:
    blob = bytearray(start[:keep])
    for place, value in changes:
        if place < len(blob):
            blob[place] = value
    found = outcome(bytes(blob), samples_count=5000)
    assert isinstance(found, CorruptBlob) or found.shape == (5000,)


def outcome(blob: bytes, *, samples_count: int) -> NDArray[np.float32] | CorruptBlob:
    try:
        return decode(blob, samples_count=samples_count)
    except CorruptBlob as error:
        return error


@given(blob=st.binary(max_size=200), samples_count=st.integers(0, 50))
@settings(deadline=None, max_examples=300)
def test_random_bytes_are_raw_samples_of_their_length_or_corrupt(blob: bytes, samples_count: int) -> None:
    if len(blob) == 4 * samples_count:
        assert decode(blob, samples_count=samples_count).tobytes() == blob
    else:
        with pytest.raises(CorruptBlob):
            decode(blob, samples_count=samples_count)
