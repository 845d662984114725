import json
from pathlib import Path

from bench.compare.peers import multiraft


def test_a_file_to_load_has_rows_of_the_size_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    multiraft.write_rows(file, 3, 256)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["key"] for row in rows] == ["load/00000000", "load/00000001", "load/00000002"]
    assert [len(row["value"]) for row in rows] == [256] * 3
    assert len({row["value"] for row in rows}) == 3
