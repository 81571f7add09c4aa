"""Our extraction against the bare transform of the same windows, and against what else people use.

    uv run --group bench python -m benchmarks.extract

1.5 million samples x 3 phases at 25.6 kHz, windows of 1 s in half overlap, float32, one process, one thread. The
whole feature set of ours is compared with `scipy.fft.rfft` alone (the faster of one call for all windows and calls of
four), and, on the first 10 s, with peers computing the comparable subset that `PEERS` states. Runs are interleaved;
medians are compared. The last line is one JSON object. Not here: assertions; the database (`benchmarks/ingest.py`).
"""

import argparse
import contextlib
import ctypes
import gc
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from signal_pipeline.catalogue import COLUMNS
from signal_pipeline.dsp.extract import FeatureBlock, extract_features
from signal_pipeline.dsp.warm_up import warm_up
from signal_pipeline.dsp.windows import WindowGrid

FS = 25_600.0
GRID = WindowGrid.for_rate(FS, window_ms=1000, overlap=0.5)
BANDS = ((0.0, 40.0), (40.0, 80.0), (80.0, 500.0), (500.0, 2000.0), (2000.0, 10000.0))
SHORT = 256_000

Phases = NDArray[np.float32]
Task = Callable[[], object]

PEERS = {
    "librosa": "rms; centroid, bandwidth, rolloff, flatness from one stft",
    "tsflex": "mean, std, min, max, rms, skew, kurt; centroid, bandwidth, rolloff, entropy, flatness from one rfft",
    "tsfresh": "mean, std, min, max, rms, skew, kurt; centroid, variance, skew and kurtosis of the spectrum",
    "tsfel": "mean, std, min, max, rms, skew, kurt, peak to peak; centroid, spread, rolloff, entropy, fundamental",
}


def currents(n: int) -> Phases:
    """A motor at 49.97 Hz: three phases, a few harmonics, 1 % of noise."""
    t = np.arange(n) / FS
    rng = np.random.default_rng(0)
    rows = []
    for k in range(3):
        angle = 2 * np.pi * (49.97 * t - k / 3)
        row = 10 * np.cos(angle) + 0.5 * np.cos(5 * angle) + 0.3 * np.cos(7 * angle)
        rows.append((row + 0.1 * rng.standard_normal(n)).astype(np.float32))
    return np.stack(rows)


def ours(phases: Phases) -> FeatureBlock:
    windows = range(GRID.n_windows(phases.shape[1]))
    return extract_features(phases, grid=GRID, start_row=0, windows=windows, max_gap_samples=25, bands_hz=BANDS)


def windows_of(phases: Phases) -> Phases:
    """(3, windows, samples), a view."""
    return np.lib.stride_tricks.sliding_window_view(phases, GRID.window_length, axis=1)[:, :: GRID.hop_length]


def rfft_at_once(windows: Phases) -> None:
    scipy.fft.rfft(windows, axis=-1)


def rfft_by_four(windows: Phases) -> None:
    for first in range(0, windows.shape[1], 4):
        scipy.fft.rfft(windows[:, first : first + 4], axis=-1)


def librosa_peer(phases: Phases) -> Task:
    import librosa

    shape: dict[str, Any] = {"hop_length": GRID.hop_length, "center": False}

    def run() -> dict[str, Any]:
        power = np.abs(librosa.stft(phases, n_fft=GRID.window_length, **shape)) ** 2
        return {
            "rms": librosa.feature.rms(y=phases, frame_length=GRID.window_length, **shape)[:, 0],
            "spectral_centroid_hz": librosa.feature.spectral_centroid(S=power, sr=FS)[:, 0],
            "spectral_bandwidth_hz": librosa.feature.spectral_bandwidth(S=power, sr=FS)[:, 0],
            "spectral_rolloff_hz": librosa.feature.spectral_rolloff(S=power, sr=FS)[:, 0],
            "spectral_flatness": librosa.feature.spectral_flatness(S=power, power=1.0, amin=1e-30)[:, 0],
        }

    return run


def spectral(x: Phases) -> tuple[float, ...]:
    """Centroid, bandwidth, rolloff, entropy and flatness of one window, as one would write them for tsflex."""
    power = np.abs(scipy.fft.rfft(x * np.hanning(x.size).astype(np.float32))[1:]) ** 2
    freqs = np.arange(1, power.size + 1) * (FS / x.size)
    share = power / power.sum()
    centroid = float(freqs @ share)
    return (
        centroid,
        float(np.sqrt((freqs - centroid) ** 2 @ share)),
        float(freqs[np.searchsorted(np.cumsum(share), 0.85)]),
        float(-(share @ np.log(share + 1e-30))),
        float(np.exp(np.log(power + 1e-30).mean()) / power.mean()),
    )


def root_mean_square(x: Phases) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def tsflex_peer(phases: Phases) -> Task:
    import pandas as pd
    from scipy import stats
    from tsflex.features import FeatureCollection, FuncWrapper, MultipleFeatureDescriptors

    functions = [
        *(FuncWrapper(f) for f in (np.mean, np.std, np.min, np.max, root_mean_square, stats.skew, stats.kurtosis)),
        FuncWrapper(spectral, output_names=["centroid", "bandwidth", "rolloff", "entropy", "flatness"]),
    ]
    collection = FeatureCollection(
        MultipleFeatureDescriptors(functions, ["a", "b", "c"], windows=GRID.window_length, strides=GRID.hop_length)
    )
    data = [pd.Series(row, name=name) for name, row in zip("abc", phases, strict=True)]
    return lambda: collection.calculate(data, n_jobs=1, approve_sparsity=True)


def tsfresh_peer(phases: Phases) -> Task:
    import pandas as pd
    from tsfresh import extract_features as tsfresh_extract

    wanted: dict[str, Any] = dict.fromkeys(
        ("mean", "standard_deviation", "minimum", "maximum", "root_mean_square", "skewness", "kurtosis")
    )
    wanted["fft_aggregated"] = [{"aggtype": kind} for kind in ("centroid", "variance", "skew", "kurtosis")]
    windows = windows_of(phases).reshape(-1, GRID.window_length)
    table = pd.DataFrame({"id": np.repeat(np.arange(len(windows)), GRID.window_length), "value": windows.ravel()})

    def run() -> object:
        return tsfresh_extract(
            table,
            column_id="id",
            column_value="value",
            default_fc_parameters=wanted,
            n_jobs=0,
            disable_progressbar=True,
        )

    return run


def tsfel_peer(phases: Phases) -> Task:
    import tsfel

    names = {
        "Average", "Mean", "Standard deviation", "Min", "Max", "Root mean square", "Skewness", "Kurtosis",
        "Peak to peak distance", "Spectral centroid", "Spectral spread", "Spectral roll-off", "Spectral entropy",
        "Fundamental frequency",
    }  # fmt: skip
    everything = tsfel.get_features_by_domain()
    wanted = {
        domain: {name: facts for name, facts in features.items() if name in names}
        for domain, features in everything.items()
    }
    wanted = {domain: features for domain, features in wanted.items() if features}
    overlap = 1 - GRID.hop_length / GRID.window_length
    return lambda: tsfel.time_series_features_extractor(
        wanted, phases.T, fs=FS, window_size=GRID.window_length, overlap=overlap, verbose=0, n_jobs=None
    )


MAKERS: dict[str, Callable[[Phases], Task]] = {
    "librosa": librosa_peer,
    "tsflex": tsflex_peer,
    "tsfresh": tsfresh_peer,
    "tsfel": tsfel_peer,
}


def timed(tasks: dict[str, Task], rounds: int) -> dict[str, float]:
    """Median seconds of each task, the tasks taking turns; one round before that counts for nothing.

    Seconds of this thread's own work, so that other processes on the machine move the figures less; what a peer does
    in threads of its own is not held against it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            start = time.thread_time()
            task()
            if number:
                seconds[name].append(time.thread_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_memory_mb(task: Task) -> float | None:
    """Highest resident memory while `task` runs, above what was there before; None where /proc does not tell."""

    def read(key: str) -> float:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
        return int(line.split()[1]) / 1024

    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or memory that was freed before would hide what is taken now
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of before
        before = read("VmRSS")
    except OSError:
        return None
    task()
    return round(read("VmHWM") - before, 2)


TSFEL_NAMES = {
    "rms": "Root mean square",
    "std": "Standard deviation",
    "min": "Min",
    "max": "Max",
    "peak_to_peak": "Peak to peak distance",
    "skew": "Skewness",
    "kurt": "Kurtosis",
    "dominant_freq_hz": "Fundamental frequency",
}


def differences(block: FeatureBlock, theirs: dict[str, Any]) -> dict[str, float]:
    """Largest difference of each feature to a peer's (3, windows), over the peer's largest value."""
    result = {}
    for name, values in theirs.items():
        mine = block.values[:, [COLUMNS.index(f"{name}_{phase}") for phase in "abc"]].T
        result[name] = float(f"{np.max(np.abs(mine - values)) / np.max(np.abs(values)):.2g}")
    return result


def agreement(short: Phases) -> dict[str, dict[str, float]]:
    """Against librosa, which is made to weigh by power, and tsfel's features of the same definition."""
    block = ours(short)
    table: Any = tsfel_peer(short)()
    theirs = {name: np.stack([table[f"{i}_{title}"] for i in range(3)]) for name, title in TSFEL_NAMES.items()}
    librosas: Any = librosa_peer(short)()
    return {"librosa": differences(block, librosas), "tsfel": differences(block, theirs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_500_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    start = time.perf_counter()
    warm_up()
    print(f"warm-up {time.perf_counter() - start:.2f} s", file=sys.stderr)

    phases = currents(arguments.samples)
    short = np.ascontiguousarray(phases[:, :SHORT])
    windows = windows_of(phases)
    extra = peak_memory_mb(lambda: ours(phases))
    seconds = timed(
        {
            "ours": lambda: ours(phases),
            "rfft at once": lambda: rfft_at_once(windows),
            "rfft by four": lambda: rfft_by_four(windows),
            "ours, 10 s": lambda: ours(short),
        },
        arguments.rounds,
    )
    bare = min(seconds["rfft at once"], seconds["rfft by four"])
    result: dict[str, Any] = {
        "ratio_to_rfft": round(seconds["ours"] / bare, 2),
        "samples_per_second_per_core": round(phases.size / seconds["ours"]),
        "extra_memory_mb": extra,
        "short_recording_rate_pct": round(
            100 * (short.size / seconds["ours, 10 s"]) / (phases.size / seconds["ours"]), 1
        ),
        "features_per_window": len(COLUMNS),
        "seconds": {name: round(value, 5) for name, value in seconds.items()},
    }
    if not arguments.no_peers:
        tasks = {name: make(short) for name, make in MAKERS.items()}
        theirs = timed({"ours": lambda: ours(short), **tasks}, arguments.rounds)
        result["peers"] = {name: round(theirs[name] / theirs["ours"], 1) for name in tasks}
        result["peers_compute"] = PEERS
        result["largest_differences"] = agreement(short)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
