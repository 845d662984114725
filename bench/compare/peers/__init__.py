"""The databases that take part, in the order in which they take turns."""

from pathlib import Path

from bench.compare.etcd import cluster
from bench.compare.peer import Peer
from bench.compare.peers.etcd import EtcdPeer
from bench.compare.peers.etcd_python import EtcdPythonPeer
from bench.compare.peers.multiraft import MultiraftPeer
from bench.compare.peers.nats import NatsPeer
from bench.compare.peers.pysyncobj import PysyncobjPeer
from bench.compare.peers.sqlite import SqlitePeer


def peers(etcd_binary: Path | None = None) -> dict[str, Peer]:
    """Return all peers by their names; `etcd_binary` is used instead of the one that is found."""
    etcd = etcd_binary or cluster.find_binary()
    made: tuple[Peer, ...] = (
        MultiraftPeer(),
        EtcdPeer(etcd),
        EtcdPythonPeer(etcd),
        NatsPeer("nats", is_pipelined=False, syncs_always=False),
        NatsPeer("nats-pipelined", is_pipelined=True, syncs_always=False),
        NatsPeer("nats-synced", is_pipelined=True, syncs_always=True),
        PysyncobjPeer(),
        SqlitePeer(),
    )
    return {peer.name: peer for peer in made}
