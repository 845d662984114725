import pytest

from bench.compare.__main__ import main


def test_an_unknown_peer_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "multiraft,oracle"])
    assert "'oracle' is not one of multiraft, etcd" in capsys.readouterr().err
