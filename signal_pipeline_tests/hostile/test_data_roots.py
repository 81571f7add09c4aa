"""CSVs are read below the data roots only: when they are loaded, when they are read again, and in between.

Not here: every kind of path and link by itself (`ingest/test_sources.py`).
"""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from signal_pipeline.domain import FailureReason, RejectionReason
from signal_pipeline.errors import CSVLoaderError
from signal_pipeline.ingest import csv_reader, loader
from signal_pipeline.processing import load as work
from signal_pipeline.settings import IngestSettings
from signal_pipeline_tests.ingest.loading import csv_of, load_one, read_back, samples_of

GOOD = csv_of(samples_of(300))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with one recording, beside a folder with a secret that looks the same."""
    root = tmp_path.resolve() / "root"
    for folder in (root / "pump", tmp_path.resolve() / "secrets"):
        folder.mkdir(parents=True)
        (folder / "1.csv").write_text(GOOD)
    return root


def replace_by_link(root: Path) -> None:
    """What anybody may do who can write to the root: the folder now leads out of it."""
    (root / "pump").rename(root / "gone")
    (root / "pump").symlink_to(root.parent / "secrets")


def loaded_without_samples(engine: Engine, root: Path) -> UUID:
    report = load_one(engine, root / "pump" / "1.csv", settings=IngestSettings(data_roots=(root,)))
    with engine.begin() as conn:
        conn.execute(text("UPDATE raw_signals SET phase_a = NULL, phase_b = NULL, phase_c = NULL"))
    return report.signal_ids[0]


def refused(engine: Engine, signal_id: UUID, root: Path) -> CSVLoaderError:
    with pytest.raises(CSVLoaderError) as caught:
        read_back(engine, signal_id, IngestSettings(data_roots=(root,)))
    return caught.value


def test_a_folder_that_became_a_link_out_of_the_root_is_not_read_again(engine: Engine, root: Path) -> None:
    signal_id = loaded_without_samples(engine, root)
    assert read_back(engine, signal_id, IngestSettings(data_roots=(root,))).n_samples == 300
    replace_by_link(root)
    assert "lies outside the data roots" in str(refused(engine, signal_id, root))


@pytest.mark.parametrize("step", ["sha256_of", "read_rows"])
def test_a_link_put_in_place_between_check_and_opening_is_not_read_again(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    signal_id = loaded_without_samples(engine, root)
    original = getattr(work, step)

    def swapped_just_before(*arguments: Any, **options: Any) -> Any:
        replace_by_link(root)
        return original(*arguments, **options)

    monkeypatch.setattr(work, step, swapped_just_before)
    error = refused(engine, signal_id, root)
    assert "a link, or no folder, stands in its path" in str(error)
    assert error.reason is FailureReason.CSV_ERROR


def test_a_link_put_in_place_while_loading_rejects_the_file(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = csv_reader.sha256_of

    def swapped_just_before(path: Path) -> str:
        replace_by_link(root)
        return original(path)

    monkeypatch.setattr(loader, "sha256_of", swapped_just_before)
    report = load_one(engine, root / "pump" / "1.csv", settings=IngestSettings(data_roots=(root,)))
    assert (report.outcome, report.reason) == ("rejected", RejectionReason.NOT_A_FILE)


@pytest.mark.parametrize(
    "named", ["/etc/passwd", "../secrets/1.csv", "{root}/../secrets/1.csv", "/dev/zero", "/proc/self/environ"]
)
def test_a_row_that_names_a_file_outside_is_refused_without_showing_any_of_it(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """Whoever may write rows must not be able to read files through the messages of failures."""
    monkeypatch.chdir(root)
    signal_id = loaded_without_samples(engine, root)
    with engine.begin() as conn:
        conn.execute(
            text("UPDATE raw_signals SET source_id = NULL, file_hash = NULL, file_name = :name"),
            {"name": named.format(root=root)},
        )
    error = refused(engine, signal_id, root)
    assert "lies outside the data roots" in str(error)
    assert "root:" not in str(error)
