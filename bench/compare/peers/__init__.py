"""The databases that take part, in the order in which they take turns."""

from collections.abc import Mapping

from bench.compare.peer import Peer
from bench.compare.peers.etcd import EtcdPeer
from bench.compare.peers.multiraft import MultiraftPeer

_PEERS: tuple[Peer, ...] = (MultiraftPeer(), EtcdPeer())

PEERS: Mapping[str, Peer] = {peer.name: peer for peer in _PEERS}
