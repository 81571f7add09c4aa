"""Signals with a past and a model, and one fingerprint of everything that came of them.

A story's ids, samples and times depend on its seed alone, so that two databases can be compared. Not here: faults.
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Engine, insert, text
from sqlalchemy.dialects.postgresql import insert as upsert

from signal_pipeline.db.claims import claim_pending
from signal_pipeline.db.models import Equipment, RawSignal
from signal_pipeline.ingest import codec
from signal_pipeline.processing.batch import Batch
from signal_pipeline.processing.run import run_batch
from signal_pipeline.processing.training import train
from signal_pipeline.processing.worker import Worker
from signal_pipeline.settings import ModelSettings, Settings
from signal_pipeline_tests.signals import FS, MIDNIGHT, NAMESPACE, current

HEALTHY = 40
FLEET = 2
"""Motors that the healthy recordings are of: one is no fleet."""

# What may differ from run to run: numbers of rows, and times of writing.
FINGERPRINTS = {
    "signals": "SELECT id, processing_status, meta #- '{failure,at}' FROM raw_signals",
    "samples": "SELECT id, samples_count, md5(phase_a), md5(phase_b), md5(phase_c), crc32_a, crc32_b, crc32_c "
    "FROM raw_signals",
    "features": "SELECT to_jsonb(f) - 'id' FROM features AS f",
    "hours": "SELECT to_jsonb(h) - 'updated_at' FROM hourly_feature_summary AS h",
    "diagnoses": "SELECT to_jsonb(d) - '{id,created_at,updated_at}'::text[] FROM signal_diagnostics AS d",
    "scores": "SELECT to_jsonb(s) - '{id,feature_id,created_at}'::text[] FROM anomaly_scores AS s",
    "states": "SELECT to_jsonb(s) - 'updated_at' FROM anomaly_states AS s",
    "events": "SELECT to_jsonb(e) - '{id,raised_at}'::text[] FROM anomaly_events AS e",
    "counters": "SELECT name, sum(value) FROM counters WHERE name ~ '^(features|signals)_' GROUP BY name",
}

BY_SIGNAL = """
    SELECT f.raw_id,
           md5(string_agg(concat(to_jsonb(f) - 'id', s.score, s.is_anomaly), '' ORDER BY f.window_start)) AS found
    FROM features AS f LEFT JOIN anomaly_scores AS s ON s.feature_id = f.id GROUP BY f.raw_id
"""


@dataclass(frozen=True, slots=True)
class Story:
    """`signals` recordings of each of `motors`, a minute apart; the second half shows a fault."""

    seed: int = 1
    motors: int = 1
    signals: int = 3
    seconds: float = 2.0

    @property
    def ids(self) -> list[UUID]:
        """Oldest first."""
        return [self._id(motor, k) for k in range(self.signals) for motor in range(self.motors)]

    def tell(self, engine: Engine) -> list[UUID]:
        """Put the signals into a database, pending; their ids."""
        names = [self._name(motor) for motor in range(self.motors)]
        with engine.begin() as conn:
            motors = [{"id": uuid5(NAMESPACE, name), "name": name} for name in names]
            conn.execute(upsert(Equipment).on_conflict_do_nothing(), motors)
            rows = [self._row(motor, k) for k in range(self.signals) for motor in range(self.motors)]
            conn.execute(insert(RawSignal), rows)
        return self.ids

    def _name(self, motor: int) -> str:
        return f"motor {self.seed}.{motor}"

    def _id(self, motor: int, k: int) -> UUID:
        return uuid5(NAMESPACE, f"{self._name(motor)}:{k}")

    def _row(self, motor: int, k: int) -> dict[str, Any]:
        fault = 0.2 if 2 * k >= self.signals else 0.0
        samples = current((self.seed, motor, k), seconds=self.seconds, fault=fault)
        blobs = [codec.encode(phase) for phase in samples]
        return {
            "id": self._id(motor, k),
            "equipment_id": uuid5(NAMESPACE, self._name(motor)),
            "sample_rate_hz": FS,
            "recorded_at": MIDNIGHT + timedelta(minutes=k),
            "created_at": MIDNIGHT + timedelta(minutes=k, seconds=motor / 1000),
            "samples_count": samples.shape[1],
            **{f"phase_{p}": blob for p, blob in zip("abc", blobs, strict=True)},
            **{f"crc32_{p}": codec.checksum(blob) for p, blob in zip("abc", blobs, strict=True)},
        }


def train_models(engine: Engine, models_dir: Path) -> None:
    """A model of the fleet from healthy recordings, and an embedding; scores of the stories depend on it."""
    healthy = Story(seed=0, motors=FLEET, signals=2 * HEALTHY, seconds=4.0)
    rows = [healthy._row(motor, k) for motor in range(FLEET) for k in range(HEALTHY // FLEET)]
    with engine.begin() as conn:
        names = [healthy._name(motor) for motor in range(FLEET)]
        conn.execute(insert(Equipment), [{"id": uuid5(NAMESPACE, name), "name": name} for name in names])
        conn.execute(insert(RawSignal), rows)
    worker = Worker(engine, Settings(models=ModelSettings(models_dir=models_dir)), "faults:training")
    for claim in claim_pending(engine, settings=worker.settings.claims, claimed_by=worker.name).claims:
        run_batch(worker, Batch(claim.token, claim.signal_ids))
    train(worker)


@dataclass(frozen=True, slots=True)
class Results:
    """All that came of the signals in a database. `kinds`: for each kind of row how many, and a hash of what they say;
    `signals`: a hash of features and scores of each signal."""

    kinds: dict[str, str]
    signals: dict[UUID, str]


def results(engine: Engine) -> Results:
    """Equal if and only if the results are."""
    kinds = {}
    with engine.connect() as conn:
        for kind, query in FINGERPRINTS.items():
            rows = sorted(str(tuple(row)) for row in conn.execute(text(query)))
            kinds[kind] = f"{len(rows)} rows, {hashlib.sha256('|'.join(rows).encode()).hexdigest()[:16]}"
        signals = {row.raw_id: row.found for row in conn.execute(text(BY_SIGNAL))}
    return Results(kinds, signals)


def assert_undisturbed(engine: Engine, expected: Results, *, but: tuple[str, ...] = ()) -> None:
    """The results in a database are those `expected`, kinds named in `but` aside."""
    found = results(engine)
    differing = {
        kind: (rows, expected.kinds[kind])
        for kind, rows in found.kinds.items()
        if kind not in but and rows != expected.kinds[kind]
    }
    assert not differing, f"not as undisturbed: {differing}"
    assert found.signals == expected.signals
