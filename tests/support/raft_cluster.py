"""A group of real cores joined by a network that a test scripts, message by message.

Nothing happens by itself: hosts take turns, syncs end, messages arrive, support is granted and
withdrawn when the test says so. `settle` lets everything that is not held back run until quiet.
"""

from collections.abc import Iterable

from multiraft.config import RaftConfig
from multiraft.ids import NO_EPOCH, Epoch, Index, ReplicaId, Term, Timestamp
from multiraft.raft.core import RaftCore
from multiraft.raft.messages import Configuration, Entry, EntryKind, Envelope, InstallSnapshot
from multiraft.raft.ready import Ready
from multiraft.raft.role import Role
from tests.support import raft_disk
from tests.support.raft_disk import Disk, Machine

LEASE = Timestamp(1_000)


class Node:
    """One replica and its host; also its view of support between stores."""

    def __init__(self, cluster: "Cluster", number: int, disk: Disk) -> None:
        self.cluster = cluster
        self.id = ReplicaId(number)
        self.disk = disk
        self.clock = 0
        self.unsynced: list[Ready] = []
        self.applied: list[Entry] = []
        self._core: RaftCore | None = None
        self.start()

    @property
    def core(self) -> RaftCore:
        assert self._core is not None, f"{self.id} is down"
        return self._core

    @property
    def is_up(self) -> bool:
        return self._core is not None

    def restart(self) -> None:
        """Start again; a start raises the store's own epochs everywhere (rule L3)."""
        self.cluster.new_epochs(self.id)
        self.start()

    def start(self) -> None:
        self._core = RaftCore(
            self.id, self.cluster.config, self.disk, self, self.cluster.draw, self.forward
        )

    def crash(self, survive: int = 0) -> None:
        self._core = None
        self.disk.crash(survive)
        self.unsynced.clear()
        self.applied.clear()

    def forward(self, clock: Timestamp) -> None:
        self.clock = max(self.clock, clock)

    def support_for(self, replica: ReplicaId) -> Epoch:
        return self.cluster.support(asker=replica, supporter=self.id)

    def support_from(self, replica: ReplicaId) -> tuple[Epoch, Timestamp]:
        epoch = self.cluster.support(asker=self.id, supporter=replica)
        until = self.cluster.until.get((self.id, replica), LEASE)
        return epoch, Timestamp(until if epoch else 0)

    @property
    def log(self) -> list[Term]:
        """The terms of the log on disk, from its first index on."""
        return [entry.term for entry in self.disk.written.entries]

    def turn(self) -> Ready:
        """Take a Ready, write it, apply, and post what need not wait."""
        ready = self.core.take_ready()
        staged = None
        if ready.snapshot is not None:
            staged = self.cluster.staged.pop((self.id, ready.snapshot.index), None)
        machines = self.disk.write_ready(ready, staged)
        for entry, machine in zip(ready.committed, machines, strict=True):
            self.applied.append(entry)
            if entry.kind is EntryKind.CONFIGURATION:
                self.core.apply_configuration(machine.configuration, entry.index)
            self.core.applied(entry.index)
        self.cluster.post(ready.messages)
        for target in ready.snapshot_targets:
            self.cluster.streams.append((self.id, target))
        self.unsynced.append(ready)
        return ready

    def sync(self) -> None:
        """All that is written is durable."""
        self.disk.sync()
        for ready in self.unsynced:
            self.cluster.post(ready.messages_after_sync)
            if ready.must_sync:
                self.core.synced(ready)
        self.unsynced.clear()


class Cluster:
    """See the module."""

    def __init__(
        self,
        configuration: Configuration,
        disks: dict[int, Disk] | None = None,
        config: RaftConfig | None = None,
    ) -> None:
        self.config = RaftConfig() if config is None else config
        self.flights: list[Envelope] = []
        self.streams: list[tuple[ReplicaId, ReplicaId]] = []
        self.staged: dict[tuple[ReplicaId, Index], Machine] = {}
        self.cuts: dict[tuple[int, int], None] = {}
        self.holding: list[str] = []
        self.trace: list[str] = []
        self.until: dict[tuple[int, int], int] = {}
        self._epochs: dict[tuple[int, int], tuple[int, bool]] = {}
        self.nodes: dict[int, Node] = {}
        for member in configuration.members:
            disk = (disks or {}).get(member) or raft_disk.disk_with(configuration)
            self.nodes[member] = Node(self, member, disk)
        for number, disk in (disks or {}).items():
            if number not in self.nodes:
                self.nodes[number] = Node(self, number, disk)

    def __getitem__(self, number: int) -> Node:
        return self.nodes[number]

    def draw(self, limit: int) -> int:
        """Chance has no say in a script; jitter is always nothing."""
        assert limit > 0, "draw(n) needs n > 0"
        return 0

    # --- Support ------------------------------------------------------------------------------

    def support(self, asker: int, supporter: int) -> Epoch:
        epoch, live = self._epochs.get((asker, supporter), (1, True))
        return Epoch(epoch) if live else NO_EPOCH

    def withdraw(self, asker: int, *supporters: int) -> None:
        """These stores no longer support `asker`'s; their clocks have passed what they granted."""
        for supporter in supporters:
            epoch, _ = self._epochs.get((asker, supporter), (1, True))
            self._epochs[asker, supporter] = (epoch + 1, False)
            until = self.until.get((asker, supporter), LEASE)
            self.nodes[supporter].forward(Timestamp(until + 1))
        self._support_changed((asker, *supporters))

    def grant(self, asker: int, *supporters: int) -> None:
        """These stores support `asker`'s again, at the epoch that withdrawal raised."""
        for supporter in supporters:
            epoch, _ = self._epochs.get((asker, supporter), (1, True))
            self._epochs[asker, supporter] = (epoch, True)
        self._support_changed((asker, *supporters))

    def new_epochs(self, asker: int) -> None:
        """End all support for a store, and begin it anew at the next epochs."""
        for supporter in self.nodes:
            epoch, live = self._epochs.get((asker, supporter), (1, True))
            self._epochs[asker, supporter] = (epoch + 1, live)
        self._support_changed(each for each in self.nodes if each != asker)

    def _support_changed(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if self.nodes[number].is_up:
                self.nodes[number].core.support_changed()

    # --- Network ------------------------------------------------------------------------------

    def post(self, envelopes: Iterable[Envelope]) -> None:
        self.flights.extend(envelopes)

    def take(self, pattern: str = "") -> list[Envelope]:
        """Remove from the network the messages that match `pattern`, and return them."""
        matching = [flight for flight in self.flights if matches(flight, pattern)]
        self.flights = [flight for flight in self.flights if not matches(flight, pattern)]
        return matching

    def deliver(self, pattern: str = "") -> int:
        """Let the messages that match arrive; return how many did."""
        return sum([self.arrive(flight) for flight in self.take(pattern)])

    def arrive(self, flight: Envelope) -> bool:
        """Let one message arrive, unless its link is cut or its target down."""
        target = self.nodes[flight.target]
        if (flight.source, flight.target) in self.cuts or not target.is_up:
            return False
        self.trace.append(describe(flight))
        target.forward(Timestamp(self.nodes[flight.source].clock))
        target.core.step(flight)
        return True

    def cut(self, *sides: Iterable[int]) -> None:
        """Let nothing pass between different sides, either way."""
        groups = [tuple(side) for side in sides]
        for one in groups:
            for other in groups:
                if one is not other:
                    self.cuts.update({(a, b): None for a in one for b in other})

    def isolate(self, number: int) -> None:
        """Cut all links of one node."""
        self.cut([number], [each for each in self.nodes if each != number])

    def heal(self) -> None:
        self.cuts.clear()

    # --- Going on -----------------------------------------------------------------------------

    def settle(self, limit: int = 1_000) -> None:
        """Take turns, sync and deliver what is not held until nothing moves any more."""
        for _ in range(limit):
            if not self._settle_once():
                return
        raise AssertionError("the cluster does not settle")

    def _settle_once(self) -> bool:
        moved = False
        for node in self.nodes.values():
            if node.is_up and node.core.has_ready():
                node.turn()
                moved = True
            if node.is_up and node.unsynced:
                node.sync()
        streams, self.streams = self.streams, []
        for source, target in streams:
            self.stream(source, target)
            moved = True
        for flight in list(self.flights):
            if not any(matches(flight, pattern) for pattern in self.holding):
                self.flights.remove(flight)
                self.arrive(flight)
                moved = True
        return moved

    def stream(self, source: int, target: int) -> None:
        """Bring a snapshot of `source` to `target`, and report."""
        sender, receiver = self.nodes[source], self.nodes[target]
        ok = receiver.is_up and (source, target) not in self.cuts
        if ok:
            machine = sender.disk.written.machine
            term = sender.core.log.term(machine.index)
            assert term is not None
            self.staged[receiver.id, machine.index] = machine
            message = InstallSnapshot(sender.core.term, machine.index, term, machine.configuration)
            self.arrive(Envelope(sender.id, receiver.id, message))
        sender.core.report_snapshot(receiver.id, delivered=ok)

    def elect(self, number: int) -> None:
        """Make a node leader, as nobody objects."""
        assert self.nodes[number].core.campaign(), f"{number} may not campaign"
        self.settle()
        assert self.nodes[number].core.role is Role.LEADER, f"{number} was not elected"

    def propose(self, number: int, text: str) -> Index:
        core = self.nodes[number].core
        index = core.propose(text.encode(), core.term)
        assert index, f"refused: {core.refusal}"
        return index

    def change(self, number: int, new: Configuration) -> Index:
        core = self.nodes[number].core
        payload = raft_disk.pack_configuration(new)
        index = core.propose_configuration(payload, core.term, new)
        assert index, f"refused: {core.refusal}"
        return index

    def tick(self, number: int, count: int = 1) -> None:
        for _ in range(count):
            self.nodes[number].core.tick()

    @property
    def leaders(self) -> list[int]:
        return [
            number
            for number, node in self.nodes.items()
            if node.is_up and node.core.role is Role.LEADER
        ]

    def payloads(self, number: int) -> list[str]:
        """What a node has applied since it started, no-ops and changes left out."""
        return [
            entry.payload.decode()
            for entry in self.nodes[number].applied
            if entry.kind is EntryKind.COMMAND
        ]


def matches(flight: Envelope, pattern: str) -> bool:
    """Return whether a message matches `A>B Kind`, in which each part may be left out or `*`."""
    for part in pattern.split():
        if ">" in part:
            source, target = part.split(">")
            if source not in ("", "*", str(flight.source)):
                return False
            if target not in ("", "*", str(flight.target)):
                return False
        elif part != type(flight.message).__name__:
            return False
    return True


def describe(flight: Envelope) -> str:
    """Return a message as a person reads it, without what is zero or empty."""
    message = flight.message
    facts = []
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if name == "entries":
            value = " ".join(f"{entry.term}/{entry.index}" for entry in value)
        if name == "release" and value is not None:
            value = f"{value.leader}@{value.term} clock {value.clock}"
        if value or value is False:
            facts.append(f"{name}={value}")
    return f"{flight.source}>{flight.target} {type(message).__name__} {', '.join(facts)}"
