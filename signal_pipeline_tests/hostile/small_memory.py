"""A process with little memory, and what it is given to eat. Started by path, by the tests.

Its arguments: what to do (`load` with URL and paths, or `decode`). Once everything is imported, its memory may grow by
HEADROOM_MIB and no more: whatever takes more than that is a MemoryError, and none of our errors is. Threads are as many
on every machine, because each brings its stack. Prints one JSON object: what came of each.
"""

import json
import re
import resource
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import blosc2
import numpy as np
import psycopg  # noqa: F401  imported before the base is measured
import pyarrow as pa
import pyarrow.csv

from signal_pipeline.db.engine import create_engine, ping
from signal_pipeline.errors import CorruptBlob
from signal_pipeline.ingest import side_by_side
from signal_pipeline.ingest.codec import decode, encode
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.loader import LoadOptions, load_files
from signal_pipeline.settings import DatabaseSettings, FeatureSettings, IngestSettings

HEADROOM_MIB = 256
THREADS = 4
BOMB_BYTES = 2**30
PIECE = bytes(2**20)


def in_mib(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) // 1024 if found else 0


def deflated(window_bits: int) -> bytes:
    packer = zlib.compressobj(1, wbits=window_bits)
    return b"".join([packer.compress(PIECE) for _ in range(BOMB_BYTES // len(PIECE))]) + packer.flush()


def zstd() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        for _ in range(BOMB_BYTES // len(PIECE)):
            stream.write(PIECE)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def blosc2_zeros() -> bytes:
    """32 bytes that honestly stand for a gigabyte of zeros; the row claims less."""
    blob = bytearray(encode(np.zeros(1000, np.float32)))
    blob[4:8] = BOMB_BYTES.to_bytes(4, "little")
    return bytes(blob)


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: deflated(16 + zlib.MAX_WBITS),
    "zlib": lambda: deflated(zlib.MAX_WBITS),
    "zstd": zstd,
    "blosc2": blosc2_zeros,
}


def limited() -> int:
    """From now on memory is short; returns what is in use, in MiB.

    What can be written to counts (RLIMIT_DATA); not addresses, of which allocators reserve as many as they like.
    """
    size = (in_mib("VmData") + HEADROOM_MIB) * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    return in_mib("VmRSS")


def decoded(bombs: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    found = {}
    for name, bomb in bombs:
        try:
            decode(bomb, samples_count=1000)
            found[name] = "decoded"
        except CorruptBlob as error:
            found[name] = str(error)
    return found


def main() -> None:
    work, *arguments = sys.argv[1:]
    blosc2.set_nthreads(1)
    pa.set_cpu_count(THREADS)
    pa.set_io_thread_count(THREADS)
    setattr(side_by_side, "THREADS", THREADS)  # noqa: B010  the most there are, on a machine with cores enough
    pyarrow.csv.read_csv(pa.BufferReader(b"1\n2\n"))
    if work == "decode":
        bombs = [(name, make()) for name, make in BOMBS.items()]
        base = limited()
        print(json.dumps({"outcomes": decoded(bombs), "sizes": {n: len(b) for n, b in bombs}, "base": base}))
        return
    url, *paths = arguments
    engine = create_engine(url, DatabaseSettings())
    ping(engine)
    limited()
    reports = load_files(
        engine,
        [Path(path) for path in paths],
        options=LoadOptions(sample_rate_hz=1000, dialect=CsvDialect()),
        settings=IngestSettings(csv_batch_size=10_000),
        features=FeatureSettings(),
    )
    print(json.dumps({"outcomes": {report.name: report.as_dict() for report in reports}}))


main()
