"""The pipeline's state as Prometheus metrics: names, types, labels. Values come from the database at each scrape.

So they are right after kill -9, and the same from every host. Labels hold values of closed lists, never a file, signal
or run; `equipment` alone is open, and bounded by METRICS_MAX_EQUIPMENT. While the database is away, the exporter says
so and nothing else: no value that might be stale. Not here: SQL (`readings`), and serving (the command).
"""

import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from time import monotonic

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from signal_pipeline import __version__
from signal_pipeline.db import counters
from signal_pipeline.domain import FailureReason, Stage
from signal_pipeline.errors import DatabaseUnavailable
from signal_pipeline.observability.looks import Look
from signal_pipeline.observability.readings import Reading, read, read_heartbeats
from signal_pipeline.settings import MetricsSettings

log = structlog.get_logger(__name__)

PREFIX = "signal_pipeline_"

TOTALS = {
    "claims_total": "Signals that were claimed, reclaimed ones and those that a person asked for included.",
    "reclaims_total": "Signals that were claimed again after the lease of another worker had ended.",
    "stale_writes_refused_total": "Writes of workers that had lost their claim; nothing of them was stored.",
    "signals_completed_total": "Signals that went through all stages.",
    "features_total": "Windows whose features were stored; retention and recomputation take none away.",
    "files_loaded_total": "CSV files that were loaded.",
    "bytes_read_total": "Bytes of CSV files that were read by ingest.",
    "windows_scored_total": "Windows that the stream model scored, replays included.",
    "windows_anomalous_total": "Windows among them that were anomalous.",
    "forecasts_issued_total": "Forecasts of one phase of one equipment that were issued.",
    "forecasts_failed_total": "Attempts at an equipment's forecast that ended in an error.",
}
"""Counters without labels: the name in the database is the name of the metric."""


@dataclass(slots=True, eq=False)
class PipelineCollector(Collector):
    """Reads both databases when Prometheus asks, at most once every METRICS_CACHE_SECONDS whoever asks.

    At the same time, and for METRICS_TIMEOUT_SECONDS: what has not answered by then is down. Prometheus waits longer
    (`scrape_timeout`), so it hears which database is silent, and does not take the exporter for dead.
    """

    engine: Engine
    dagster: Engine
    settings: MetricsSettings
    home: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _errors: int = 0
    _read_at: float = float("-inf")
    _last: list[Metric] = field(default_factory=list)
    _pipeline: Look[Reading] = field(init=False)
    _storage: Look[dict[str, float]] = field(init=False)

    def __post_init__(self) -> None:
        self._pipeline = Look(
            "the domain database", lambda: read(self.engine, max_equipment=self.settings.metrics_max_equipment)
        )
        self._storage = Look("Dagster's storage", lambda: read_heartbeats(self.dagster))

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: registering must not need the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All families. Never raises for a database that is away."""
        with self._lock:
            if monotonic() - self._read_at >= self.settings.metrics_cache_seconds:
                began = monotonic()
                until = began + self.settings.metrics_timeout_seconds
                self._pipeline.begin()
                self._storage.begin()
                domain = self._domain(until)
                daemons = self._daemons(until)
                self._last = [*domain, *daemons, *self._own(monotonic() - began, up=bool(domain))]
                self._read_at = monotonic()
            yield from self._last

    def _domain(self, until: float) -> list[Metric]:
        try:
            return list(families(self._pipeline.answer(until - monotonic())))
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            self._errors += 1
            log.warning("metrics.unreadable", error=str(error).partition("\n")[0])
            return []

    def _daemons(self, until: float) -> list[Metric]:
        up = _gauge("dagster_up", "Whether Dagster's storage could be read.", 0)
        try:
            beats = self._storage.answer(until - monotonic())
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            log.debug("metrics.no_dagster", error=str(error).partition("\n")[0])
            return [up]
        family = GaugeMetricFamily(
            f"{PREFIX}dagster_daemon_last_heartbeat_timestamp_seconds",
            "When each of Dagster's daemons last beat.",
            labels=["daemon"],
        )
        for daemon, at in beats.items():
            family.add_metric([daemon.lower()], at)
        return [_gauge("dagster_up", "Whether Dagster's storage could be read.", 1), family]

    def _own(self, seconds: float, *, up: bool) -> Iterator[Metric]:
        yield _gauge("database_up", "Whether the domain database could be read.", up)
        yield _counter("scrape_errors_total", "Looks at the domain database that failed.", self._errors)
        yield _gauge("scrape_duration_seconds", "How long the last look took.", seconds)
        yield _gauge("equipment_limit", "METRICS_MAX_EQUIPMENT of this exporter.", self.settings.metrics_max_equipment)
        build = GaugeMetricFamily(f"{PREFIX}build_info", "The version that exports.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        disk = shutil.disk_usage(self.home if self.home.exists() else Path.cwd())
        yield _gauge("disk_free_bytes", "Free bytes where SIGNAL_PIPELINE_HOME is, on the exporter's host.", disk.free)
        yield _gauge("disk_size_bytes", "All bytes of that disk.", disk.total)


def families(found: Reading) -> Iterator[Metric]:
    """A reading as metrics; every value of a closed list is there from the start, at 0."""
    signals = GaugeMetricFamily(f"{PREFIX}signals", "Signals by status.", labels=["status"])
    for status, n in found.signals.items():
        signals.add_metric([status], n)
    yield signals
    yield _gauge(
        "oldest_pending_seconds", "How long the oldest pending signal has waited.", found.oldest_pending_seconds
    )
    if found.last_success is not None:
        yield _gauge("last_success_timestamp_seconds", "When a signal was last completed.", found.last_success)
    yield _gauge(
        "leases_expired", "Claimed signals whose lease has ended and whom nobody took over.", found.leases_expired
    )
    yield _gauge("leases_live", "Claimed signals whose lease runs.", found.leases_live)
    yield _gauge("anomaly_events_open", "Anomaly events that have not ended.", found.open_events)
    yield _gauge("database_size_bytes", "Size of the domain database.", found.database_bytes)
    for name, meaning in TOTALS.items():
        yield _counter(name, meaning, found.totals.get(name, 0))
    yield _failed(found)
    yield from _histograms(found)
    yield _gauge("equipment", "All equipment, those beyond METRICS_MAX_EQUIPMENT included.", found.equipment_total)
    equipment = GaugeMetricFamily(
        f"{PREFIX}equipment_last_data_timestamp_seconds",
        "When a recording of an equipment was last loaded.",
        labels=["equipment"],
    )
    for name, loaded in found.equipment.items():
        equipment.add_metric([name], loaded)
    yield equipment


def _failed(found: Reading) -> Metric:
    family = CounterMetricFamily(
        f"{PREFIX}signals_failed", "Signals that failed, by stage and reason.", labels=["stage", "reason"]
    )
    for stage in Stage:
        for reason in FailureReason:
            family.add_metric([stage.value, reason.value], found.totals.get(counters.failed(stage, reason), 0))
    return family


def _histograms(found: Reading) -> Iterator[Metric]:
    queue = HistogramMetricFamily(f"{PREFIX}queue_wait_seconds", "From a signal's load to the first claim of its life.")
    queue.add_metric([], *_buckets(found, counters.QUEUE))
    yield queue
    stages = HistogramMetricFamily(
        f"{PREFIX}stage_duration_seconds",
        "Time in a stage: of a signal in load, validate, extract and diagnose, of a file in ingest, of a transaction "
        "in claim, store, score and finalize, of an equipment in forecast.",
        labels=["stage"],
    )
    for stage in Stage:
        stages.add_metric([stage.value], *_buckets(found, stage.value))
    yield stages


def _buckets(found: Reading, what: str) -> tuple[Sequence[tuple[str, float]], float]:
    """Cumulative counts by upper bound, and the sum of all durations (s), as Prometheus wants them."""
    stored = found.durations.get(what, {})
    bounds = counters.bounds_of(what)
    each = [
        sum(n for le, (n, _) in stored.items() if low < le <= high)
        for low, high in zip((float("-inf"), *bounds), bounds, strict=False)
    ]
    total = sum(microseconds for _, microseconds in stored.values()) / 1e6
    names = [*(f"{bound:g}" for bound in bounds[:-1]), "+Inf"]
    return list(zip(names, accumulate(each), strict=True)), total


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", meaning, value=float(value))


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}{name}", meaning, value=float(value))
