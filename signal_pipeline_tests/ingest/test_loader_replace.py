"""Known files on purpose: loaded again in place of what they gave, and followed to where they lie now."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.db.features import store_features
from signal_pipeline.ingest.dialect import CsvDialect
from signal_pipeline.ingest.load_report import FileOutcome
from signal_pipeline.settings import IngestSettings
from signal_pipeline_tests.db.rows import NOON, change, features_of
from signal_pipeline_tests.ingest.conftest import WriteCsv
from signal_pipeline_tests.ingest.loading import csv_of, file_sources, load_one, read_back, samples_of, signals

HALVES = IngestSettings(csv_batch_size=100)


def complete(engine: Engine) -> None:
    """As if everything had been processed, a window of features each, one in each hour from noon on."""
    with engine.begin() as conn:
        for hour, row in enumerate(signals(engine)):
            at = NOON + timedelta(hours=hour)
            store_features(conn, [features_of(row.id, row.equipment_id, start=at, n=1)])
    lease = "claim_token = gen_random_uuid(), claimed_by = 'test', lease_expires_at = now()"
    nobody = "claim_token = NULL, claimed_by = NULL, lease_expires_at = NULL"
    change(engine, f"UPDATE raw_signals SET processing_status = 'processing', {lease}")
    change(engine, f"UPDATE raw_signals SET processing_status = 'completed', finalized_at = now(), {nobody}")


def left(engine: Engine) -> tuple[int, int]:
    """Features, and hours that have any."""
    with engine.connect() as conn:
        tables = ("features", "hourly_feature_summary")
        counts = [conn.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in tables]
    return counts[0], counts[1]


def test_a_known_file_is_loaded_again_at_another_rate_when_a_person_asks_for_it(
    engine: Engine, write_csv: WriteCsv
) -> None:
    path = write_csv(csv_of(samples_of(200)))
    first = load_one(engine, path, equipment="wrong", settings=HALVES)
    complete(engine)
    assert left(engine) == (2, 2)
    assert load_one(engine, path, sample_rate_hz=500.0).outcome == FileOutcome.KNOWN

    for _ in range(2):  # again it comes to the same
        report = load_one(engine, path, equipment="right", sample_rate_hz=500.0, settings=HALVES, replace=True)
        assert (report.outcome, report.signal_ids) == (FileOutcome.NEW, first.signal_ids)
        assert report.message.startswith("replaces 2 signals, loaded as motor.csv for ")
        assert [(row.processing_status, row.sample_rate_hz) for row in signals(engine)] == [("pending", 500.0)] * 2
        assert left(engine) == (0, 0)
    assert len(file_sources(engine)) == 1


def test_a_new_file_is_loaded_as_ever_when_known_ones_are_to_be_replaced(engine: Engine, write_csv: WriteCsv) -> None:
    report = load_one(engine, write_csv(csv_of(samples_of(120))), replace=True)
    assert (report.outcome, report.message) == (FileOutcome.NEW, "")


def test_a_file_that_has_changed_replaces_what_its_earlier_version_gave(engine: Engine, write_csv: WriteCsv) -> None:
    path = write_csv(csv_of(samples_of(300)))
    load_one(engine, path, settings=HALVES)
    other = load_one(engine, write_csv(csv_of(samples_of(120, seed=9)), "other.csv"))
    complete(engine)
    write_csv(csv_of(samples_of(130, seed=1)))

    report = load_one(engine, path, settings=HALVES, replace=True)
    assert (report.outcome, report.n_rows) == (FileOutcome.NEW, 130)
    assert report.message.startswith("replaces 3 signals, loaded as motor.csv for ")
    assert {row.id for row in signals(engine)} == {*report.signal_ids, *other.signal_ids}
    assert left(engine) == (1, 1)
    assert [source.path for source in file_sources(engine)] == [str(path), str(path.with_name("other.csv"))]


def test_without_being_asked_to_replace_it_a_changed_file_stands_beside_its_earlier_version(
    engine: Engine, write_csv: WriteCsv
) -> None:
    for seed in range(2):
        path = write_csv(csv_of(samples_of(120, seed=seed)))
        assert load_one(engine, path).outcome == FileOutcome.NEW
    assert len(signals(engine)) == 2


@pytest.mark.parametrize("changed", [False, True])
def test_a_replacement_that_cannot_be_read_leaves_what_was_there(
    engine: Engine, write_csv: WriteCsv, *, changed: bool
) -> None:
    path = write_csv(csv_of(samples_of(120)))
    load_one(engine, path)
    complete(engine)
    before = signals(engine), file_sources(engine), left(engine)
    if changed:
        write_csv("current_R,current_S,current_T\n1,oops,3\n")
    wrong = CsvDialect() if changed else CsvDialect.from_options("R=x,S=y,T=z")
    report = load_one(engine, path, dialect=wrong, replace=True)
    assert report.outcome == FileOutcome.REJECTED
    assert report.message.endswith("; what was loaded before stays as it is")
    assert (signals(engine), file_sources(engine), left(engine)) == before


def test_nothing_is_replaced_while_somebody_works_on_it(engine: Engine, write_csv: WriteCsv) -> None:
    path = write_csv(csv_of(samples_of(120)))
    load_one(engine, path)
    change(
        engine,
        "UPDATE raw_signals SET processing_status = 'processing', claim_token = gen_random_uuid(), "
        "claimed_by = 'worker 7', lease_expires_at = now() + interval '1 minute'",
    )
    before = signals(engine)
    report = load_one(engine, path, replace=True)
    assert report.outcome == FileOutcome.KNOWN
    assert "it was to be replaced, but worker 7 is at work on it until 20" in report.message
    assert signals(engine) == before


def test_a_known_file_that_has_moved_is_read_from_its_new_place(
    engine: Engine, write_csv: WriteCsv, tmp_path: Path
) -> None:
    samples = samples_of(200)
    path = write_csv(csv_of(samples))
    ids = load_one(engine, path, settings=HALVES).signal_ids
    (tmp_path / "archive").mkdir()
    moved = path.rename(path.parent / "archive" / path.name)
    assert "read from here from now on" in load_one(engine, moved).message
    assert [row.file_name for row in signals(engine)] == [str(moved)] * 2
    assert [one.path for one in file_sources(engine)] == [str(moved)]
    change(engine, "UPDATE raw_signals SET phase_a = NULL, phase_b = NULL, phase_c = NULL")
    assert read_back(engine, ids[0]).phases.tobytes() == samples[:, :100].tobytes()
    assert "from now on" not in load_one(engine, moved).message


def test_a_copy_of_a_known_file_does_not_take_its_place(engine: Engine, write_csv: WriteCsv) -> None:
    content = csv_of(samples_of(120))
    path = write_csv(content)
    load_one(engine, path)
    assert "from now on" not in load_one(engine, write_csv(content, "copy.csv")).message
    assert [row.file_name for row in signals(engine)] == [str(path)]
