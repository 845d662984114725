"""New nodes: they are given an ID by any member, and written down for all.

Purpose
    A joining node asks any member; the member takes the next ID from the replicated counter, writes
    into the registry where the node listens and is, and answers with what the node needs to begin.
Invariants
    - An ID is given once, whatever becomes of the asker (rule A7): a lost answer wastes an ID.
"""

import msgspec

from multiraft.client.router import Router
from multiraft.ids import NodeId
from multiraft.model import encoding, keys
from multiraft.model.locality import Locality
from multiraft.model.requests import Get, GetResult, Increment, IncrementResult, Put
from multiraft.net.transport import NodeAddress


class Join(msgspec.Struct, frozen=True, array_like=True):
    """New node -> any member: I listen at `address`, and am at `locality`; let me in."""

    address: str
    locality: Locality = ()


class Joined(msgspec.Struct, frozen=True, array_like=True):
    """The answer: your ID for good, and whom you will meet. `refusal` says why not."""

    cluster_id: str = ""
    node_id: NodeId = NodeId(0)
    nodes: tuple[NodeAddress, ...] = ()
    refusal: str = ""


unpack_join = msgspec.msgpack.Decoder(Join).decode
unpack_joined = msgspec.msgpack.Decoder(Joined).decode
_unpack_entry = msgspec.msgpack.Decoder(NodeAddress).decode


async def admit(router: Router, request: Join) -> NodeId:
    """Give a new node an ID and write it down. Raises what the router raises."""
    reply = await router.execute((Increment(keys.NODE_ID_COUNTER, 1),))
    result = reply.results[0]
    assert isinstance(result, IncrementResult), "an increment gives a number"
    node = NodeAddress(NodeId(result.value), request.address, request.locality)
    await router.execute((Put(keys.node_key(node.node_id), encoding.pack(node)),))
    return node.node_id


async def find(router: Router, node_id: NodeId) -> NodeAddress | None:
    """Return the entry of a node; None if there is none. Raises what the router raises."""
    reply = await router.execute((Get(keys.node_key(node_id)),))
    result = reply.results[0]
    assert isinstance(result, GetResult), "a get gives a value"
    return None if result.value is None else _unpack_entry(result.value)
