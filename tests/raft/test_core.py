import pytest

from multiraft.config import RaftConfig
from multiraft.ids import Epoch, Index, ReplicaId, Term
from multiraft.raft.messages import AppendEntries, Configuration, Fortify
from multiraft.raft.ready import HardState, Ready
from multiraft.raft.role import Role
from multiraft.raft.status import MemberStatus, Status
from tests.support.raft_disk import Disk, Machine, State, disk_with, entry, noop
from tests.support.raft_replica import (
    Replica,
    accepted,
    confirm,
    elect,
    envelopes,
    hard_state,
    leader_of,
    voters,
)


def right_half() -> Disk:
    """Return the disk of a right half as a split's trigger leaves it: term 5, vote for 1."""
    machine = Machine(Index(10), 0, voters(3))
    return Disk(State(HardState(Term(5), ReplicaId(1), Index(10)), machine, 5))


def test_a_fresh_core_has_nothing_to_do() -> None:
    replica = Replica()
    assert not replica.core.has_ready()
    assert replica.take() == Ready()


def test_a_restarted_core_resumes_where_its_disk_stands() -> None:
    disk = disk_with(
        voters(3), (2, 3), truncated=(7, 2), vote=3, term=4, commit_index=9, applied_index=8
    )
    replica = Replica(disk)
    core = replica.core
    assert (core.term, core.vote, core.role) == (4, 3, Role.FOLLOWER)
    assert (core.first_index, core.last_index, core.commit_index, core.applied_index) == (
        8,
        9,
        9,
        8,
    )
    assert core.has_ready()
    assert replica.take() == Ready(committed=(entry(3, 9),))
    assert replica.core.applied_index == 9


def test_an_idle_healthy_group_needs_no_ticks() -> None:
    assert not leader_of(voters(3)).core.needs_tick
    follower = Replica(disk_with(voters(3), (1,)), replica_id=2)
    follower.step(1, Fortify(Term(1), Epoch(1)))
    follower.settle()
    assert not follower.core.needs_tick


def test_what_is_committed_is_handed_out_in_bounded_parts() -> None:
    replica = Replica(
        disk_with(voters(3), (1, 1, 1), commit_index=3), config=RaftConfig(committed_bytes_max=6)
    )
    assert replica.take().committed == (entry(1, 1), entry(1, 2))
    assert replica.core.has_ready()
    assert replica.take().committed == (entry(1, 3),)
    assert not replica.core.has_ready()


def test_only_what_was_handed_out_can_be_applied() -> None:
    replica = Replica(disk_with(voters(3), (1, 1), commit_index=1))
    with pytest.raises(AssertionError, match="handed out"):
        replica.core.applied(Index(1))
    replica.take()
    with pytest.raises(AssertionError, match="handed out"):
        replica.core.applied(Index(0))


def test_a_disk_that_applied_more_than_it_knows_as_committed_is_refused() -> None:
    with pytest.raises(AssertionError, match="never below"):
        Replica(disk_with(voters(3), (1, 1), commit_index=1, applied_index=2))


def test_a_sync_reported_late_counts_for_what_was_written_then() -> None:
    replica = leader_of(voters(3))
    replica.core.propose(b"a", Term(1))
    first = replica.take()
    replica.core.propose(b"b", Term(1))
    replica.take()
    replica.core.synced(first)
    assert replica.core.leadership is not None
    assert replica.core.leadership.progress[ReplicaId(1)].match_index == 2


def test_the_sync_of_an_older_term_does_not_make_the_present_one_durable() -> None:
    replica = Replica()
    replica.step(2, AppendEntries(Term(1), Index(0), Term(0), (), Index(0)))
    older = replica.take()
    replica.step(3, AppendEntries(Term(2), Index(0), Term(0), (), Index(0)))
    replica.take()
    replica.core.synced(older)
    assert replica.core.durable_term == 1
    replica.step(3, AppendEntries(Term(2), Index(9), Term(2), (), Index(0)))
    ready = replica.take()
    assert (ready.messages, len(ready.messages_after_sync)) == ((), 1)


def test_first_leader_leads_at_once_but_sends_nothing_before_the_sync() -> None:
    replica = Replica(right_half())
    replica.core.become_first_leader()
    append = AppendEntries(Term(5), Index(10), Term(5), (noop(5, 11),), Index(10))
    fortify = Fortify(Term(5), Epoch(1))
    assert replica.take() == Ready(
        entries=(noop(5, 11),),
        hard_state=hard_state(5, vote=1, commit=10, fortified=(1, 5, 1)),
        messages_after_sync=envelopes(1, (2, fortify), (3, fortify), (2, append), (3, append)),
        must_sync=True,
    )
    assert replica.core.propose(b"a", Term(5)) == 12
    replica.sync()
    confirm(replica, 2)
    assert replica.core.leads_and_applied_own_term


def test_first_leader_must_be_fresh() -> None:
    replica = Replica(right_half())
    replica.core.become_first_leader()
    with pytest.raises(AssertionError):
        replica.core.become_first_leader()
    voted_for_another = Replica(right_half(), replica_id=2)
    with pytest.raises(AssertionError, match="voted for itself"):
        voted_for_another.core.become_first_leader()
    with_entries = Replica(disk_with(voters(3), (5,), vote=1))
    with pytest.raises(AssertionError, match="empty"):
        with_entries.core.become_first_leader()


def test_no_core_leads_twice_in_one_term() -> None:
    replica = Replica(right_half())
    replica.core.become_first_leader()
    replica.core.step_down()
    replica.core.log.last_index = Index(10)  # As if nothing had been appended.
    replica.core.log._recent.clear()
    with pytest.raises(AssertionError, match="twice in one term"):
        replica.core.become_first_leader()


def test_memory_is_given_back_when_everyone_has_everything() -> None:
    replica = leader_of(voters(3))
    replica.core.propose(b"x" * 100, Term(1))
    replica.settle()
    replica.step(2, accepted(1, 2, 1))
    replica.settle()
    assert replica.core.log._recent_bytes == 100, "replica 3 still needs it"
    replica.step(3, accepted(1, 2, 2))
    assert replica.core.log._recent_bytes == 0


def test_status_tells_everything() -> None:
    replica = leader_of(Configuration((ReplicaId(1), ReplicaId(2))))
    member = MemberStatus(
        replica_id=ReplicaId(2),
        state="REPLICATE",
        match_index=Index(1),
        next_index=Index(2),
        commit_known=Index(1),
        fortified=True,
    )
    status = replica.core.status()
    assert status == Status(
        replica_id=ReplicaId(1),
        role="LEADER",
        term=Term(1),
        vote=ReplicaId(1),
        leader=ReplicaId(1),
        first_index=Index(1),
        last_index=Index(1),
        commit_index=Index(1),
        applied_index=Index(1),
        configuration=Configuration((ReplicaId(1), ReplicaId(2))),
        fortified_leader=ReplicaId(1),
        fortified_epoch=replica.core.fortified_epoch,
        transferring_to=ReplicaId(0),
        members=(status.members[0], member),
    )
    assert Replica().core.status().members == ()


def test_stepping_down_without_leading_changes_nothing() -> None:
    replica = Replica()
    replica.core.step_down()
    assert not replica.core.has_ready()


def test_a_tick_is_harmless_whatever_the_role() -> None:
    for replica in (Replica(), leader_of(voters(3)), leader_of(voters(1))):
        replica.ticks(3)
        assert not replica.core.has_ready()


def test_a_core_is_small() -> None:
    replica = Replica()
    assert not hasattr(replica.core, "__dict__")
    elect(replica)
    assert not hasattr(replica.core.leadership, "__dict__")
