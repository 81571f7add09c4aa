"""Loading files: what is new, known, replaced or rejected, whatever they are called."""

import hashlib
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.db import counters
from signal_pipeline.db.engine import create_engine
from signal_pipeline.db.features import store_features
from signal_pipeline.db.ids import signal_id, source_id
from signal_pipeline.domain import FailureReason, RejectionReason
from signal_pipeline.errors import DatabaseUnavailable, SettingsError
from signal_pipeline.ingest import file_batches, loader
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.load_report import FileOutcome
from signal_pipeline.settings import DatabaseSettings, FeatureSettings, IngestSettings
from signal_pipeline_tests.db.rows import NOON, add_equipment, change, features_of, statuses
from signal_pipeline_tests.ingest.conftest import WriteCsv
from signal_pipeline_tests.ingest.loading import (
    FS,
    csv_of,
    fail,
    file_sources,
    load,
    load_one,
    read_back,
    samples_of,
    signals,
)


def totals(engine: Engine) -> dict[str, int]:
    with engine.connect() as conn:
        return counters.totals(conn)


def hold(engine: Engine, wanted: UUID, *, seconds: float) -> None:
    """As if a worker held this signal for so long, or had let its lease end so long ago."""
    change(
        engine,
        "UPDATE raw_signals SET processing_status = 'processing', claim_token = gen_random_uuid(), "
        "claimed_by = 'worker 7', lease_expires_at = now() + make_interval(secs => :seconds) WHERE id = :id",
        id=wanted,
        seconds=seconds,
    )


def test_a_new_file_becomes_a_pending_signal_that_says_where_it_came_from(engine: Engine, write_csv: WriteCsv) -> None:
    samples = samples_of(230, missing=0.1)
    content = csv_of(samples)
    path = write_csv(content, "2025-08-25T12-00-00.csv")
    report = load_one(engine, path, equipment="pump 3")
    sha256 = hashlib.sha256(content.encode()).hexdigest()

    assert report.outcome == FileOutcome.NEW
    assert (report.name, report.reason, report.message) == ("2025-08-25T12-00-00.csv", None, "")
    at = datetime(2025, 8, 25, 12, tzinfo=UTC)
    assert (report.signal_ids, report.n_rows, report.n_batches) == ((signal_id(sha256, 0, at),), 230, 1)
    (row,) = signals(engine)
    assert (row.id, row.source_id, row.file_hash) == (signal_id(sha256, 0, at), source_id(sha256, at), sha256)
    assert (row.file_name, row.sample_rate_hz, row.processing_status) == (str(path), FS, "pending")
    assert (row.first_row, row.lead_in, row.samples_count) == (0, 0, 230)
    assert row.recorded_at == at
    assert row.meta == {
        "batch_index": 0,
        "batches": 1,
        "phases": ["a", "b", "c"],
        "byte_offset": content.index("\n") + 1,
        "recorded_at_source": "file_name",
        "source": {"first_row": 0, "rows": 230},
    }
    (source,) = file_sources(engine)
    assert (source.id, source.path, source.sha256) == (source_id(sha256, at), str(path), sha256)
    assert (source.size_bytes, source.n_rows) == (len(content), 230)
    assert CsvDialect.from_json(source.dialect) == CsvDialect(delimiter=",")
    assert totals(engine) == {"files_loaded_total": 1, "bytes_read_total": len(content)}


def test_new_ids_are_made_of_time_and_content_in_the_order_of_time_and_never_change() -> None:
    at = datetime(2025, 8, 25, 12, 0, 0, 123_456, tzinfo=UTC)
    assert source_id("0" * 64, at) == UUID("0198e119-7a7b-8683-b18d-a9506dfe2072")
    assert signal_id("0" * 64, 0, at) == UUID("0198e119-7a7b-8e13-9c00-6a39ad50675c")
    assert signal_id("0" * 64, 12, at) == UUID("0198e119-7a7b-8710-a514-a6b4a9281bea")
    minutes = [signal_id(f"{n:064x}", n % 3, at + timedelta(minutes=n)) for n in range(-100_000, 100_000, 997)]
    assert minutes == sorted(minutes)
    assert {(one.variant, one.version) for one in minutes} == {(RFC_4122, 8)}
    ends = [signal_id("0" * 64, 0, datetime(year, 1, 1, tzinfo=UTC)) for year in (1, 1970, 9999)]
    assert ends[0] == ends[1] < ends[2]


def test_a_file_that_is_known_is_left_as_it_is_also_under_another_name(engine: Engine, write_csv: WriteCsv) -> None:
    content = csv_of(samples_of(120))
    path = write_csv(content, "first.csv")
    first = load_one(engine, path, equipment="fan")
    before = signals(engine)
    for again in (path, write_csv(content, "copy.csv")):
        report = load_one(engine, again, equipment="another")
        assert (report.name, report.outcome) == (again.name, FileOutcome.KNOWN)
        assert report.message.startswith("loaded as first.csv for fan on 20")
        assert (report.signal_ids, report.n_rows, report.n_batches) == (first.signal_ids, 120, 1)
    assert signals(engine) == before
    assert totals(engine)["files_loaded_total"] == 1


def test_a_file_that_another_program_registered_by_its_hash_is_known(engine: Engine, write_csv: WriteCsv) -> None:
    content = csv_of(samples_of(120))
    change(
        engine,
        "INSERT INTO raw_signals (equipment_id, file_hash) VALUES (:equipment, :sha256)",
        equipment=add_equipment(engine),
        sha256=hashlib.sha256(content.encode()).hexdigest(),
    )
    report = load_one(engine, write_csv(content))
    assert report.outcome == FileOutcome.KNOWN
    assert report.message.startswith("loaded for motor 1 on 20")
    assert len(signals(engine)) == 1


def test_a_folder_gives_a_report_for_each_file_and_each_motor_its_own_equipment(engine: Engine, tmp_path: Path) -> None:
    for n, motor in enumerate(("motor 1", "motor 2")):
        (tmp_path / motor).mkdir()
        for k in range(2):
            (tmp_path / motor / f"{k}.csv").write_text(csv_of(samples_of(110, seed=10 * n + k)))
    reports = load(engine, tmp_path)
    assert [report.name for report in reports] == ["motor 1/0.csv", "motor 1/1.csv", "motor 2/0.csv", "motor 2/1.csv"]
    assert {report.outcome for report in reports} == {FileOutcome.NEW}
    with engine.connect() as conn:
        per_motor = conn.execute(
            text("SELECT e.name, count(*) FROM equipment AS e JOIN raw_signals ON equipment_id = e.id GROUP BY 1")
        )
        assert dict(per_motor.tuples().all()) == {"motor 1": 2, "motor 2": 2}


def test_the_time_of_a_recording_comes_from_the_person_the_list_or_the_file(
    engine: Engine, write_csv: WriteCsv
) -> None:
    at = datetime(2024, 2, 29, 23, 59, 59, 250_000, tzinfo=UTC)
    paths = [write_csv(csv_of(samples_of(110, seed=n)), f"{n}.csv") for n in range(3)]
    os.utime(paths[2], (1_700_000_000, 1_700_000_000))
    load(engine, paths[0], recorded_at=at)
    load(engine, *paths[1:], times={"1.csv": at + timedelta(hours=1)})
    assert [(row.recorded_at, row.meta["recorded_at_source"]) for row in signals(engine)] == [
        (at, "argument"),
        (at + timedelta(hours=1), "times"),
        (datetime.fromtimestamp(1_700_000_000, UTC), "mtime"),
    ]


def test_a_time_in_the_future_fails_a_file_that_claims_it_and_a_person_can_say_better(
    engine: Engine, write_csv: WriteCsv
) -> None:
    paths = [write_csv(csv_of(samples_of(110, seed=n)), name) for n, name in enumerate(FUTURE)]
    os.utime(paths[1], (4_070_908_800, 4_070_908_800))
    for report, said in zip(load(engine, *paths), FUTURE.values(), strict=True):
        assert (report.outcome, report.reason) == (FileOutcome.FAILED, FailureReason.VALIDATION_FAILED)
        assert f"{said} 2099-01-01T00:00:00+00:00, and that is in the future" in report.message
        assert "--recorded-at or --times" in report.message
    loaded = load(engine, *paths, times=dict.fromkeys(FUTURE, NOON))
    assert {report.outcome for report in loaded} == {FileOutcome.NEW}
    assert {row.recorded_at for row in signals(engine)} == {NOON}


FUTURE = {"20990101_000000.csv": "its name says", "motor.csv": "it was last changed"}


def test_a_clock_that_is_minutes_fast_fails_no_file(engine: Engine, write_csv: WriteCsv) -> None:
    path = write_csv(csv_of(samples_of(110)))
    ahead = time.time() + 1800
    os.utime(path, (ahead, ahead))
    assert load_one(engine, path).outcome is FileOutcome.NEW


def test_one_time_for_several_files_is_refused_before_any_is_loaded(engine: Engine, write_csv: WriteCsv) -> None:
    paths = [write_csv(csv_of(samples_of(110, seed=n)), f"{n}.csv") for n in range(2)]
    with pytest.raises(SettingsError, match="2 were named; use --times"):
        load(engine, *paths, recorded_at=NOON)
    with pytest.raises(SettingsError, match="printable characters"):
        load(engine, *paths, equipment="  ")
    assert signals(engine) == []


def test_a_failed_file_is_replaced_when_it_is_loaded_again(engine: Engine, write_csv: WriteCsv) -> None:
    path = write_csv(csv_of(samples_of(120)))
    failed = load_one(engine, path, sample_rate_hz=None, equipment="wrong name")
    again = load_one(engine, path, sample_rate_hz=0)
    assert (failed.outcome, again.outcome) == (FileOutcome.FAILED, FileOutcome.FAILED)
    assert statuses(engine) == {"failed": 1}
    report = load_one(engine, path, equipment="right name")
    assert (report.outcome, report.signal_ids) == (FileOutcome.NEW, failed.signal_ids)
    (row,) = signals(engine)
    assert (row.processing_status, row.finalized_at, row.sample_rate_hz) == ("pending", None, FS)
    assert "failure" not in row.meta
    assert load_one(engine, path).message.startswith("loaded as motor.csv for right name on")
    assert len(file_sources(engine)) == 1


def test_replacing_a_file_takes_its_features_along_and_recomputes_their_hours(
    engine: Engine, write_csv: WriteCsv
) -> None:
    settings = IngestSettings(csv_batch_size=100)
    paths = [write_csv(csv_of(samples_of(200, seed=n)), f"{n}.csv") for n in range(2)]
    loaded = [load_one(engine, path, equipment="fan", settings=settings) for path in paths]
    equipment = signals(engine)[0].equipment_id
    with engine.begin() as conn:
        for report in loaded:
            for wanted in report.signal_ids:
                store_features(conn, [features_of(wanted, equipment, n=5)])
        # and an hour of which nothing will be left
        store_features(conn, [features_of(loaded[0].signal_ids[0], equipment, start=NOON - timedelta(hours=3))])
    fail(engine, loaded[0].signal_ids[1])

    assert load_one(engine, paths[0], equipment="fan", settings=settings).outcome == FileOutcome.NEW
    assert statuses(engine) == {"pending": 4}
    with engine.connect() as conn:
        raw_ids = conn.execute(text("SELECT DISTINCT raw_id FROM features")).scalars().all()
        hours = conn.execute(text("SELECT hour_start, windows FROM hourly_feature_summary")).all()
    assert set(raw_ids) == set(loaded[1].signal_ids)
    assert [tuple(hour) for hour in hours] == [(NOON, 10)]


@pytest.mark.parametrize("held", [0, 1])
def test_a_failed_file_is_not_replaced_while_somebody_works_on_a_part_of_it(
    engine: Engine, write_csv: WriteCsv, held: int
) -> None:
    path = write_csv(csv_of(samples_of(200)))
    settings = IngestSettings(csv_batch_size=100)
    ids = load_one(engine, path, settings=settings).signal_ids
    fail(engine, ids[1 - held])
    hold(engine, ids[held], seconds=60)
    before = signals(engine)
    report = load_one(engine, path, settings=settings)
    assert (report.outcome, report.signal_ids) == (FileOutcome.KNOWN, ids)
    assert "1 of its 2 signals failed, but worker 7 is at work on it until 20" in report.message
    assert signals(engine) == before

    hold_ended = "UPDATE raw_signals SET lease_expires_at = now() - interval '1 second' WHERE id = :id"
    change(engine, hold_ended, id=ids[held])
    assert load_one(engine, path, settings=settings).outcome == FileOutcome.NEW
    assert statuses(engine) == {"pending": 2}


HOSTILE = [
    "line\nbreak.csv",
    "\x1b[31mred\x1b[0m.csv",
    "'; DROP TABLE raw_signals; --.csv",
    "\u202egnp.csv",
    "%s{x}:n.csv",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_stored_as_it_is_and_shown_harmlessly(engine: Engine, tmp_path: Path, name: str) -> None:
    folder = tmp_path.resolve() / name.removesuffix(".csv")
    folder.mkdir()
    samples = samples_of(120)
    (folder / name).write_text(csv_of(samples))
    report = load_one(engine, tmp_path)
    assert report.outcome == FileOutcome.NEW
    assert report.name.isprintable()
    (row,) = signals(engine)
    assert row.file_name == str(folder / name)
    change(engine, "UPDATE raw_signals SET phase_a = NULL, phase_b = NULL, phase_c = NULL")
    assert read_back(engine, row.id).phases.tobytes() == samples.tobytes()
    assert load_one(engine, tmp_path).message.isprintable()
    with engine.connect() as conn:
        assert conn.execute(text("SELECT name FROM equipment")).scalar_one().isprintable()


@pytest.mark.parametrize("place", ["folder", "file"])
def test_a_name_that_is_no_text_is_rejected(engine: Engine, tmp_path: Path, place: str) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + (b"/\xff" if place == "folder" else b"/x")))
    folder.mkdir()
    path = folder / os.fsdecode(b"\xff.csv" if place == "file" else b"x.csv")
    path.write_text(csv_of(samples_of(120)))
    good = folder.parent / "good.csv"
    good.write_text(csv_of(samples_of(120, seed=1)))
    rejected, loaded = sorted(load(engine, path, good), key=lambda report: report.outcome, reverse=True)
    assert (rejected.outcome, rejected.reason) == (FileOutcome.REJECTED, RejectionReason.UNREADABLE)
    assert rejected.name.isprintable()
    assert "not UTF-8" in rejected.message
    assert loaded.outcome == FileOutcome.NEW


def test_a_report_says_everything_in_json_types(engine: Engine, write_csv: WriteCsv) -> None:
    good = load_one(engine, write_csv(csv_of(samples_of(120)))).as_dict()
    assert good["seconds"] > 0
    assert good | {"seconds": 0} == {
        "name": "motor.csv",
        "outcome": "new",
        "reason": None,
        "message": "",
        "signal_ids": [str(signals(engine)[0].id)],
        "n_rows": 120,
        "n_batches": 1,
        "seconds": 0,
        "recorded_at_source": "mtime",
    }
    bad = load_one(engine, write_csv("", "empty.csv")).as_dict()
    assert (bad["outcome"], bad["reason"], bad["n_rows"]) == ("failed", "csv_error", 0)


def test_reports_come_while_the_files_are_loaded(engine: Engine, write_csv: WriteCsv) -> None:
    paths = [write_csv(csv_of(samples_of(110, seed=n)), f"{n}.csv") for n in range(3)]
    reports = loader.load_files(
        engine,
        paths,
        options=loader.LoadOptions(sample_rate_hz=FS),
        settings=IngestSettings(),
        features=FeatureSettings(),
    )
    for n in range(3):
        assert next(reports).name == f"{n}.csv"
        assert len(signals(engine)) == n + 1


def test_a_database_that_stays_away_stops_the_loading(write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "ATTEMPTS", 2)
    nowhere = create_engine("postgresql+psycopg://somebody:secret@127.0.0.1:9/nothing", DatabaseSettings())
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:9") as raised:
        load(nowhere, write_csv(csv_of(samples_of(110))))
    assert "secret" not in str(raised.value)


def test_an_error_of_our_own_fails_one_file_and_not_its_neighbour(
    engine: Engine, write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = file_batches.store_batches
    paths = [write_csv(csv_of(samples_of(110, seed=n)), f"{n}.csv") for n in range(2)]

    def stumble(conn: Any, file: Any, **kwargs: Any) -> Any:
        stored = store(conn, file, **kwargs)
        if file.path.endswith("0.csv"):
            raise ZeroDivisionError("a mistake")
        return stored

    monkeypatch.setattr(loader, "store_batches", stumble)
    broken, good = load(engine, *paths)
    assert (broken.outcome, broken.reason) == (FileOutcome.FAILED, FailureReason.INTERNAL_ERROR)
    assert broken.message == "ZeroDivisionError: a mistake"
    assert good.outcome == FileOutcome.NEW
    assert [row.processing_status for row in signals(engine)] == ["failed", "pending"]
    assert signals(engine)[0].phase_a is None
