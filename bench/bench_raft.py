"""What consensus costs per entry, without disk and network: pytest bench/bench_raft.py."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from multiraft.config import RaftConfig
from multiraft.ids import Epoch, Index, ReplicaId, Term, Timestamp
from multiraft.raft.core import RaftCore
from multiraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Configuration,
    Entry,
    EntryKind,
    Envelope,
    Message,
    PreVoteReply,
    RequestVoteReply,
)
from multiraft.storage.memory import MemoryEngine
from multiraft.storage.raft_log import RangeLog

PAYLOAD = b"p" * 300
LEADER, FOLLOWERS = ReplicaId(1), (ReplicaId(2), ReplicaId(3))
VOTERS = Configuration((LEADER, *FOLLOWERS))


class NoBatch:
    """A batch that costs nothing: the disk is measured elsewhere."""

    size_bytes = 0

    def put(self, key: bytes, value: bytes, family: object) -> None:
        """Do nothing."""

    def delete(self, key: bytes, family: object) -> None:
        """Do nothing."""

    def delete_range(self, start: bytes, end: bytes, family: object) -> None:
        """Do nothing."""


class AllSupport:
    """Every store supports every other for ever."""

    def support_for(self, replica: ReplicaId) -> Epoch:
        """Return the one epoch there is."""
        return Epoch(1)

    def support_from(self, replica: ReplicaId) -> tuple[Epoch, Timestamp]:
        """Return support that does not end."""
        return Epoch(1), Timestamp(1 << 60)


class Host:
    """A core and the least that a host does for it."""

    def __init__(self, replica_id: ReplicaId) -> None:
        self.log = RangeLog(MemoryEngine(), replica_id)  # type: ignore[arg-type]
        self.log.set_applied(VOTERS, Index(0))
        self.core = RaftCore(
            replica_id, RaftConfig(), self.log, AllSupport(), lambda _: 0, lambda _: None
        )
        self.id = replica_id

    def step(self, source: ReplicaId, message: Message) -> None:
        """Feed one message in."""
        self.core.step(Envelope(source, self.id, message))

    def turn(self) -> None:
        """Take a Ready, write it nowhere, sync it at once, apply what it commits."""
        ready = self.core.take_ready(tell_commit=False)
        if ready.entries:
            self.log.append(NoBatch(), ready.entries)
        if ready.hard_state is not None:
            self.log.set_hard_state(NoBatch(), ready.hard_state)
        if ready.must_sync:
            self.core.synced(ready)
        if ready.committed:
            self.core.applied(ready.committed[-1].index)

    def settle(self) -> None:
        """Take turns until the core wants nothing."""
        while self.core.has_ready():
            self.turn()

    def shorten(self) -> None:
        """Keep the log short, as truncation does."""
        if self.core.applied_index > self.log.first_index() + 10_000:
            self.log.truncate(NoBatch(), self.core.applied_index)


def elected() -> Host:
    host = Host(LEADER)
    host.core.campaign()
    host.settle()
    for follower in FOLLOWERS:
        host.step(follower, PreVoteReply(Term(host.core.term + 1), True))
    host.settle()
    for follower in FOLLOWERS:
        host.step(follower, RequestVoteReply(host.core.term, True))
    host.settle()
    acknowledge(host)
    assert host.core.leads_and_applied_own_term
    return host


def acknowledge(host: Host) -> None:
    core = host.core
    for follower in FOLLOWERS:
        host.step(
            follower,
            AppendEntriesReply(core.term, True, core.last_index, core.commit_index, epoch=Epoch(1)),
        )
    host.settle()


@pytest.mark.parametrize("batch", [1, 64])
def test_leader_proposes_and_commits(benchmark: BenchmarkFixture, batch: int) -> None:
    host = elected()

    def round_trip() -> None:
        term = host.core.term
        for _ in range(batch):
            host.core.propose(PAYLOAD, term)
        host.turn()
        acknowledge(host)
        host.shorten()

    benchmark(round_trip)


@pytest.mark.parametrize("batch", [1, 64])
def test_follower_appends_and_applies(benchmark: BenchmarkFixture, batch: int) -> None:
    host = Host(FOLLOWERS[0])
    term = Term(1)

    def round_trip() -> None:
        last = host.core.last_index
        prev_term = term if last else Term(0)
        entries = tuple(
            Entry(term, Index(last + offset), EntryKind.COMMAND, PAYLOAD)
            for offset in range(1, batch + 1)
        )
        message = AppendEntries(term, last, prev_term, entries, last)
        host.step(LEADER, message)
        host.settle()
        host.shorten()

    benchmark(round_trip)
