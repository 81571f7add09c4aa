"""Our shipped anomaly models on SKAB: `python benchmarks/skab.py FOLDER`. Prints one JSON object as its last line.

Each file: fit on rows 0-399, score the rest, pool all files. One code, one set of defaults, no label read before the
count. `far` and `mar` are shares of rows; a row is an alarm while an event is on (k of n, hysteresis). Peers in the
same run: scikit-learn's IsolationForest and a frozen Hotelling T², each above the 99 % quantile of its own training
rows. Not here: any knob.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.ensemble import IsolationForest

from signal_pipeline.anomaly.arrays import F8, Bools
from signal_pipeline.anomaly.calibration import in_alarm
from signal_pipeline.anomaly.fitting import fit
from signal_pipeline.anomaly.stream import score, start
from signal_pipeline.anomaly.tuning import FALSE_EVENTS_PER_1000, Kind

FIT_ROWS = 400


@dataclass(frozen=True)
class File:
    """One recording: `values` (n, 8), `label` (n,) True where it is anomalous."""

    name: str
    features: tuple[str, ...]
    values: F8
    label: Bools


Judged = tuple[F8, Bools]
"""Score and alarm of every row after the fit."""


def read(path: Path) -> File:
    table = pd.read_csv(path, sep=";", index_col="datetime")
    label = table.pop("anomaly").to_numpy() == 1
    table = table.drop(columns="changepoint")
    return File(f"{path.parent.name}/{path.name}", tuple(table.columns), table.to_numpy(np.float64), label)


def ours(file: File, kind: Kind) -> Judged:
    reference = fit(file.features, file.values[:FIT_ROWS], [file.name] * FIT_ROWS, kind=kind)
    scores, _ = score(reference, start(reference), file.values[FIT_ROWS:])
    raising = np.where(scores.warming, 0.0, scores.score)
    return scores.score, in_alarm(raising, np.full(len(raising), scores.threshold), reference.persistence)


def isolation_forest(file: File) -> Judged:
    model = IsolationForest(random_state=0).fit(file.values[:FIT_ROWS])
    limit = np.quantile(-model.score_samples(file.values[:FIT_ROWS]), 0.99)
    scores = -model.score_samples(file.values[FIT_ROWS:])
    return scores, scores > limit


def frozen_t2(file: File) -> Judged:
    healthy = file.values[:FIT_ROWS]
    precision = np.linalg.pinv(np.cov(healthy, rowvar=False))
    deviations = file.values - healthy.mean(axis=0)
    t2 = np.einsum("ij,jk,ik->i", deviations, precision, deviations)
    return t2[FIT_ROWS:], t2[FIT_ROWS:] > np.quantile(t2[:FIT_ROWS], 0.99)


def auc(scores: F8, label: Bools) -> float:
    ranks, high = rankdata(scores), int(label.sum())
    return float((ranks[label].sum() - high * (high + 1) / 2) / (high * (len(label) - high)))


def judge(files: list[File], model: Callable[[File], Judged]) -> dict[str, float]:
    """Pooled rates, and the events before the first fault of each file against the ones asked for."""
    judged = [model(file) for file in files]
    truth = [file.label[FIT_ROWS:] for file in files]
    alarm, label = np.concatenate([alarm for _, alarm in judged]), np.concatenate(truth)
    hits = int((alarm & label).sum())
    aucs = [auc(scores, y) for (scores, _), y in zip(judged, truth, strict=True)]
    before = [a[: int(np.argmax(y))] for (_, a), y in zip(judged, truth, strict=True)]
    events = sum(int((np.diff(a.astype(int), prepend=0) == 1).sum()) for a in before)
    return {
        "f1": round(2 * hits / int(alarm.sum() + label.sum()), 4),
        "far": round(float(alarm[~label].mean()), 4),
        "mar": round(float(1 - alarm[label].mean()), 4),
        "mean_auc": round(float(np.mean(aucs)), 4),
        "rows_before_onset": sum(len(a) for a in before),
        "false_events_before_onset": events,
        "false_events_per_1000_before_onset": round(1000 * events / sum(len(a) for a in before), 2),
    }


def main(folder: Path) -> None:
    files = [read(path) for path in sorted(folder.rglob("*.csv"))]
    if not files:
        raise SystemExit(f"no CSV below {folder}: name the folder that holds valve1, valve2 and other")
    models: dict[str, Callable[[File], Judged]] = {
        "stream": lambda file: ours(file, "stream"),
        "stats": lambda file: ours(file, "stats"),
        "isolation_forest": isolation_forest,
        "frozen_t2": frozen_t2,
        "always_alarming": lambda file: (
            np.ones(len(file.values) - FIT_ROWS),
            np.ones(len(file.values) - FIT_ROWS) > 0,
        ),
    }
    result: dict[str, object] = {"benchmark": "skab", "files": len(files)}
    for name, model in models.items():
        result[name] = judge(files, model)
        print(f"{name:18s}{result[name]}")
    result["false_events_per_1000_asked"] = FALSE_EVENTS_PER_1000
    print(json.dumps(result))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/skab.py FOLDER")
    main(Path(sys.argv[1]))
