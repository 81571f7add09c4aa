"""False events that happen against those asked for: `python benchmarks/false_alarms.py [--motors 12]`, JSON last.

Simulated healthy motors, each with its own plate, unbalance and harmonics, whose load, supply frequency and
distortion differ from recording to recording. Every motor's reference is fitted on some recordings with the shipped
settings and features, and scores others, which took no part in fit or calibration, as one stream. Windows and hop
are the pipeline's. Not here: any fault.
"""

import argparse
import json
from typing import Any

import numpy as np

from benchmarks.detectors import DETECTORS, count_events, per_1000
from signal_pipeline.anomaly.arrays import F8
from signal_pipeline.anomaly.feature_set import DEFAULT_FEATURES
from signal_pipeline.anomaly.tuning import FALSE_EVENTS_PER_1000
from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.dsp.extract import extract_features
from signal_pipeline.dsp.windows import WindowGrid
from signal_pipeline.settings import FeatureSettings
from signal_pipeline.synthetic import Condition, Motor, simulate

FS = 2560.0
SECONDS = 10.0
SETTINGS = {name: field.default for name, field in FeatureSettings.model_fields.items()}
GRID = WindowGrid.for_rate(FS, window_ms=SETTINGS["window_ms"], overlap=SETTINGS["window_overlap"])
PLACES = [COLUMNS.index(name) for name in DEFAULT_FEATURES]


def recordings(rng: np.random.Generator, count: int) -> list[F8]:
    """Features (n, d) of `count` healthy recordings of one motor."""
    motor = Motor(rated_speed_rpm=float(rng.uniform(1440, 1480)), rated_current_a=float(rng.uniform(5, 30)))
    unbalance, usual_load = float(rng.uniform(0.005, 0.02)), float(rng.uniform(0.5, 0.8))
    shares = {order: float(rng.uniform(0.5, 1.5)) * share for order, share in Condition().harmonics}
    out = []
    for _ in range(count):
        condition = Condition(
            load=usual_load + float(rng.normal(0, 0.08)),
            line_freq_hz=50 + float(rng.normal(0, 0.02)),
            unbalance=unbalance * float(rng.uniform(0.8, 1.2)),
            harmonics=tuple((order, share * float(rng.uniform(0.9, 1.1))) for order, share in shares.items()),
            noise=0.002,
        )
        phases = simulate(motor, condition, fs=FS, seconds=SECONDS, seed=int(rng.integers(2**31)))
        windows = range(GRID.n_windows(phases.shape[1]))
        bands = SETTINGS["feature_bands_hz"]
        block = extract_features(phases, grid=GRID, start_row=0, windows=windows, max_gap_samples=2, bands_hz=bands)
        out.append(block.values[:, PLACES])
    return out


def main(motors: int, unseen: int) -> None:
    fleet = [recordings(np.random.default_rng(seed), 24 + unseen) for seed in range(motors)]
    result: dict[str, Any] = {
        "benchmark": "false_alarms",
        "asked_per_1000": FALSE_EVENTS_PER_1000,
        "motors": motors,
        "features": len(DEFAULT_FEATURES),
    }
    for fitted in (4, 12, 24):
        for kind in ("stream", "stats"):
            events, windows = 0, 0
            for parts in fleet:
                names = [f"recording_{i}" for i, part in enumerate(parts[:fitted]) for _ in part]
                judge = DETECTORS[kind](DEFAULT_FEATURES, np.concatenate(parts[:fitted]), names)
                on = judge(np.concatenate(parts[24:]))[2]
                events, windows = events + count_events(on), windows + len(on)
            result[f"{kind}_of_{fitted}_recordings"] = per_1000(events, windows)
            print(f"{kind:7s} of {fitted:2d} recordings {result[f'{kind}_of_{fitted}_recordings']}", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motors", type=int, default=12)
    parser.add_argument("--unseen", type=int, default=40, help="recordings of each motor that are only scored")
    arguments = parser.parse_args()
    main(arguments.motors, arguments.unseen)
