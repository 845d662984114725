"""The side file that tells a short log from a damaged one."""

import os
from pathlib import Path

import pytest

from multiraft import errors
from multiraft.storage import watermark


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / watermark.NAME
    watermark.create(path)
    return path


def reread(path: Path) -> int:
    mark = watermark.open_file(path)
    mark.close()
    return mark.sequence


def test_bytes_are_the_documented_ones(path: Path) -> None:
    mark = watermark.open_file(path)
    mark.raise_to(0x0102)
    mark.close()
    content = path.read_bytes()
    assert len(content) == 8192
    assert content[:24].hex() == "6d722d6d61726b31" + "0000000000000000" + "1df2c9a9e72251f2"
    assert content[4096:4120].hex() == "6d722d6d61726b31" + "0000000000000102" + "b1b755a2dca08919"


def test_new_file_says_zero(path: Path) -> None:
    assert reread(path) == 0


def test_raised_mark_is_in_the_file_at_once_for_other_readers(path: Path) -> None:
    mark = watermark.open_file(path)
    for sequence in (5, 6, 1_000_000):
        mark.raise_to(sequence)
        assert reread(path) == sequence
    mark.close()


def test_mark_never_falls(path: Path) -> None:
    mark = watermark.open_file(path)
    mark.raise_to(10)
    mark.raise_to(9)
    mark.close()
    assert reread(path) == 10


def test_moved_mark_is_flushed_once_per_interval(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = watermark.open_file(path)
    flushed_at: list[float] = []
    flush = watermark.Watermark.flush

    def counting(self: watermark.Watermark) -> None:
        flushed_at.append(now)
        flush(self)

    monkeypatch.setattr(watermark.Watermark, "flush", counting)
    now = 0.0
    for now, moves in ((100, True), (100.5, True), (100.9, True), (101, False), (200, False)):
        if moves:
            mark.raise_to(mark.sequence + 1)
        mark.flush_when_due(now, interval_s=1.0)
    assert flushed_at == [100, 101]
    mark.close()


def test_flush_waits_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fdatasync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}"))
    )
    mark = watermark.open_file(path)
    mark.flush()
    mark.close()
    assert synced == [str(path)]


def test_torn_write_of_one_slot_leaves_the_mark_before(path: Path) -> None:
    mark = watermark.open_file(path)
    mark.raise_to(7)
    mark.raise_to(8)
    slot = mark._slot * 4096
    mark.close()
    for length in range(1, 24):
        content = bytearray(path.read_bytes())
        content[slot + 24 - length : slot + 24] = b"\xee" * length
        path.write_bytes(content)
        assert reread(path) == 7


@pytest.mark.parametrize("bit", range(24 * 8))
def test_flipped_bit_is_never_believed(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(content)
    with pytest.raises(errors.CorruptionError, match="WATERMARK is damaged"):
        watermark.open_file(path)


def test_missing_file_is_corruption(tmp_path: Path) -> None:
    with pytest.raises(errors.CorruptionError, match="WATERMARK is missing"):
        watermark.open_file(tmp_path / watermark.NAME)


@pytest.mark.parametrize("length", [0, 24, 8191])
def test_short_file_is_corruption(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(errors.CorruptionError, match="cut short"):
        watermark.open_file(path)
