"""What is done at once is what the general way does: compared at each message of random runs."""

import copy
from collections import Counter

import pytest

from multiraft.config import RaftConfig
from multiraft.ids import Epoch, Index, ReplicaId, Term
from multiraft.raft.core import RaftCore
from multiraft.raft.fortification import Releasing
from multiraft.raft.leadership import Leadership, PendingRead
from multiraft.raft.log import RaftLog
from multiraft.raft.messages import AppendEntries, AppendEntriesReply, Envelope, FortifyReply
from multiraft.raft.progress import Progress
from multiraft.raft.ready import Ready
from multiraft.raft.steady import NOTHING
from tests.support.raft_disk import disk_with, entry
from tests.support.raft_replica import (
    Replica,
    accepted,
    elect,
    envelopes,
    hard_state,
    leader_of,
    voters,
)
from tests.support.raft_simulation import Flight, Store, World

FOLLOWER, LEADER = ReplicaId(2), ReplicaId(1)
SEEDS = 24
BLOCK = 6


class ComparingWorld(World):
    """Delivers each message to a copy of its receiver too, which takes it the general way."""

    def deliver(self, flight: Flight) -> None:
        store = self.stores[flight.envelope.target]
        core = store.core
        if core is not None:
            copied = self._copy(store, core)
            at_once = self._copy(store, core)
            ready = at_once.step_at_once(flight.envelope)
            if ready is not None:
                self.count(type(flight.envelope.message).__name__)
                copied.step(flight.envelope)
                assert ready == copied.take_ready(tell_commit=False)
            assert state_of(at_once) == state_of(copied)
        super().deliver(flight)

    def _copy(self, store: Store, core: RaftCore) -> RaftCore:
        shared = (store, store.disk, self, self.random, self.config)
        return copy.deepcopy(core, {id(each): each for each in shared})


def state_of(part: object) -> object:
    """Return all that a core, or a part of one, keeps, to be compared."""
    if isinstance(part, dict):
        return {key: state_of(value) for key, value in part.items()}
    if isinstance(part, RaftCore | RaftLog | Leadership | Progress | PendingRead | Releasing):
        return {name: state_of(getattr(part, name)) for name in type(part).__slots__}
    return part


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_what_is_done_at_once_is_what_the_general_way_does(first: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(first, first + BLOCK):
        world = ComparingWorld(seed, voters=3 + 2 * (seed % 2), stores=5)
        world.run(150)
        counts.update(world.counts)
    assert counts["AppendEntries"] >= 3 * BLOCK
    assert counts["AppendEntriesReply"] >= 3 * BLOCK


def follower() -> Replica:
    """Return a follower of replica 1 in term 1, fortified to it, with one entry, committed."""
    disk = disk_with(voters(3), (1,), commit_index=1, applied_index=1, fortified=(1, 1, 1))
    replica = Replica(disk, FOLLOWER)
    replica.step(LEADER, AppendEntries(Term(1), Index(1), Term(1), (), Index(1)))
    replica.settle()
    return replica


def append(
    term: int, prev_index: int, *indexes: int, commit: int = 1, prev_term: int = 1
) -> Envelope:
    entries = tuple(entry(term, index) for index in indexes)
    message = AppendEntries(Term(term), Index(prev_index), Term(prev_term), entries, Index(commit))
    return Envelope(LEADER, FOLLOWER, message)


def acknowledgement(match: int, commit: int) -> tuple[Envelope, ...]:
    reply = AppendEntriesReply(Term(1), True, Index(match), Index(commit), epoch=Epoch(1))
    return envelopes(FOLLOWER, (LEADER, reply))


def test_the_next_entries_are_written_and_acknowledged_after_the_sync() -> None:
    replica = follower()
    assert replica.core.step_at_once(append(1, 1, 2, 3)) == Ready(
        entries=(entry(1, 2), entry(1, 3)),
        messages_after_sync=acknowledgement(3, 1),
        must_sync=True,
    )
    assert replica.core.step_at_once(append(1, 3, 4, commit=2)) == Ready(
        entries=(entry(1, 4),),
        hard_state=hard_state(1, commit=2, fortified=(1, 1, 1)),
        messages_after_sync=acknowledgement(4, 2),
        committed=(entry(1, 2),),
        must_sync=True,
    )


@pytest.mark.parametrize(
    "envelope",
    [
        pytest.param(append(1, 1), id="it carries only a commit index"),
        pytest.param(append(1, 2, 3), id="it comes too early"),
        pytest.param(append(1, 0, 1, 2), id="it comes again"),
        pytest.param(append(1, 1, 2, prev_term=0), id="what it follows is another entry"),
        pytest.param(append(2, 1, 2), id="it is of a newer term"),
        pytest.param(append(0, 1, 2), id="it is of an older term"),
    ],
)
def test_another_append_is_left_to_the_general_way(envelope: Envelope) -> None:
    replica = follower()
    before = state_of(replica.core)
    assert replica.core.step_at_once(envelope) is None
    assert state_of(replica.core) == before


def test_nothing_is_done_at_once_while_something_else_is_to_be_done() -> None:
    replica = follower()
    replica.core.step(append(1, 1, 2))
    assert replica.core.step_at_once(append(1, 2, 3)) is None


def test_a_sync_vouches_for_nothing_that_was_replaced_before_it_was_written() -> None:
    replica = follower()
    core = replica.core
    taken = core.step_at_once(append(1, 1, 2, 3))
    assert taken is not None
    entries = (entry(2, 2),)
    replica.step(3, AppendEntries(Term(2), Index(1), Term(1), entries, Index(1)))
    replacing = core.take_ready()
    for ready in (taken, replacing):
        replica.disk.write_ready(ready)
    replica.disk.sync()
    core.synced(taken)
    assert core.log.durable_index == 1
    core.synced(replacing)
    assert core.log.durable_index == 2
    replica.crash()
    assert (replica.core.last_index, replica.core.term) == (2, 2)


def refused(term: int, rejected: int, hint: int = 0) -> AppendEntriesReply:
    return AppendEntriesReply(
        Term(term), False, Index(0), Index(0), Index(rejected), Index(hint), Term(min(1, hint))
    )


def leader() -> Replica:
    """Return the leader of term 1 with a proposal at index 2, sent and not synced."""
    replica = leader_of(voters(3))
    replica.core.propose(b"a", Term(1))
    replica.take()
    return replica


def answer(message: AppendEntriesReply) -> Envelope:
    return Envelope(FOLLOWER, LEADER, message)


def test_an_answer_commits_if_it_is_enough() -> None:
    replica = leader()
    assert replica.core.step_at_once(answer(accepted(1, 2, 1))) is NOTHING
    replica.sync()
    assert replica.core.has_ready(), "the leader's own sync makes a quorum, in the general way"
    replica = leader()
    replica.sync()
    assert replica.core.step_at_once(answer(accepted(1, 2, 1))) == Ready(
        hard_state=hard_state(1, vote=1, commit=2, fortified=(1, 1, 1)),
        committed=(entry(1, 2, b"a"),),
    )
    assert replica.core.commit_untold
    assert not replica.core.has_ready()


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(refused(1, 1), id="it refuses"),
        pytest.param(accepted(2, 2), id="it is of a newer term"),
        pytest.param(accepted(0, 2), id="it is of an older term"),
    ],
)
def test_another_answer_is_left_to_the_general_way(message: AppendEntriesReply) -> None:
    replica = leader()
    before = state_of(replica.core)
    assert replica.core.step_at_once(answer(message)) is None
    assert state_of(replica.core) == before


def test_an_answer_is_left_to_the_general_way_if_the_member_is_to_be_sent_more() -> None:
    replica = leader()
    replica.core.report_unreachable(FOLLOWER)
    assert replica.core.step_at_once(answer(accepted(1, 2, 1))) is None


def test_an_answer_is_left_to_the_general_way_until_the_term_has_committed_an_entry() -> None:
    config = RaftConfig(append_bytes_max=1)
    replica = Replica(disk_with(voters(3), (1, 1, 1), commit_index=1), config=config)
    elect(replica)
    replica.settle()
    replica.step(FOLLOWER, FortifyReply(Term(2), Epoch(1)))
    replica.step(FOLLOWER, refused(2, 3, hint=1))
    replica.settle()
    replica.step(FOLLOWER, accepted(2, 2, 1))
    replica.settle()
    assert replica.core.leadership is not None
    assert replica.core.leadership.progress[FOLLOWER].next_index == 5
    assert replica.core.step_at_once(answer(accepted(2, 4, 1))) is None
    replica.step(FOLLOWER, accepted(2, 4, 1))
    assert replica.core.commit_index == replica.core.leadership.noop_index == 4
