"""How the samples of one phase become bytes in the database, and back.

Here: float32 samples to a self-describing blosc2 blob, the older forms that are still read, and a checksum. Not here:
tables, files, or what the samples mean. A blob is hostile until shown otherwise: what its header claims is compared
with the row's `samples_count` before a byte is decompressed, so a bomb costs no more than an honest blob.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from signal_pipeline.errors import CorruptBlob

MAX_SAMPLES: Final = (2**31 - 1 - 32) // 4
"""blosc2 counts bytes in a signed 32-bit integer, and its header takes 32 of them."""

_FLOAT32: Final = np.dtype("<f4")
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_GZIP_WINDOW_BITS: Final = 16 + zlib.MAX_WBITS
# version, codec version, flags, typesize; bytes decompressed, of a block, compressed;
# 6 filters, codec, its meta; 6 filters' meta; more flags
_BLOSC2_HEADER: Final = struct.Struct("<BBBBiii6sBB6sBB")
_EXTENDED_HEADER: Final = 0b101
_ONLY_SHUFFLE: Final = bytes((1, 0, 0, 0, 0, 0))
_ZSTD_CODEC: Final = 5
_PLAIN_OR_ALL_ZERO: Final = (0x00, 0x10)


def encode(samples: NDArray[np.float32]) -> bytes:
    """One phase as bytes: blosc2, typesize 4, byte shuffle, zstd level 1; bit for bit, NaN payloads included.

    `samples` is float32 of shape (n_samples,); no samples give no bytes. Raises `ValueError` for any other array.
    """
    import blosc2

    if samples.dtype != np.float32 or samples.ndim != 1:
        raise ValueError(
            f"samples are {samples.dtype} of shape {samples.shape}; float32 of shape (n_samples,) is needed"
        )
    if samples.size > MAX_SAMPLES:
        raise ValueError(f"{samples.size} samples in one blob; at most {MAX_SAMPLES} fit: use a smaller CSV_BATCH_SIZE")
    if not samples.size:
        return b""
    plain = np.ascontiguousarray(samples, dtype=_FLOAT32)
    blob: bytes = blosc2.compress2(
        plain,
        typesize=4,
        clevel=1,
        codec=blosc2.Codec.ZSTD,
        filters=[blosc2.Filter.SHUFFLE],
        nthreads=1,  # extraction forks its workers, and a thread pool does not survive a fork
    )
    return blob


def decode(blob: bytes, *, samples_count: int, crc32: int | None = None) -> NDArray[np.float32]:
    """The samples that `encode` was given; also reads old gzip, zlib, zstd and raw little-endian float32 blobs.

    Returns a new, writable float32 array of shape (samples_count,). Never allocates for more samples than that.
    Raises `CorruptBlob`, naming what was expected and found, for a blob that is truncated, mislabelled, of another
    length or, where `crc32` is given, changed in any bit.
    """
    if not 0 <= samples_count <= MAX_SAMPLES:
        raise CorruptBlob(f"the row claims {samples_count} samples; a blob holds 0 to {MAX_SAMPLES}")
    if crc32 is not None and (found := checksum(blob)) != crc32:
        raise CorruptBlob(f"blob of {len(blob)} bytes: expected CRC32 {crc32:#010x}, found {found:#010x}")
    header = _Blosc2Header.of(blob)
    if header is not None:
        return _from_blosc2(blob, header, samples_count)
    if len(blob) != 4 * samples_count:
        return _from_older_form(blob, samples_count)
    try:
        # a compressed blob may have just the length that raw samples would have
        return _from_older_form(blob, samples_count)
    except CorruptBlob:
        return np.frombuffer(blob, _FLOAT32).astype(np.float32)


def checksum(blob: bytes) -> int:
    """CRC32 of the stored bytes, 0 to 2**32 - 1."""
    return zlib.crc32(blob)


def _from_older_form(blob: bytes, samples_count: int) -> NDArray[np.float32]:
    """The samples of a gzip, zstd or zlib blob, told apart by how they begin."""
    if blob.startswith(_GZIP_MAGIC):
        return _from_deflate(blob, samples_count, form="gzip", window_bits=_GZIP_WINDOW_BITS)
    if blob.startswith(_ZSTD_MAGIC):
        return _from_zstd(blob, samples_count)
    # a zlib stream: deflate with a window of at most 32 kB, and two bytes that divide by 31
    if len(blob) > 2 and blob[0] & 0x8F == 0x08 and int.from_bytes(blob[:2]) % 31 == 0:
        return _from_deflate(blob, samples_count, form="zlib", window_bits=zlib.MAX_WBITS)
    raise CorruptBlob(
        f"blob of {len(blob)} bytes, beginning {blob[:4].hex(' ') or 'with nothing'}: neither blosc2, gzip, zlib nor "
        f"zstd, and {samples_count} raw float32 samples would be {4 * samples_count} bytes"
    )


@dataclass(frozen=True, slots=True)
class _Blosc2Header:
    """What a blosc2 chunk says about itself."""

    n_bytes: int
    block_size: int
    compressed_bytes: int
    special: int

    @classmethod
    def of(cls, blob: bytes) -> "_Blosc2Header | None":
        """The header, if the blob is a chunk as `encode` writes it: only its filter, its codec, nothing loadable."""
        if len(blob) < _BLOSC2_HEADER.size:
            return None
        fields = _BLOSC2_HEADER.unpack_from(blob)
        _version, _codec_version, flags, typesize, n_bytes, block_size, compressed_bytes, *rest = fields
        filters, codec, codec_meta, filter_metas, _reserved, special = rest
        ours = (
            flags & _EXTENDED_HEADER == _EXTENDED_HEADER
            and typesize == 4
            and filters == _ONLY_SHUFFLE
            and (codec, codec_meta) == (_ZSTD_CODEC, 0)
            and not any(filter_metas)
        )
        return cls(n_bytes, block_size, compressed_bytes, special) if ours else None


def _from_blosc2(blob: bytes, header: _Blosc2Header, samples_count: int) -> NDArray[np.float32]:
    import blosc2

    if header.compressed_bytes != len(blob):
        raise CorruptBlob(f"blosc2 blob: expected {header.compressed_bytes} bytes, found {len(blob)}")
    if header.n_bytes != 4 * samples_count:
        raise _other_length("blosc2", samples_count, header.n_bytes)
    # any other special value would be memory that nobody wrote
    if header.special not in _PLAIN_OR_ALL_ZERO or not 0 < header.block_size <= header.n_bytes:
        raise CorruptBlob(f"blosc2 blob: damaged header (flags {header.special:#04x}, block {header.block_size} bytes)")
    samples = np.empty(samples_count, np.float32)
    try:
        blosc2.decompress2(blob, dst=samples, nthreads=1)
    except (RuntimeError, ValueError) as error:
        raise CorruptBlob(f"blosc2 blob of {len(blob)} bytes does not decompress: {error}") from error
    return samples


def _from_deflate(blob: bytes, samples_count: int, *, form: str, window_bits: int) -> NDArray[np.float32]:
    stream = zlib.decompressobj(window_bits)
    try:
        # one byte more than expected, so that a longer content shows itself and goes no further
        plain = stream.decompress(blob, 4 * samples_count + 1)
    except zlib.error as error:
        raise CorruptBlob(f"{form} blob of {len(blob)} bytes does not decompress: {error}") from error
    if len(plain) > 4 * samples_count:
        raise _other_length(form, samples_count, len(plain), at_least=True)
    if not stream.eof:
        raise CorruptBlob(f"{form} blob is truncated after {len(blob)} bytes; {samples_count} samples were expected")
    if stream.unused_data:
        raise CorruptBlob(f"{form} blob: {len(stream.unused_data)} bytes follow its end")
    return _samples_of(plain, form, samples_count)


def _from_zstd(blob: bytes, samples_count: int) -> NDArray[np.float32]:
    import pyarrow as pa

    try:
        with pa.input_stream(pa.py_buffer(blob), compression="zstd") as stream:
            plain = _read_at_most(stream, 4 * samples_count + 1)
    except OSError as error:
        raise CorruptBlob(f"zstd blob of {len(blob)} bytes does not decompress: {error}") from error
    if len(plain) > 4 * samples_count:
        raise _other_length("zstd", samples_count, len(plain), at_least=True)
    return _samples_of(plain, "zstd", samples_count)


def _read_at_most(stream: Any, n_bytes: int) -> bytes:
    parts: list[bytes] = []
    while n_bytes > 0 and (part := stream.read(n_bytes)):
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


def _samples_of(plain: bytes, form: str, samples_count: int) -> NDArray[np.float32]:
    if len(plain) != 4 * samples_count:
        raise _other_length(form, samples_count, len(plain))
    return np.frombuffer(plain, _FLOAT32).astype(np.float32)


def _other_length(form: str, samples_count: int, n_bytes: int, *, at_least: bool = False) -> CorruptBlob:
    found = f"{'at least ' if at_least else ''}{n_bytes}"
    return CorruptBlob(
        f"{form} blob: expected {samples_count} samples ({4 * samples_count} bytes), found {found} bytes decompressed"
    )
