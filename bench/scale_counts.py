"""What puts, and idle seconds, cost by nodes and ranges, in counts: `python -m bench.scale_counts`.

Real nodes on virtual time (bare_cluster.py), so the figures are the same in every run and on every
machine, and say nothing about how long anything takes. Each range has three replicas; those of the
first are on nodes 1, 2 and 3, of the next on 2, 3 and 4, and so on in a ring, and the first of the
three leads. Callers grow with the nodes; each puts into ranges of its own as far as there are
enough, one value of 256 bytes after the other.
"""

import argparse
import asyncio
from collections.abc import Callable, Iterator, Sequence

import msgspec

from bench import bare_cluster
from bench.bare_cluster import BareCluster
from multiraft.cli import workload
from multiraft.client.database import Database
from multiraft.ids import NodeId, RangeId
from multiraft.model.descriptor import RangeDescriptor
from multiraft.ranges import messages
from multiraft.ranges.outbox import SendFrame
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop

NODES = (3, 6, 12)
RANGES = (1, 4, 16, 64, 256)
CALLERS_PER_NODE = 16
PUTS_EACH = 20
REPLICAS = 3
VALUE = bytes(256)
RECORD_WAIT_S = 0.01
SETTLING_S = 2.0
"""After which nobody has anything to do any more but heartbeats."""
IDLE_S = 10.0


class Counts(msgspec.Struct, frozen=True):
    """What all nodes together have done so far, or in a while."""

    turns: int
    syncs: int
    """Of disks, those of heartbeats included."""
    frames: int
    """Between nodes."""
    group_messages: int
    """Of Raft, in those frames."""
    support_messages: int
    """Heartbeats of stores, with clock readings and answers."""
    bytes_sent: int

    def since(self, earlier: "Counts") -> "Counts":
        """Return what was counted after `earlier`."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(earlier), strict=True)
        return Counts(*(now - before for now, before in pairs))


class Row(msgspec.Struct, frozen=True):
    """One size of cluster."""

    nodes: int
    ranges: int
    callers: int
    puts: int
    busy: Counts
    """While there were puts."""
    busiest_share: float
    """Of all requests, those that the busiest node had."""
    idle: Counts
    """In IDLE_S seconds without requests."""
    lookups: int
    """Of addressing records, until a new client has put into every range."""


def ring(first: int, nodes: int) -> tuple[NodeId, ...]:
    """Return the nodes that keep a range which belongs to the node at position `first`."""
    return tuple(NodeId((first + step) % nodes + 1) for step in range(REPLICAS))


def first_ranges(ranges: int, nodes: int) -> list[int]:
    """Return the numbers of the ranges with which each node's share begins."""
    shares = min(ranges, nodes)
    return [share * ranges // shares for share in range(shares)]


def key(range_number: int, number: int = 0) -> bytes:
    """Return a key of a range: the first, or another."""
    return b"%06d/%06d" % (range_number, number)


async def lay_out(db: Database, ranges: int, nodes: int) -> None:
    """Make the ranges, and have them kept and led where they belong."""
    owned = first_ranges(ranges, nodes)
    for owner, first in enumerate(owned):
        _, made = await db.admin.split(key(first))
        await _place(db, made.range_id, ring(owner, nodes))
    for number in range(ranges):
        if number not in owned:
            await db.admin.split(key(number))


async def _place(db: Database, range_id: RangeId, voters: tuple[NodeId, ...]) -> None:
    replicas = [replica.node_id for replica in (await _found(db, range_id)).replicas]
    if set(replicas) != set(voters):
        await db.admin.change_replicas(range_id, tuple(sorted(voters)))
    await db.admin.transfer(range_id, voters[0])


async def _found(db: Database, range_id: RangeId) -> RangeDescriptor:
    """Return the descriptor of a new range, once there is an addressing record of it."""
    while True:
        for info in await db.admin.ranges(with_status=False):
            if info.descriptor.range_id == range_id:
                return info.descriptor
        await asyncio.sleep(RECORD_WAIT_S)


class MessageCounter:
    """Reads the frames that nodes send to each other."""

    def __init__(self, cluster: BareCluster) -> None:
        self.of_groups = 0
        self.of_support = 0
        for node in cluster.nodes:
            node.store.outbox.send_frame = self._counted(node.store.outbox.send_frame)

    def _counted(self, send: SendFrame) -> SendFrame:
        def counted(target: NodeId, payload: bytes) -> None:
            frame = messages.decode_peer_frame(payload)
            self.of_groups += len(frame.envelopes)
            self.of_support += len(frame.liveness)
            send(target, payload)

        return counted


def _counts(cluster: BareCluster, counter: MessageCounter) -> Counts:
    statuses = [node.status() for node in cluster.nodes]
    return Counts(
        turns=sum(status.store.turns for status in statuses),
        syncs=sum(engine.syncs for engine in cluster.engines),
        frames=sum(status.links.frames_sent for status in statuses),
        group_messages=counter.of_groups,
        support_messages=counter.of_support,
        bytes_sent=cluster.bytes_between_nodes(),
    )


async def _put(db: Database, callers: int, ranges: int) -> None:
    async def call(number: int) -> None:
        own = workload.slots_of(number, callers, ranges)
        for turn in range(PUTS_EACH):
            await db.put(key(own[turn % len(own)], number), VALUE)

    await asyncio.gather(*(call(number) for number in range(callers)))


async def _row(loop: VirtualLoop, nodes: int, ranges: int) -> Row:
    callers = CALLERS_PER_NODE * nodes
    async with bare_cluster.running(loop, nodes) as (cluster, db):
        counter = MessageCounter(cluster)
        await lay_out(db, ranges, nodes)
        async with cluster.connect("newcomer") as newcomer:
            for number in range(ranges):
                await newcomer.put(key(number), VALUE)
            lookups = newcomer.status().lookups
        await _put(db, callers, ranges)  # The first ones fill caches.
        await asyncio.sleep(SETTLING_S)
        quiet = _counts(cluster, counter)
        await asyncio.sleep(IDLE_S)
        before, requests = _counts(cluster, counter), [n.store.requests for n in cluster.nodes]
        await _put(db, callers, ranges)
        after = _counts(cluster, counter)
        served = [
            node.store.requests - earlier
            for node, earlier in zip(cluster.nodes, requests, strict=True)
        ]
    return Row(
        nodes=nodes,
        ranges=ranges,
        callers=callers,
        puts=callers * PUTS_EACH,
        busy=after.since(before),
        busiest_share=max(served) / sum(served),
        idle=before.since(quiet),
        lookups=lookups,
    )


def measure(nodes: int, ranges: int) -> Row:
    """Return what a cluster of that size does: the same each time."""
    return virtual_loop.run(lambda loop: _row(loop, nodes, ranges))


COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("nodes", lambda row: f"{row.nodes}"),
    ("ranges", lambda row: f"{row.ranges}"),
    ("callers", lambda row: f"{row.callers}"),
    ("turns", lambda row: f"{row.busy.turns / row.puts:.3f}"),
    ("syncs", lambda row: f"{row.busy.syncs / row.puts:.3f}"),
    ("frames", lambda row: f"{row.busy.frames / row.puts:.3f}"),
    ("messages", lambda row: f"{row.busy.group_messages / row.puts:.3f}"),
    ("bytes", lambda row: f"{row.busy.bytes_sent / row.puts:.0f}"),
    ("busiest", lambda row: f"{100 * row.busiest_share:.0f} %"),
    ("idle turns/s", lambda row: f"{row.idle.turns / IDLE_S / row.nodes:.1f}"),
    ("idle syncs/s", lambda row: f"{row.idle.syncs / IDLE_S / row.nodes:.1f}"),
    ("idle frames/s", lambda row: f"{row.idle.frames / IDLE_S / row.nodes:.1f}"),
    ("idle messages/s", lambda row: f"{row.idle.support_messages / IDLE_S / row.nodes:.1f}"),
    ("idle bytes/s", lambda row: f"{row.idle.bytes_sent / IDLE_S / row.nodes:.0f}"),
    ("look-ups", lambda row: f"{row.lookups}"),
)
"""Counts of puts are per put, over all nodes; idle ones per node. `busiest` is the share of the
requests that went to the busiest node."""


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table of the rows."""
    yield "| " + " | ".join(name for name, _ in COLUMNS) + " |"
    yield "| " + " | ".join("---:" for _ in COLUMNS) + " |"
    for row in rows:
        yield "| " + " | ".join(cell(row) for _, cell in COLUMNS) + " |"


def main() -> None:
    """Print a table in the form that documents use."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale_counts", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=NODES)
    parser.add_argument("--ranges", type=int, nargs="+", default=RANGES)
    options = parser.parse_args()
    rows = [measure(nodes, ranges) for nodes in options.nodes for ranges in options.ranges]
    print("\n".join(markdown(rows)))


if __name__ == "__main__":
    main()
