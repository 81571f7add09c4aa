"""Which features a model looks at, unless somebody says otherwise.

Those that change with a motor's health and hold still with its running: shape, harmonics, asymmetry. Left out: angles
and frequencies of peaks (they jump), extremes (they are noise), the zero sequence (three wires carry none: what is
measured are the sensors), and most of what is a sum of the others. Those of the machine stand in front: a reference
of few recordings learns the first ones only (`fitting.fit`).
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

from signal_pipeline.catalogue import COLUMNS

PER_PHASE: Final = (
    "rms",
    "crest",
    "skew",
    "kurt",
    "form",
    "spectral_centroid_hz",
    "spectral_bandwidth_hz",
    "spectral_entropy",
    "spectral_flatness",
    "thd_pct",
    "harmonic_2_pct",
    "harmonic_3_pct",
    "harmonic_5_pct",
    "harmonic_7_pct",
    "harmonic_11_pct",
    "harmonic_13_pct",
)
ACROSS_PHASES: Final = (
    "i2_i1_pct",
    "unbalance_pct",
    "park_ripple_pct",
    "park_2f_pct",
    "seq_pos_amplitude",
    "seq_neg_amplitude",
)

DEFAULT_FEATURES: Final = ACROSS_PHASES + tuple(f"{name}_{phase}" for name in PER_PHASE for phase in "abc")


def unknown_features(features: Sequence[str]) -> tuple[str, ...]:
    """Those that the catalogue does not have."""
    return tuple(sorted(set(features) - set(COLUMNS)))


def features_hash(features: Sequence[str]) -> str:
    """SHA-256 of the names in their order: two models with the same hash look at the same columns."""
    return hashlib.sha256(json.dumps(list(features)).encode()).hexdigest()
