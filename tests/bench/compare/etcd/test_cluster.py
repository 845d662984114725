import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.compare.etcd import cluster
from bench.compare.etcd.cluster import EtcdCluster
from bench.compare.peer import Data

ADDRESSES = ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")


class Gateway:
    """Stands for the gateways of three nodes."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.leader = "2"
        self.calls: list[tuple[str, str, Any]] = []

    def call(
        self, address: str, method: str, members: Mapping[str, Any], *, timeout_s: float = 0.0
    ) -> dict[str, Any]:
        self.calls.append((address, method, members))
        if address in self.dead:
            raise ConnectionRefusedError
        return {"header": {"member_id": address[-1]}, "leader": self.leader}


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    made = Gateway()
    monkeypatch.setattr(cluster, "call", made.call)
    return made


def test_a_put_goes_to_the_next_node_and_stays_there(gateway: Gateway) -> None:
    nodes = EtcdCluster([], ADDRESSES)
    gateway.dead = {ADDRESSES[0]}

    async def put_twice() -> None:
        await nodes.put(b"k", b"v")
        await nodes.put(b"k", b"v")

    asyncio.run(put_twice())
    members = {"key": "aw==", "value": "dg=="}
    assert gateway.calls == [(ADDRESSES[number], "kv/put", members) for number in (0, 1, 1)]


def test_it_is_ready_when_all_nodes_know_a_leader(gateway: Gateway) -> None:
    nodes = EtcdCluster([], ADDRESSES)
    assert asyncio.run(nodes.is_ready())
    gateway.leader = "0"
    assert not asyncio.run(nodes.is_ready())
    gateway.leader, gateway.dead = "2", {ADDRESSES[2]}
    assert not asyncio.run(nodes.is_ready())


def test_the_leader_is_told_by_its_place(gateway: Gateway) -> None:
    assert asyncio.run(EtcdCluster([], ADDRESSES).leader()) == 1


def test_every_row_is_filled_in_once(gateway: Gateway) -> None:
    data = Data(keys=250, value_bytes=4)
    asyncio.run(EtcdCluster([], ADDRESSES).fill(data))
    puts = [put["requestPut"] for _, _, members in gateway.calls for put in members["success"]]
    assert puts == [cluster.put_members(data.key(number), data.value) for number in range(250)]
    assert max(len(members["success"]) for _, _, members in gateway.calls) <= 128


def test_the_server_on_the_path_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    binary = tmp_path / "etcd"
    binary.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cluster.find_binary() == binary
