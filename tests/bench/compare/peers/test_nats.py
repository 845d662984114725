from pathlib import Path

import pytest

from bench.compare.peers.nats import NatsPeer


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[NatsPeer]:
    """Return peers that do not sync, and do, with a server whose version is in a file."""
    server = tmp_path / "nats-server"
    server.write_text(f'#!/bin/sh\nread line < {tmp_path}/version && echo "$line"\n')
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    return [NatsPeer("nats", is_pipelined=False, syncs_always=each) for each in (False, True)]


def test_an_old_server_cannot_sync_every_write(peers: list[NatsPeer], tmp_path: Path) -> None:
    (tmp_path / "version").write_text("nats-server: v2.9.10\n")
    assert [peer.missing() for peer in peers] == [
        None,
        "nats-server 2.10 for sync_interval: always; this one is 2.9.10",
    ]


def test_a_newer_server_can(peers: list[NatsPeer], tmp_path: Path) -> None:
    (tmp_path / "version").write_text("nats-server: v2.10.1\n")
    assert [peer.missing() for peer in peers] == [None, None]


def test_only_what_is_not_synced_is_said_not_to_be_durable(peers: list[NatsPeer]) -> None:
    assert [peer.is_durable for peer in peers] == [False, True]
    assert ["within two minutes" in peer.remark for peer in peers] == [True, False]


def test_a_missing_server_or_client_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, peers: list[NatsPeer]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert peers[0].missing() == "nats-py (PyPI)"
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    found = NatsPeer("nats", is_pipelined=False, syncs_always=False)
    assert found.missing() == "nats-server (Debian)"
