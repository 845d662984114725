"""What the file system is asked for, in which order."""

import os
from pathlib import Path

import pytest

from multiraft.storage import durable_file


def test_new_content_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "name"
    durable_file.replace(path, b"old and longer")
    durable_file.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["name"]


def test_content_is_synced_before_the_rename_and_the_directory_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, bool]] = []
    path = tmp_path / "name"
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        calls.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    durable_file.replace(path, b"content")
    assert calls == [("name.tmp", False), (tmp_path.name, True)]
