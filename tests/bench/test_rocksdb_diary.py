from pathlib import Path

from bench import rocksdb_diary
from bench.rocksdb_diary import COMPACTION, FLUSH, WRITERS_HELD_UP, Activity
from multiraft.storage.rocks import RocksEngine


def event(at_us: int, job: int, name: str) -> str:
    return (
        "2026/11/27-19:06:34.022003 1398 (Original Log Time 2026/11/27-19:06:34.021997) "
        f'EVENT_LOG_v1 {{"time_micros": {at_us}, "cf_name": "raft", "job": {job}, '
        f'"event": "{name}", "lsm_state": [2, 0]}}'
    )


def test_work_lasts_from_its_start_to_its_end() -> None:
    lines = [
        event(100, 3, "flush_started"),
        event(150, 4, "compaction_started"),
        event(160, 3, "table_file_creation"),
        event(2_100, 3, "flush_finished"),
        "2026/11/27-19:06:34.022003 1398 [db/db_impl.cc:1] Level-0 commit",
        event(5_150, 4, "compaction_finished"),
        event(6_000, 5, "flush_started"),
    ]
    found = list(rocksdb_diary.activities(lines))
    assert found == [Activity(FLUSH, 100, 2_100), Activity(COMPACTION, 150, 5_150)]
    assert [activity.ms for activity in found] == [2.0, 5.0]


def test_an_end_without_a_start_is_of_a_file_that_is_gone() -> None:
    assert list(rocksdb_diary.activities([event(100, 3, "flush_finished")])) == []


def test_writers_that_are_held_up_are_told_with_the_time_of_the_line() -> None:
    lines = [
        "2026/11/27-19:06:34.500000 13 [WARN] [data] Stalling writes because we have 4 memtables",
        "2026/11/27-19:06:35.500000 13 [WARN] [data] Stopping writes because we have 5 memtables",
    ]
    first, second = rocksdb_diary.activities(lines)
    assert first.kind == second.kind == WRITERS_HELD_UP
    assert second.began_us - first.began_us == 1_000_000
    assert first.ms == 0.0


def test_the_files_of_a_real_engine_can_be_read(tmp_path: Path) -> None:
    engine = RocksEngine.open(tmp_path / "node")
    engine.close()
    assert rocksdb_diary.read(tmp_path / "node") == []


def test_files_are_read_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    directory = tmp_path / "rocks"
    directory.mkdir()
    (directory / "LOG.old.1700").write_text(event(100, 3, "flush_started"))
    (directory / "LOG").write_text(event(900, 3, "flush_finished"))
    assert rocksdb_diary.read(tmp_path) == [Activity(FLUSH, 100, 900)]
