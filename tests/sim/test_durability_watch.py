"""Who vouches for an entry that is not synced is found before a crash loses it."""

from typing import cast

import pytest

from multiraft.ids import Index, NodeId, RangeId, ReplicaId, Term
from multiraft.raft.messages import Configuration, Entry, EntryKind
from multiraft.ranges.replica import Replica
from multiraft.sim.durability_watch import DurabilityWatch
from multiraft.storage.memory import MemoryBatch, MemoryEngine
from multiraft.storage.raft_log import RangeLog

RANGE = RangeId(2)
TERM = Term(6)


class FakeReplica:
    """A leader's replica of a range whose replica n is on node n."""

    range_id = RANGE

    def __init__(self, configuration: Configuration) -> None:
        self.core = self
        self.configuration = configuration

    def node_of(self, replica_id: ReplicaId) -> NodeId:
        return NodeId(replica_id)


class Seen:
    """A watch of five nodes, and what it reports."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.watch = DurabilityWatch(lambda _, problem: self.problems.append(str(problem)))
        for number in range(1, 6):
            self.watch.start(number, ())

    def write(self, number: int, index: int, term: int = TERM, *, sync: bool = True) -> None:
        self.watch.wrote((number, RANGE), Index(index), Term(term))
        if sync:
            self.watch.synced(self.watch.take(number))

    def acknowledge(self, number: int, index: int, term: int = TERM) -> None:
        self.watch.acknowledges((number, RANGE), Term(term), Index(index))

    def commit(self, index: int, configuration: Configuration) -> None:
        replica = cast("Replica", FakeReplica(configuration))
        self.watch.commits(1, replica, Index(index), TERM)


def entry(index: int, term: int) -> Entry:
    return Entry(Term(term), Index(index), EntryKind.COMMAND, b"")


def of(*numbers: int) -> tuple[ReplicaId, ...]:
    return tuple(map(ReplicaId, numbers))


def test_an_entry_is_acknowledged_when_it_is_synced_and_not_before() -> None:
    seen = Seen()
    seen.write(2, 11, sync=False)
    covered = seen.watch.take(2)
    seen.watch.synced(covered)
    seen.acknowledge(2, 11)
    assert not seen.problems
    seen.write(2, 12, sync=False)
    seen.acknowledge(2, 12)
    assert "n2 acknowledges 12 of term 6, which is not synced" in seen.problems[0]


def test_the_sync_of_an_entry_does_not_vouch_for_what_replaces_it() -> None:
    seen = Seen()
    seen.write(2, 11, 5)
    seen.write(2, 11, 6, sync=False)
    seen.acknowledge(2, 11, 5)
    assert not seen.problems, "what the old leader is told was true"
    seen.acknowledge(2, 11, 6)
    assert seen.problems


def test_what_a_node_starts_with_is_durable() -> None:
    seen = Seen()
    stored = RangeLog(MemoryEngine(), RANGE)
    stored.append(MemoryBatch(), [entry(index, 5) for index in range(1, 21)])
    seen.watch.found((2, RANGE), stored)
    seen.acknowledge(2, 20)
    assert not seen.problems
    assert seen.watch.term_written((2, RANGE), Index(20)) == 5
    assert seen.watch.term_written((2, RANGE), Index(21)) is None


def test_a_start_that_ends_at_a_bad_disk_leaves_durable_what_had_been_synced() -> None:
    seen = Seen()
    seen.write(1, 11)
    seen.write(2, 11)
    seen.write(2, 12, sync=False)
    seen.watch.start(2, [RANGE])
    seen.commit(11, Configuration(of(1, 2, 3)))
    assert not seen.problems
    seen.write(1, 12)
    seen.commit(12, Configuration(of(1, 2, 3)))
    assert "which 1 of 3 have durably" in seen.problems[0]


def test_a_replica_that_is_not_there_at_a_start_has_nothing() -> None:
    seen = Seen()
    seen.write(1, 11)
    seen.write(2, 11)
    seen.watch.start(2, [])
    seen.commit(11, Configuration(of(1, 2, 3)))
    assert seen.problems


@pytest.mark.parametrize(
    ("configuration", "having", "is_fine"),
    [
        (Configuration(of(1, 2, 3)), (1, 2), True),
        (Configuration(of(1, 2, 3)), (2, 3), True),
        (Configuration(of(1, 2, 3)), (1,), False),
        (Configuration(of(1, 2, 3), of(3, 4, 5)), (1, 2, 3, 4), True),
        (Configuration(of(1, 2, 3), of(3, 4, 5)), (1, 2, 3), False),
    ],
)
def test_what_is_committed_is_durable_on_a_majority(
    configuration: Configuration, having: tuple[int, ...], is_fine: bool
) -> None:
    seen = Seen()
    for number in range(1, 6):
        seen.write(number, 11, sync=number in having)
    seen.commit(11, configuration)
    assert bool(seen.problems) is not is_fine


def test_a_snapshot_counts_for_everything_before_it_once_it_is_synced() -> None:
    seen = Seen()
    seen.write(1, 11)
    seen.watch.cut((2, RANGE), Index(30))
    seen.commit(11, Configuration(of(1, 2, 3)))
    assert len(seen.problems) == 1
    seen.watch.synced(seen.watch.take(2))
    seen.commit(11, Configuration(of(1, 2, 3)))
    assert len(seen.problems) == 1
    seen.watch.forget((2, RANGE))
    seen.commit(11, Configuration(of(1, 2, 3)))
    assert len(seen.problems) == 2


def test_what_a_replica_never_had_is_not_acknowledged() -> None:
    seen = Seen()
    seen.acknowledge(2, 1)
    assert seen.problems == ["n2 acknowledges 1, which it does not have"]
    seen.write(2, 11)
    seen.acknowledge(2, 11)
    assert len(seen.problems) == 1
    seen.acknowledge(2, 12)
    assert len(seen.problems) == 2


def test_a_snapshot_is_acknowledged_once_it_is_synced() -> None:
    seen = Seen()
    seen.watch.cut((2, RANGE), Index(30))
    seen.acknowledge(2, 30)
    assert len(seen.problems) == 1
    seen.watch.synced(seen.watch.take(2))
    seen.acknowledge(2, 30)
    assert len(seen.problems) == 1


def test_what_is_cut_off_for_good_is_forgotten_and_counts_as_durable() -> None:
    seen = Seen()
    for index in (11, 12, 13):
        seen.write(1, index)
        seen.write(2, index)
    seen.watch.cut((2, RANGE), Index(12))
    assert seen.watch.remembered == 6, "a crash may still undo it"
    seen.watch.synced(seen.watch.take(2))
    assert seen.watch.remembered == 4
    for index in (11, 13):
        seen.acknowledge(2, index)
        seen.commit(index, Configuration(of(1, 2, 3)))
    assert not seen.problems
    seen.write(2, 14, sync=False)
    seen.acknowledge(2, 14)
    assert "n2 acknowledges 14" in seen.problems[0]


def test_what_a_snapshot_stands_for_was_not_written() -> None:
    seen = Seen()
    seen.write(2, 11, 5)
    place = (2, RANGE)
    assert seen.watch.term_written(place, Index(11)) == 5
    seen.watch.cut(place, Index(11))
    assert seen.watch.term_written(place, Index(11)) is None, "and not only when that is synced"
    seen.write(2, 12)
    assert seen.watch.term_written(place, Index(12)) == TERM
