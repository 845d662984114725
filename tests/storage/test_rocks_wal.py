"""Looking through RocksDB's log for what would hang it."""

from pathlib import Path

import pytest

from multiraft.storage import rocks_wal
from multiraft.storage.rocks import RocksEngine
from tests.support import engines

BLOCK = 32 * 1024


def record(kind: int, length: int) -> bytes:
    return b"crc!" + length.to_bytes(2, "little") + bytes([kind]) + b"\x05" * length


def unreadable_at(tmp_path: Path, content: bytes) -> int | None:
    path = tmp_path / "000001.log"
    path.write_bytes(content)
    return rocks_wal.unreadable_at(path)


@pytest.mark.parametrize("kind", [5, 6, 7, 8, 11])
def test_record_of_a_recyclable_type_is_found(tmp_path: Path, kind: int) -> None:
    good = record(1, 100) + record(1, 0)
    assert unreadable_at(tmp_path, good + record(kind, 20) + record(1, 3)) == len(good)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 9, 10, 130])
def test_record_of_another_type_is_passed_over(tmp_path: Path, kind: int) -> None:
    assert unreadable_at(tmp_path, record(kind, 20) + record(5, 0)) == 27


def test_payload_is_never_taken_for_a_head(tmp_path: Path) -> None:
    assert unreadable_at(tmp_path, record(1, 1_000)) is None


@pytest.mark.parametrize("left", range(1, 7))
def test_head_never_begins_in_the_last_six_bytes_of_a_block(tmp_path: Path, left: int) -> None:
    filled = record(1, BLOCK - 7 - left) + b"\x05" * left
    assert unreadable_at(tmp_path, filled) is None
    assert unreadable_at(tmp_path, filled + record(5, 0)) == BLOCK


def test_search_goes_on_at_the_next_block_after_a_senseless_length(tmp_path: Path) -> None:
    bad = record(1, 50)[:-50] + b"\x05" * 50
    bad = bad[:4] + (60_000).to_bytes(2, "little") + bad[6:]
    assert unreadable_at(tmp_path, bad.ljust(BLOCK, b"\x05") + record(6, 0)) == BLOCK


def test_search_goes_on_at_the_next_block_after_padding(tmp_path: Path) -> None:
    assert unreadable_at(tmp_path, bytes(BLOCK) + record(1, 5) + record(7, 0)) == BLOCK + 12


@pytest.mark.parametrize("length", range(8))
def test_file_that_ends_within_a_head_is_no_problem(tmp_path: Path, length: int) -> None:
    content = (record(1, 0) + record(5, 0))[: 6 + length]
    assert unreadable_at(tmp_path, content) == (7 if len(content) >= 14 else None)


def test_log_of_a_live_engine_is_left_alone(scratch: Path) -> None:
    engine = RocksEngine.open(scratch / "store")  # with buffers that hold all of it
    for i in range(300):
        engines.put(engine, b"%d" % i, b"\x05" * (i * 7 % 900), engine.data)
    log = max((scratch / "store" / "rocks").glob("*.log"))
    before = log.read_bytes()
    assert len(before) > 3 * BLOCK
    rocks_wal.cut_unreadable(log.parent)
    assert log.read_bytes() == before
    engine.close()


def test_everything_from_the_first_such_record_on_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "000001.log"
    path.write_bytes(record(1, 9) + record(5, 9) + record(1, 9))
    (tmp_path / "000002.sst").write_bytes(record(5, 9))
    rocks_wal.cut_unreadable(tmp_path)
    assert path.read_bytes() == record(1, 9)
    assert (tmp_path / "000002.sst").read_bytes() == record(5, 9)
