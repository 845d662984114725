"""What an observer who sees every node at once can tell of a simulated cluster."""

from collections.abc import Callable

from multiraft.ids import NodeId, RangeId
from multiraft.model import encoding, keys
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.locality import Locality
from multiraft.mvcc import reads, statistics
from multiraft.mvcc.reader import EngineReader
from multiraft.node import Node
from multiraft.ranges import bootstrap, snapshot
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.replica import Replica
from multiraft.sim.clock import HasTime, VirtualClock
from multiraft.sim.process import Process
from multiraft.storage.memory import MemoryEngine

SyncTrouble = Callable[[], float]


class Member:
    """One node of the cluster, up or down; the engine and the clock outlive the node."""

    def __init__(self, number: int, loop: HasTime) -> None:
        self.number = number
        self.name = f"n{number}"
        self.address = f"{self.name}:7000"
        self.locality: Locality | None = ()
        """Where its operator says that it is when it is started; None: nothing is said."""
        self.clock = VirtualClock(loop)
        self.sync_delay_s = 0.0
        """How long each sync of its disk takes, as long as nothing is wrong with it."""
        self.sync_troubles: dict[SyncTrouble, None] = {}
        """Each says how much longer a sync takes that begins now."""
        self.engine = MemoryEngine(sync_delay_s=self._sync_s)
        self.node: Node | None = None
        self.process = Process(self.name)
        self.incarnation = 0
        """How often the node was started."""
        self.excuses: list[str] = []
        """Why its store may stop, or not start: its disk or clock was made to fail."""
        self.clock_is_wrong = False
        """Whether a fault has its clock in hand: one at a time."""

    def _sync_s(self) -> float:
        if not self.sync_troubles:
            return self.sync_delay_s
        return self.sync_delay_s + sum(trouble() for trouble in self.sync_troubles)

    @property
    def up(self) -> Node:
        """The running node."""
        assert self.node is not None, f"{self.name} is down"
        return self.node

    @property
    def node_id(self) -> NodeId:
        """Its ID in the cluster."""
        return NodeId(self.number)

    def replica(self, range_id: int = USER_RANGE_ID) -> Replica:
        """Return this node's replica of a range."""
        return self.up.store.replicas[RangeId(range_id)]


class Inspection:
    """See the module. Looks, and changes nothing."""

    members: dict[int, Member]
    snapshots_of_the_dead: int
    """How many snapshots nodes had sent that have crashed since."""

    def followers(self, range_id: int = USER_RANGE_ID) -> list[Member]:
        """Return the running nodes other than the one that serves the range."""
        leader = self.leader(range_id)
        assert leader is not None, f"r{range_id} is served"
        return [member for member in self.running() if member is not leader]

    def running(self) -> list[Member]:
        """Return the nodes that are up."""
        return [m for m in self.members.values() if m.node is not None]

    def leader(self, range_id: int = USER_RANGE_ID) -> Member | None:
        """Return the node that serves the range under a lease now, or None."""
        for member in self.running():
            replica = member.up.store.replicas.get(RangeId(range_id))
            holder = None if replica is None else replica.leaseholder
            if holder is not None and holder.may_serve(member.up.store.context.hlc.now()):
                return member
        return None

    def replicas(self, range_id: int = USER_RANGE_ID) -> list[Replica]:
        """Return the replicas of a range on the running nodes."""
        stores = [m.up.store for m in self.running()]
        return [s.replicas[RangeId(range_id)] for s in stores if RangeId(range_id) in s.replicas]

    def range_at(self, key: bytes) -> RangeDescriptor:
        """Return the newest descriptor that any running node has for one of the users' keys."""
        logical = keys.PLAIN + key
        found = [m.up.store.map.at(logical) for m in self.running()]
        descriptors = [r.descriptor for r in found if r is not None and r.descriptor is not None]
        return max(descriptors, key=lambda d: d.generation)

    def snapshots_sent(self) -> int:
        """Return how many snapshots any node has sent, those that have crashed since included."""
        return self.snapshots_of_the_dead + sum(m.up.store.snapshots.sent for m in self.running())

    def check_statistics(self) -> None:
        """Recount every range on every node: what was added up must be what is there."""
        for member in self.running():
            reader = EngineReader(member.engine)
            for replica in member.up.store.replicas.values():
                descriptor = replica.descriptor
                if descriptor is not None:
                    counted = statistics.count(reader, descriptor.start, descriptor.end)
                    assert replica.applied.stats == counted, f"{member.name} r{replica.range_id}"

    def meta_records(self) -> dict[bytes, RangeDescriptor]:
        """Return the addressing records, by the start of their range, as the first range has them.

        What the leader of the first range has applied.
        """
        leader = self.leader(bootstrap.FIRST_RANGE_ID)
        assert leader is not None, "the first range is served"
        reader = EngineReader(leader.engine)
        records: dict[bytes, RangeDescriptor] = {}
        for range_id in self.range_ids():
            for replica in self.replicas(range_id):
                if replica.descriptor is not None:
                    start = replica.descriptor.start
                    version = reads.newest(reader, keys.meta_key(start))
                    if version is not None:
                        records[start] = encoding.unpack_descriptor(version.value)
        return records

    def range_ids(self) -> list[RangeId]:
        """Return every range that a running node has."""
        return sorted({r for m in self.running() for r in m.up.store.replicas})

    def contents(self, number: int, range_id: int = USER_RANGE_ID) -> list[tuple[bytes, bytes]]:
        """Return everything keyed in a range as that node's engine holds it."""
        member = self.members[number]
        descriptor = member.replica(range_id).descriptor
        assert descriptor is not None
        view = member.engine.view()
        try:
            return list(snapshot.rows_of(view, member.engine.data, descriptor))
        finally:
            view.close()
