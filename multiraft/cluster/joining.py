"""How a store gets its identity in a cluster that runs already.

Purpose
    A new store asks the nodes it was told of, one after the other, to let it in, and makes the ID
    that it is given durable before it says anything under it. A store that has an identity keeps
    it, whatever it is told; it only makes sure that it was told of nodes of its own cluster, and
    that nobody runs a copy of it.
Invariants
    - An ID that was given is written down and synced before this returns (rule A7). If the process
      dies before, the ID is lost and the next attempt gets another.
"""

import asyncio
from collections.abc import Sequence

from multiraft import errors
from multiraft.cluster import registry
from multiraft.cluster.registry import Join, Joined
from multiraft.model import encoding
from multiraft.net.transport import (
    PROTOCOL_VERSION,
    ConnectionClass,
    FrameKind,
    Hello,
    NodeAddress,
    Transport,
    Welcome,
)
from multiraft.ranges import bootstrap
from multiraft.storage import identity
from multiraft.storage.engine import Engine
from multiraft.storage.identity import Identity

ANSWER_TIMEOUT_S = 15.0
TOLD_TIMEOUT_S = 2.0
"""So long a node that starts again waits for others to tell where they reach it."""


async def join(
    engine: Engine, transport: Transport, members: Sequence[str], request: Join
) -> Identity:
    """Give the new store in `engine` an identity. Raises StartupError when no member lets it in."""
    problems = []
    for address in members:
        try:
            joined = await _ask(transport, address, request)
        except errors.MultiraftError as error:
            said = error.message
            problems.append(said if address in said else f"{address}: {said}")
            continue
        me = Identity(joined.cluster_id, joined.node_id)
        mine = NodeAddress(joined.node_id, request.address, request.locality)
        batch = engine.new_batch()
        identity.create(engine, batch, me)
        bootstrap.write_nodes(batch, engine, (*joined.nodes, mine))
        engine.write(batch)
        await _synced(engine)
        return me
    raise errors.StartupError(
        "no node of the cluster let this one in: "
        + "; ".join(problems)
        + ". Check the addresses, and that a majority of the nodes runs"
    )


async def check_same_cluster(transport: Transport, members: Sequence[str], me: Identity) -> None:
    """Make sure that the first of `members` that answers belongs to the cluster of `me`.

    Nobody need answer: the store knows its cluster already. Raises WrongClusterError.
    """
    hello = Hello(PROTOCOL_VERSION, ConnectionClass.REQUESTS, me.cluster_id)
    for address in members:
        try:
            connection = await transport.connect(address, hello, lambda _: _Closing())
        except errors.WrongClusterError as error:
            raise errors.WrongClusterError(
                f"the directory belongs to n{me.node_id} of cluster {me.cluster_id}, but "
                f"{address} is of another cluster: name nodes of its own cluster, or an empty "
                f"directory ({error.message})"
            ) from error
        except errors.MultiraftError:
            continue
        connection.close("only looked who is there")
        return


async def check_moved(
    transport: Transport, nodes: Sequence[NodeAddress], me: Identity, listen: str
) -> None:
    """Make sure that the store of `me` runs nowhere but at `listen`, where it is being started.

    `nodes` tell where it was reached last, and whom to ask where they reach it: those that answer
    in time. If it runs there, this directory is a copy of that one, or the other way round; the
    other nodes would take both for one. Raises WrongClusterError.
    """
    others = [node for node in nodes if node.node_id != me.node_id]
    told = await asyncio.gather(*(_told_by(transport, node, me) for node in others))
    places = dict.fromkeys(_addresses_of(me, nodes))
    for known in told:
        places.update(dict.fromkeys(_addresses_of(me, known)))
    for place in places:
        if place == listen:
            continue
        if await _look(transport, NodeAddress(me.node_id, place), me) is None:
            continue  # Nobody is there, or somebody else: the store has moved.
        raise errors.WrongClusterError(
            f"n{me.node_id} of cluster {me.cluster_id} runs already, at {place}: was the "
            "directory copied? Stop that one first, or join as a new node with an empty directory"
        )


def _addresses_of(me: Identity, nodes: Sequence[NodeAddress]) -> list[str]:
    return [node.address for node in nodes if node.node_id == me.node_id]


async def _told_by(
    transport: Transport, node: NodeAddress, me: Identity
) -> tuple[NodeAddress, ...]:
    """Return which nodes `node` knows; none if it does not answer in time."""
    try:
        async with asyncio.timeout(TOLD_TIMEOUT_S):
            welcome = await _look(transport, node, me)
    except TimeoutError:
        return ()
    return () if welcome is None else welcome.nodes


async def _look(transport: Transport, node: NodeAddress, me: Identity) -> Welcome | None:
    """Return what `node` says to whoever connects; None if it is not reached at its address."""
    hello = Hello(
        PROTOCOL_VERSION,
        ConnectionClass.REQUESTS,
        me.cluster_id,
        target_node_id=node.node_id,
    )
    try:
        connection = await transport.connect(node.address, hello, lambda _: _Closing())
    except errors.MultiraftError:
        return None
    connection.close("only looked who is there")
    return connection.welcome


async def _ask(transport: Transport, address: str, request: Join) -> Joined:
    handler = _JoinedHandler(asyncio.get_running_loop().create_future())
    hello = Hello(PROTOCOL_VERSION, ConnectionClass.REQUESTS)
    connection = await transport.connect(address, hello, lambda _: handler)
    try:
        connection.send(FrameKind.JOIN, encoding.pack(request))
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            joined = await handler.joined
    except TimeoutError:
        raise errors.NodeUnavailableError(
            target=address, reason=f"no answer within {ANSWER_TIMEOUT_S:g} s"
        ) from None
    finally:
        connection.close("joined, or not")
    if joined.refusal:
        raise errors.StartupError(joined.refusal)
    return joined


class _Closing:
    """The handler of a connection on which nothing is said."""

    def received(self, kind: FrameKind, payload: bytes) -> None:
        raise errors.ProtocolError(reason=f"unexpected frame {kind}")

    def closed(self, reason: str) -> None:
        """As it should be."""


class _JoinedHandler:
    """Waits for the one answer to a Join."""

    def __init__(self, joined: asyncio.Future[Joined]) -> None:
        self.joined = joined

    def received(self, kind: FrameKind, payload: bytes) -> None:
        if kind is not FrameKind.JOINED:
            raise errors.ProtocolError(reason=f"unexpected frame {kind} while joining")
        if not self.joined.done():
            self.joined.set_result(registry.unpack_joined(payload))

    def closed(self, reason: str) -> None:
        if not self.joined.done():
            self.joined.set_exception(
                errors.NodeUnavailableError(target="the member asked", reason=reason)
            )


async def _synced(engine: Engine) -> None:
    """Return once everything written to `engine` is durable."""
    durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: BaseException | None) -> None:
        if durable.done():
            return  # The start was cancelled.
        if error is None:
            durable.set_result(None)
        else:
            durable.set_exception(error)

    engine.sync(done)
    await durable
