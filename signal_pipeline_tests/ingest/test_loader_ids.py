"""Files are known by their hash, whatever the ids of their rows were made of, and rows keep the ids that they have."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid5

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.db.ids import NAMESPACE
from signal_pipeline.ingest.csv_reader import sha256_of
from signal_pipeline.ingest.load_report import FileOutcome
from signal_pipeline.settings import IngestSettings
from signal_pipeline_tests.db.rows import add_equipment, change
from signal_pipeline_tests.ingest.conftest import WriteCsv
from signal_pipeline_tests.ingest.loading import csv_of, fail, file_sources, id_of, load_one, samples_of, signals

BATCHES = IngestSettings(csv_batch_size=100)
SMALLER = IngestSettings(csv_batch_size=50)
EARLIER = datetime(2020, 2, 29, tzinfo=UTC)


def as_an_earlier_version_wrote_it(engine: Engine, path: Path) -> list[UUID]:
    """The file's rows and source get ids made of its content alone, as all had before migration 0008; the rows' ids."""
    sha256 = sha256_of(path)
    source = uuid5(NAMESPACE, sha256)
    ids = []
    with engine.begin() as conn:
        conn.execute(text("SET LOCAL session_replication_role = replica"))  # the foreign key stands in the way
        conn.execute(text("UPDATE sources SET id = :id WHERE sha256 = :sha256"), {"id": source, "sha256": sha256})
        for row in signals(engine):
            ids.append(uuid5(NAMESPACE, f"{sha256}:{row.meta['batch_index']}"))
            statement = text("UPDATE raw_signals SET id = :id, source_id = :source WHERE id = :was")
            conn.execute(statement, {"id": ids[-1], "source": source, "was": row.id})
    return ids


def test_a_file_of_an_earlier_version_is_known(engine: Engine, write_csv: WriteCsv) -> None:
    path = write_csv(csv_of(samples_of(250)))
    new = load_one(engine, path, settings=BATCHES).signal_ids
    old = as_an_earlier_version_wrote_it(engine, path)
    assert set(old).isdisjoint(new)
    report = load_one(engine, path, settings=BATCHES, recorded_at=EARLIER)
    assert (report.outcome, report.signal_ids) == (FileOutcome.KNOWN, tuple(old))
    assert [row.id for row in signals(engine)] == old


@pytest.mark.parametrize("asked", [True, False])
def test_what_replaces_rows_of_an_earlier_version_keeps_their_ids(
    engine: Engine, write_csv: WriteCsv, *, asked: bool
) -> None:
    path = write_csv(csv_of(samples_of(250)))
    load_one(engine, path, settings=BATCHES)
    old = as_an_earlier_version_wrote_it(engine, path)
    if not asked:
        fail(engine, old[1])
    report = load_one(engine, path, settings=SMALLER, recorded_at=EARLIER, replace=asked)
    assert report.outcome == FileOutcome.NEW
    assert report.signal_ids[: len(old)] == tuple(old)
    assert report.n_batches == len({*report.signal_ids}) == 5
    assert [row.id for row in signals(engine)] == list(report.signal_ids)
    (source,) = file_sources(engine)
    assert {row.source_id for row in signals(engine)} == {source.id} == {uuid5(NAMESPACE, sha256_of(path))}


def test_a_file_of_an_earlier_version_that_has_moved_is_read_from_its_new_place(
    engine: Engine, write_csv: WriteCsv
) -> None:
    path = write_csv(csv_of(samples_of(250)))
    load_one(engine, path, settings=BATCHES)
    as_an_earlier_version_wrote_it(engine, path)
    moved = path.rename(path.with_name("moved.csv"))
    assert load_one(engine, moved, settings=BATCHES).outcome == FileOutcome.KNOWN
    assert [row.file_name for row in signals(engine)] == [str(moved)] * 3
    assert [source.path for source in file_sources(engine)] == [str(moved)]


def test_a_recording_that_was_loaded_at_another_time_keeps_its_ids(engine: Engine, write_csv: WriteCsv) -> None:
    path = write_csv(csv_of(samples_of(250)))
    first = load_one(engine, path, settings=BATCHES)
    assert first.signal_ids == tuple(id_of(path, k) for k in range(3))
    again = load_one(engine, path, settings=BATCHES, recorded_at=EARLIER, replace=True)
    assert (again.outcome, again.signal_ids) == (FileOutcome.NEW, first.signal_ids)
    assert {row.recorded_at for row in signals(engine)} == {EARLIER}


@pytest.mark.parametrize("batch_index", ["null", '"x"', "99999999999999", "[]", "0", "1"])
def test_what_another_program_wrote_for_a_batchs_number_does_no_harm(
    engine: Engine, write_csv: WriteCsv, batch_index: str
) -> None:
    path = write_csv(csv_of(samples_of(250)))
    ids = load_one(engine, path, settings=BATCHES).signal_ids
    fail(engine, ids[0])
    statement = "UPDATE raw_signals SET meta = meta || CAST(:meta AS jsonb) WHERE id = :id"
    change(engine, statement, id=ids[2], meta=f'{{"batch_index": {batch_index}}}')
    report = load_one(engine, path, settings=BATCHES)
    assert (report.outcome, report.signal_ids[0], len({*report.signal_ids})) == (FileOutcome.NEW, ids[0], 3)
    assert load_one(engine, path, settings=BATCHES, replace=True).signal_ids == report.signal_ids


def test_rows_of_other_programs_get_ids_in_the_order_of_time(engine: Engine) -> None:
    equipment, ids = add_equipment(engine), []
    statement = text("INSERT INTO raw_signals (equipment_id) VALUES (:equipment) RETURNING id, created_at")
    for _ in range(5):
        with engine.begin() as conn:
            row = conn.execute(statement, {"equipment": equipment}).one()
            conn.execute(text("SELECT pg_sleep(0.002)"))
        ids.append(row.id)
        assert row.id.version == 7
        written = datetime.fromtimestamp((row.id.int >> 80) / 1000, UTC)
        assert abs((written - row.created_at).total_seconds()) < 1
    assert ids == sorted(ids)
