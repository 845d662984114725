"""One core by itself in tests: a disk, support as the test decides, the host's steps by hand."""

from multiraft.config import RaftConfig
from multiraft.ids import Epoch, Index, ReplicaId, Term, Timestamp
from multiraft.raft.core import RaftCore
from multiraft.raft.messages import (
    AppendEntriesReply,
    Configuration,
    Entry,
    EntryKind,
    Envelope,
    FortifyReply,
    Message,
    PreVoteReply,
    RequestVoteReply,
)
from multiraft.raft.ready import HardState, Ready
from multiraft.raft.role import Role
from tests.support.raft_disk import Disk, disk_with

LEASE = Timestamp(1_000)


class FixedSupport:
    """Every store supports every other at epoch 1 until LEASE, unless the test says otherwise."""

    def __init__(self) -> None:
        self.given: dict[int, int] = {}
        self.received: dict[int, tuple[int, int]] = {}

    def support_for(self, replica: ReplicaId) -> Epoch:
        return Epoch(self.given.get(replica, 1))

    def support_from(self, replica: ReplicaId) -> tuple[Epoch, Timestamp]:
        epoch, until = self.received.get(replica, (1, LEASE))
        return Epoch(epoch), Timestamp(until)

    def lose(self, *replicas: int) -> None:
        """No support in either direction."""
        for replica in replicas:
            self.given[replica] = 0
            self.received[replica] = (0, 0)


class Replica:
    """A core and the host's side of the contract, one step at a time."""

    def __init__(
        self, disk: Disk | None = None, replica_id: int = 1, config: RaftConfig | None = None
    ) -> None:
        self.disk = disk_with(voters(3)) if disk is None else disk
        self.config = RaftConfig() if config is None else config
        self.support = FixedSupport()
        self.clocks: list[int] = []
        self.unsynced: list[Ready] = []
        self.replica_id = ReplicaId(replica_id)
        self.core = self._start()

    def _start(self) -> RaftCore:
        return RaftCore(
            self.replica_id,
            self.config,
            self.disk,
            self.support,
            lambda _limit: 0,
            self.clocks.append,
        )

    def step(self, source: int, message: Message) -> None:
        self.core.step(Envelope(ReplicaId(source), self.replica_id, message))

    def take(self) -> Ready:
        """Take a Ready, write it, and apply what it commits."""
        ready = self.core.take_ready()
        machines = self.disk.write_ready(ready)
        for entry, machine in zip(ready.committed, machines, strict=True):
            if entry.kind is EntryKind.CONFIGURATION:
                self.core.apply_configuration(machine.configuration, entry.index)
            self.core.applied(entry.index)
        self.unsynced.append(ready)
        return ready

    def sync(self) -> None:
        """Everything taken so far is durable."""
        self.disk.sync()
        for ready in self.unsynced:
            if ready.must_sync:
                self.core.synced(ready)
        self.unsynced.clear()

    def settle(self) -> list[tuple[int, Message]]:
        """Take and sync until nothing is left; return what was sent, with its target."""
        sent: list[tuple[int, Message]] = []
        while self.core.has_ready():
            ready = self.take()
            self.sync()
            both = (*ready.messages, *ready.messages_after_sync)
            sent.extend((envelope.target, envelope.message) for envelope in both)
        return sent

    def crash(self, survive: int = 0) -> None:
        """Lose what is not synced, and start again."""
        self.disk.crash(survive)
        self.unsynced.clear()
        self.core = self._start()

    def has_role(self, role: Role) -> bool:
        return self.core.role is role

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.core.tick()


def voters(count: int, learners: tuple[int, ...] = ()) -> Configuration:
    ids = tuple(ReplicaId(number) for number in range(1, count + 1))
    return Configuration(ids, (), tuple(ReplicaId(number) for number in learners))


def joint(incoming: tuple[int, ...], outgoing: tuple[int, ...]) -> Configuration:
    return Configuration(tuple(map(ReplicaId, incoming)), tuple(map(ReplicaId, outgoing)))


def envelopes(source: int, *sent: tuple[int, Message]) -> tuple[Envelope, ...]:
    """Return what a Ready of `source` holds for these (target, message) pairs."""
    return tuple(
        Envelope(ReplicaId(source), ReplicaId(target), message) for target, message in sent
    )


def accepted(term: int, match: int, commit: int = 0) -> AppendEntriesReply:
    return AppendEntriesReply(Term(term), True, Index(match), Index(commit), epoch=Epoch(1))


def hard_state(
    term: int, vote: int = 0, commit: int = 0, fortified: tuple[int, int, int] = (0, 0, 0)
) -> HardState:
    leader, fortified_term, epoch = fortified
    return HardState(
        Term(term),
        ReplicaId(vote),
        Index(commit),
        ReplicaId(leader),
        Term(fortified_term),
        Epoch(epoch),
    )


def configuration_entry(term: int, index: int, payload: bytes) -> Entry:
    return Entry(Term(term), Index(index), EntryKind.CONFIGURATION, payload)


def elect(replica: Replica) -> None:
    """Make `replica` campaign, and everyone grant it; its no-op is neither written nor sent."""
    assert replica.core.campaign()
    replica.settle()
    others = [voter for voter in replica.core.electorate if voter != replica.replica_id]
    for voter in others:
        replica.step(voter, PreVoteReply(Term(replica.core.term + 1), True))
        if replica.core.votes == {}:
            break
    replica.settle()
    for voter in others:
        replica.step(voter, RequestVoteReply(replica.core.term, True))


def confirm(replica: Replica, *members: int) -> None:
    """Let members acknowledge everything and fortify, as they do when all is well."""
    for member in members:
        core = replica.core
        replica.step(member, FortifyReply(core.term, Epoch(1)))
        replica.step(member, accepted(core.term, core.last_index, core.commit_index))
    replica.settle()
    for member in members:
        core = replica.core
        replica.step(member, accepted(core.term, core.last_index, core.commit_index))
    replica.settle()


def leader_of(configuration: Configuration, config: RaftConfig | None = None) -> Replica:
    """Return replica 1 leading term 1, its no-op at index 1 applied, everyone confirmed."""
    replica = Replica(disk_with(configuration), config=config)
    elect(replica)
    replica.settle()
    confirm(replica, *[each for each in configuration.members if each != 1])
    assert replica.core.leads_and_applied_own_term, "the leader is settled"
    return replica
