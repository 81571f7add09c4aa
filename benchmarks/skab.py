"""Our shipped anomaly models on SKAB: `python benchmarks/skab.py FOLDER`. Prints one JSON object as its last line.

Each file: fit on rows 0-399, score the rest, pool all files. One code, one set of defaults, no label read before the
count. `f1`, `far` and `mar` are of rows, a row being an alarm while an event is on (k of n, hysteresis);
`by_row_alone` says the same without events. Peers in the same run, with the same k of n: scikit-learn's
IsolationForest and a frozen Hotelling T². `scoring_us` is what scoring costs a window at 60 features. Not here: any
knob.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from benchmarks.detectors import DETECTORS, Detector, Judged, always, count_events, per_1000, rates
from signal_pipeline.anomaly.arrays import F8, Bools
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.stream import score, start
from signal_pipeline.anomaly.tuning import FALSE_EVENTS_PER_1000

FIT_ROWS = 400


@dataclass(frozen=True)
class File:
    """One recording: `values` (n, d), `label` (n,) True where it is anomalous."""

    name: str
    features: tuple[str, ...]
    values: F8
    label: Bools


def read(path: Path) -> File:
    table = pd.read_csv(path, sep=";", index_col="datetime")
    label = table.pop("anomaly").to_numpy() == 1
    table = table.drop(columns="changepoint")
    return File(f"{path.parent.name}/{path.name}", tuple(table.columns), table.to_numpy(np.float64), label)


def run(detector: Detector, file: File) -> Judged:
    judge = detector(file.features, file.values[:FIT_ROWS], [file.name] * FIT_ROWS)
    return judge(file.values[FIT_ROWS:])


def auc(scores: F8, label: Bools) -> float:
    ranks, high = rankdata(scores), int(label.sum())
    return float((ranks[label].sum() - high * (high + 1) / 2) / (high * (len(label) - high)))


def compare(files: list[File], detector: Detector) -> dict[str, Any]:
    """Pooled rates, and the events before the first fault of each file."""
    judged = [run(detector, file) for file in files]
    truth = [file.label[FIT_ROWS:] for file in files]
    label = np.concatenate(truth)
    before = [on[: int(np.argmax(y))] for (_, _, on), y in zip(judged, truth, strict=True)]
    return {
        **rates(np.concatenate([on for _, _, on in judged]), label),
        "mean_auc": round(float(np.mean([auc(s, y) for (s, _, _), y in zip(judged, truth, strict=True)])), 4),
        "by_row_alone": rates(np.concatenate([high for _, high, _ in judged]), label),
        "before_onset": per_1000(sum(map(count_events, before)), sum(map(len, before))),
    }


def scoring_us(d: int = 60, n: int = 2000, rounds: int = 9) -> dict[str, float]:
    """Microseconds of this thread's own work for a window of `d` features: in a batch, and one call a window."""
    rng = np.random.default_rng(0)
    names = [f"feature_{i}" for i in range(d)]
    values = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    reference = fit(names, values, [f"recording_{i * 20 // n}" for i in range(n)])
    batch, single = [], []
    for number in range(rounds + 1):  # the first one compiles, and counts for nothing
        began = time.thread_time()
        _, state = score(reference, start(reference), values)
        batch.append((time.thread_time() - began) / n)
        began = time.thread_time()
        for i in range(200):
            _, state = score(reference, state, values[i : i + 1])
        single.append((time.thread_time() - began) / 200)
        if not number:
            batch, single = [], []
    return {"features": d, "in_batches": round(1e6 * median(batch), 1), "one_by_one": round(1e6 * median(single), 1)}


def main(folder: Path) -> None:
    files = [read(path) for path in sorted(folder.rglob("*.csv"))]
    if not files:
        raise SystemExit(f"no CSV below {folder}: name the folder that holds valve1, valve2 and other")
    label = np.concatenate([file.label[FIT_ROWS:] for file in files])
    result: dict[str, Any] = {
        "benchmark": "skab",
        "files": len(files),
        "rows": {"scored": len(label), "anomalous": int(label.sum())},
        "false_events_per_1000_asked": FALSE_EVENTS_PER_1000,
    }
    for name, detector in {**DETECTORS, "always": always}.items():
        result[name] = compare(files, detector)
        print(f"{name:18s}{result[name]}")
    result["scoring_us"] = scoring_us()
    print(json.dumps(result))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/skab.py FOLDER")
    main(Path(sys.argv[1]))
