"""Whether a directory is ours, and the errors that say why not."""

from pathlib import Path

import pytest

from multiraft import errors
from multiraft.storage import directory


def test_missing_directory_is_made_by_locking_and_holds_no_store(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with directory.lock(path):
        assert directory.prepare(path) is False


def test_lock_is_held_by_one_at_a_time_and_let_go_by_closing(tmp_path: Path) -> None:
    with directory.lock(tmp_path), pytest.raises(errors.DirectoryInUseError, match=str(tmp_path)):
        directory.lock(tmp_path)
    directory.lock(tmp_path).close()


def test_finished_directory_is_ours(tmp_path: Path) -> None:
    directory.finish(tmp_path)
    assert (tmp_path / "FORMAT").read_bytes() == b"multiraft store, format 1\n"
    assert directory.prepare(tmp_path) is True


@pytest.mark.parametrize("left", ["rocks", "options", "WATERMARK", "WATERMARK.tmp", "FORMAT.tmp"])
def test_what_an_interrupted_creation_left_is_no_obstacle(tmp_path: Path, left: str) -> None:
    (tmp_path / left).touch()
    assert directory.prepare(tmp_path) is False


def test_root_of_a_fresh_file_system_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert directory.prepare(tmp_path) is False


def test_directory_of_someone_else_is_refused_and_the_stranger_named(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(errors.DirectoryFormatError, match=r"'thesis\.tex'.*name an empty"):
        directory.prepare(tmp_path)


def test_newer_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    (tmp_path / "FORMAT").write_text("multiraft store, format 2\n")
    with pytest.raises(errors.DirectoryFormatError, match=r"format 2.*up to format 1: upgrade"):
        directory.prepare(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"multiraft store, format \n", b"multiraft store, format x\n"]
)
def test_unreadable_format_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "FORMAT").write_bytes(content)
    with pytest.raises(errors.DirectoryFormatError, match="does not say that"):
        directory.prepare(tmp_path)


def test_huge_file_named_format_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "FORMAT").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(errors.DirectoryFormatError):
        directory.prepare(tmp_path)
