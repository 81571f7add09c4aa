"""Finding files: what is asked for is read once, and nothing outside, nothing that is no file."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_pipeline.domain import RejectionReason
from signal_pipeline.errors import FileRejected, SettingsError
from signal_pipeline.ingest.sources import (
    MAX_EQUIPMENT_LENGTH,
    Discovery,
    check_source,
    discover,
    equipment_of,
    open_csv,
    printable,
)

posix = pytest.mark.skipif(os.name != "posix", reason="pipes, links and modes of POSIX")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with four CSVs, beside a folder with a secret."""
    root = tmp_path.resolve() / "root"
    for name in ("b/2.csv", "b/1.CSV", "a/deep/er/3.csv", "0.csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "notes.txt").write_text("no")
    outside = tmp_path.resolve() / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text("secret")
    return root


def found(*named: Path, data_roots: tuple[Path, ...] = (), max_bytes: int = 1000) -> Discovery:
    return discover(named, data_roots=data_roots, max_bytes=max_bytes)


def names(discovery: Discovery, root: Path) -> list[str]:
    return [source.path.relative_to(root).as_posix() for source in discovery.sources]


def reasons(discovery: Discovery) -> dict[str, RejectionReason]:
    return {Path(rejection.name).name: rejection.reason for rejection in discovery.rejections}


def test_a_folder_gives_the_csvs_below_it_in_order(root: Path) -> None:
    discovery = found(root)
    assert names(discovery, root) == ["0.csv", "a/deep/er/3.csv", "b/1.CSV", "b/2.csv"]
    assert not discovery.rejections
    assert {source.root for source in discovery.sources} == {root}
    assert discovery.sources[0].size == len("0.csv")


def test_a_file_that_is_named_may_have_any_suffix_and_counts_once(root: Path) -> None:
    discovery = found(root / "notes.txt", root / "0.csv", root, root / "b" / ".." / "0.csv")
    assert names(discovery, root) == ["0.csv", "a/deep/er/3.csv", "b/1.CSV", "b/2.csv", "notes.txt"]


def test_hidden_files_and_folders_are_left_alone(root: Path) -> None:
    (root / "._0.csv").write_text("a Mac's")
    (root / ".git").mkdir()
    (root / ".git" / "x.csv").write_text("x")
    assert len(found(root).sources) == 4


def test_what_is_not_there_is_rejected_by_name(root: Path) -> None:
    discovery = found(root / "gone.csv", root / "0.csv" / "inside.csv", root / "0.csv")
    assert names(discovery, root) == ["0.csv"]
    assert reasons(discovery) == {"gone.csv": RejectionReason.NOT_FOUND, "inside.csv": RejectionReason.NOT_A_FILE}


def test_a_file_above_the_limit_is_too_large_without_being_read(root: Path) -> None:
    with (root / "large.csv").open("wb") as file:
        file.truncate(10 * 2**30)
    discovery = found(root)
    assert reasons(discovery) == {"large.csv": RejectionReason.TOO_LARGE}
    assert "10737418240 bytes" in discovery.rejections[0].message
    assert len(discovery.sources) == 4
    with pytest.raises(FileRejected, match="at most 1000"):
        open_csv(root / "large.csv", max_bytes=1000)


def test_only_files_below_a_data_root_are_read(root: Path) -> None:
    secret = root.parent / "outside" / "secret.csv"
    discovery = found(root, secret, root / ".." / "outside" / "secret.csv", secret.parent, data_roots=(root,))
    assert len(discovery.sources) == 4
    assert {rejection.reason for rejection in discovery.rejections} == {RejectionReason.OUTSIDE_DATA_ROOT}
    assert len(discovery.rejections) == 3
    assert "DATA_ROOTS" in discovery.rejections[0].message


def test_a_root_whose_name_begins_the_same_is_another_root(root: Path) -> None:
    other = root.with_name("root-other")
    other.mkdir()
    (other / "x.csv").write_text("x")
    assert reasons(found(other / "x.csv", data_roots=(root,))) == {"x.csv": RejectionReason.OUTSIDE_DATA_ROOT}


@posix
def test_links_that_leave_the_root_are_refused_and_those_inside_are_followed_once(root: Path) -> None:
    (root / "out.csv").symlink_to(root.parent / "outside" / "secret.csv")
    (root / "out_folder").symlink_to(root.parent / "outside")
    (root / "in.csv").symlink_to(root / "0.csv")
    (root / "in_folder").symlink_to(root / "b")
    discovery = found(root)
    assert names(discovery, root) == ["0.csv", "a/deep/er/3.csv", "b/1.CSV", "b/2.csv"]
    assert reasons(discovery) == dict.fromkeys(["out.csv", "out_folder"], RejectionReason.OUTSIDE_DATA_ROOT)


@posix
def test_a_link_that_a_person_names_leads_to_its_file(root: Path) -> None:
    link = root.parent / "link.csv"
    link.symlink_to(root / "0.csv")
    assert names(found(link), root) == ["0.csv"]
    assert names(found(link, data_roots=(root,)), root) == ["0.csv"]


@posix
def test_links_in_circles_end(root: Path) -> None:
    (root / "b" / "up").symlink_to(root)
    (root / "x.csv").symlink_to(root / "y.csv")
    (root / "y.csv").symlink_to(root / "x.csv")
    (root / "dangling.csv").symlink_to(root / "nowhere")
    discovery = found(root)
    assert len(discovery.sources) == 4
    assert set(reasons(discovery)) == {"x.csv", "y.csv", "dangling.csv"}
    assert reasons(discovery)["dangling.csv"] == RejectionReason.NOT_FOUND


@posix
def test_pipes_sockets_and_devices_are_refused_without_waiting(root: Path) -> None:
    os.mkfifo(root / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # a socket's path is short
        try:
            server.bind("socket.csv")
        finally:
            os.chdir(here)
        (root / "device.csv").symlink_to("/dev/zero")
        discovery = found(root, Path("/dev/zero"), data_roots=(Path("/"),))
    assert reasons(discovery) == dict.fromkeys(
        ["pipe.csv", "socket.csv", "device.csv", "zero"], RejectionReason.NOT_A_FILE
    )
    for name in ("pipe.csv", "socket.csv", "b"):
        with pytest.raises(FileRejected) as raised:
            open_csv(root / name)
        assert raised.value.reason == RejectionReason.NOT_A_FILE


@posix
def test_a_link_put_in_place_after_the_check_is_not_followed(root: Path) -> None:
    for path, target in ((root / "0.csv", "secret.csv"), (root / "b" / "2.csv", "")):
        source = check_source(path, data_roots=(root,), max_bytes=1000)
        swapped = path if target else path.parent
        swapped.rename(root / f"moved-{swapped.name}")
        swapped.symlink_to(root.parent / "outside" / target)
        with pytest.raises(FileRejected) as raised:
            open_csv(source.path)
        assert raised.value.reason == RejectionReason.NOT_A_FILE


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_rejected(root: Path) -> None:
    (root / "0.csv").chmod(0)
    (root / "b").chmod(0)
    try:
        discovery = found(root)
        with pytest.raises(FileRejected) as raised:
            open_csv(root / "0.csv")
    finally:
        (root / "b").chmod(0o700)
    assert raised.value.reason == RejectionReason.UNREADABLE
    assert reasons(discovery) == {"b": RejectionReason.UNREADABLE}


def test_an_opened_file_is_read_from_its_beginning(root: Path) -> None:
    with open_csv(root / "0.csv") as file:
        assert file.read() == b"0.csv"


@posix
def test_a_name_that_is_no_text_is_rejected_and_shown_escaped(root: Path) -> None:
    try:
        (Path(os.fsdecode(os.fsencode(root) + b"/\xff.csv"))).write_text("x")
    except OSError:
        pytest.skip("this file system holds only UTF-8 names")
    (rejection,) = found(root).rejections
    assert rejection.reason == RejectionReason.UNREADABLE
    assert rejection.name.endswith(r"\udcff.csv")
    assert rejection.message.isprintable()


@posix
def test_hostile_names_are_read_and_shown_on_one_line(root: Path) -> None:
    name = "'; DROP TABLE raw_signals; --\n\x1b[2J\x1b]0;x\x07\u202e.csv"
    (root / name).write_text("x")
    (source,) = found(root / name).sources
    assert source.path.name == name
    assert source.name == r"'; DROP TABLE raw_signals; --\n\x1b[2J\x1b]0;x\x07\u202e.csv"


@pytest.mark.parametrize("path", ["nul\x00.csv", "x" * 5000])
def test_a_path_that_no_file_can_have_is_rejected(root: Path, path: str) -> None:
    (rejection,) = found(root / path).rejections
    assert rejection.reason == RejectionReason.UNREADABLE
    with pytest.raises(FileRejected):
        check_source(root / path, data_roots=(), max_bytes=10)


@given(text=st.text(max_size=300))
def test_whatever_a_text_holds_it_is_shown_on_one_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable() or len(text) > 200


def test_the_equipment_is_the_argument_or_the_folder(root: Path) -> None:
    assert equipment_of(root / "b" / "2.csv") == "b"
    assert equipment_of(root / "b" / "2.csv", " Pump 7 ") == "Pump 7"
    assert equipment_of(Path("/x.csv")) == "unnamed"
    assert equipment_of(Path("/a\nb\x1b[31m/x.csv")) == "a_b_[31m"
    assert equipment_of(Path("/") / ("m" * 250) / "x.csv") == "m" * MAX_EQUIPMENT_LENGTH


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 200, "\x1b[31m"])
def test_an_equipment_that_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="equipment"):
        equipment_of(Path("/a/x.csv"), name)
