"""A process that loads files: URL, rows a batch, and the paths are its arguments. Started by path, by the tests.

Prints one JSON object: the reports, and by how many MiB the process grew while it loaded.
"""

import json
import re
import sys
from pathlib import Path

import blosc2  # noqa: F401  imported before the base is measured
import psycopg  # noqa: F401
import pyarrow.csv  # noqa: F401

from signal_pipeline.db.engine import create_engine, ping
from signal_pipeline.ingest.loader import LoadOptions, load_files
from signal_pipeline.settings import DatabaseSettings, FeatureSettings, IngestSettings


def peak_mib() -> int:
    """Of this program alone: ru_maxrss begins with what the parent held before exec."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) // 1024 if found else 0


url, csv_batch_size, sample_rate_hz, *paths = sys.argv[1:]
engine = create_engine(url, DatabaseSettings())
ping(engine)
base = peak_mib()
reports = [
    report.as_dict()
    for report in load_files(
        engine,
        [Path(path) for path in paths],
        options=LoadOptions(sample_rate_hz=float(sample_rate_hz)),
        settings=IngestSettings(csv_batch_size=int(csv_batch_size)),
        features=FeatureSettings(),
    )
]
print(json.dumps({"reports": reports, "grown_mib": peak_mib() - base}))
