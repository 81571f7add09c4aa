"""The version of a feature row: equal exactly when the same samples would give the same numbers. Not here: features."""

import hashlib
import json

from signal_pipeline.catalogue import FEATURE_CODE_VERSION


def feature_version(
    *, window_ms: float, overlap: float, max_gap_ms: float, bands_hz: tuple[tuple[float, float], ...]
) -> str:
    """16 hex digits over the code's version and every setting that changes a number."""
    parts = {
        "code": FEATURE_CODE_VERSION,
        "window_ms": float(window_ms),
        "overlap": float(overlap),
        "max_gap_ms": float(max_gap_ms),
        "bands_hz": [[float(low), float(high)] for low, high in bands_hz],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
