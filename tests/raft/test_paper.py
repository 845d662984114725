"""The Raft paper and thesis, a section per test, on real cores joined by a scripted network."""

from multiraft.config import RaftConfig
from multiraft.ids import Index, ReplicaId, Term, Timestamp
from multiraft.raft.messages import AppendEntries, Configuration, Envelope, RequestVote
from multiraft.raft.role import Role
from tests.support.raft_cluster import Cluster
from tests.support.raft_disk import disk_with, empty_disk, entry
from tests.support.raft_replica import joint, voters


def cluster_with_logs(*logs: tuple[int, ...], applied: int = 0) -> Cluster:
    """All know the highest term of any log: the leaders of the terms before had their votes."""
    configuration = voters(len(logs))
    term = max(max(terms) for terms in logs)
    disks = {
        number: disk_with(
            configuration, terms, term=term, commit_index=applied, applied_index=applied
        )
        for number, terms in enumerate(logs, 1)
    }
    return Cluster(configuration, disks)


def test_paper_5_2_at_most_one_leader_per_term_when_two_candidates_split_the_votes() -> None:
    cluster = Cluster(voters(4))
    for number in (1, 2):
        cluster[number].core.campaign()
    cluster.settle()
    assert len(cluster.leaders) <= 1
    cluster.tick(1, 5)
    cluster.settle()
    assert len(cluster.leaders) == 1


def test_paper_5_3_the_leader_repairs_every_follower_of_figure_7() -> None:
    leader = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    cluster = cluster_with_logs(
        leader,
        (1, 1, 1, 4, 4, 5, 5, 6, 6),
        (1, 1, 1, 4),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
        (1, 1, 1, 4, 4, 4, 4),
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
    )
    cluster.isolate(5)  # (d) has a better log and would refuse its vote
    cluster.isolate(4)
    cluster.elect(1)
    cluster.heal()
    cluster.tick(1, 3)
    cluster.settle()
    expected = [*leader, 8]
    assert {number: cluster[number].log for number in cluster.nodes} == {
        number: expected for number in cluster.nodes
    }


def test_paper_5_4_1_a_candidate_without_a_committed_entry_is_not_elected() -> None:
    cluster = cluster_with_logs((1, 2), (1, 2), (1,))
    assert cluster[3].core.campaign()
    cluster.settle()
    assert cluster.leaders == []
    cluster.elect(2)


def test_paper_figure_8_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    """S1 leads term 2 and replicates index 2 to S2 only; S5 leads term 3 with another index 2."""
    cluster = cluster_with_logs((1, 2), (1, 2), (1,), (1,), (1, 3), applied=1)
    # (c) S1 leads term 4. Index 2 reaches S3, but S1's own entry of term 4 does not leave S1 yet.
    cluster.isolate(5)
    cluster.isolate(4)
    cluster.holding.append("AppendEntries")
    cluster.elect(1)
    assert cluster[1].core.term == 4
    cluster.take("AppendEntries")
    older = AppendEntries(Term(4), Index(1), Term(1), (entry(2, 2),), Index(1))
    for number in (2, 3):
        cluster[number].core.step(Envelope(ReplicaId(1), ReplicaId(number), older))
    cluster.settle()
    assert [cluster[number].log for number in (1, 2, 3)] == [[1, 2, 4], [1, 2], [1, 2]]
    assert cluster[1].core.commit_index == 1, "three of five hold index 2: it is not committed"
    # (d) S5 may still be elected and overwrite it ...
    # (e) ... or S1 replicates its own entry, and with it index 2 is committed.
    cluster.holding.clear()
    cluster.tick(1, 3)
    cluster.settle()
    assert cluster[1].core.commit_index == 3


def test_thesis_3_10_transfer_lets_an_up_to_date_follower_lead_at_once() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.propose(1, "a")
    assert cluster[1].core.transfer(ReplicaId(3), Timestamp(50))
    cluster.settle()
    assert cluster.leaders == [3]
    assert cluster[3].core.term == 2
    assert cluster[3].clock >= 50
    assert cluster.payloads(3) == ["a"]


def test_thesis_3_8_a_restarted_server_keeps_term_vote_and_log() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.propose(1, "a")
    cluster.settle()
    before = cluster[2].core.status()
    cluster[2].crash()
    cluster[2].restart()
    after = cluster[2].core.status()
    assert (after.term, after.vote, after.last_index) == (
        before.term,
        before.vote,
        before.last_index,
    )


def test_thesis_4_2_1_a_new_server_catches_up_before_it_votes() -> None:
    cluster = Cluster(voters(3), {4: empty_disk()})
    cluster.elect(1)
    for text in "abc":
        cluster.propose(1, text)
    cluster.settle()
    cluster.change(1, voters(3, learners=(4,)))
    cluster.settle()
    assert cluster[4].core.last_index == cluster[1].core.last_index
    cluster.isolate(3)
    cluster.isolate(2)
    cluster.propose(1, "d")
    cluster.settle()
    assert cluster[1].core.commit_index < cluster[1].core.last_index, "learners do not count"


def test_thesis_4_2_2_a_leader_outside_the_new_configuration_steps_down_when_it_is_in_force() -> (
    None
):
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.change(1, joint((2, 3), (1, 2, 3)))
    cluster.settle()
    cluster.change(1, Configuration((ReplicaId(2), ReplicaId(3)), (), (ReplicaId(1),)))
    cluster.settle()
    assert cluster.leaders == []
    cluster.tick(2, 20)
    cluster.settle()
    assert cluster.leaders == [2]
    assert cluster[1].core.leader == 2


def test_thesis_4_2_3_a_removed_server_cannot_disrupt_the_group() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    # Server 3 missed its removal. It raises its term as it likes, even without a pre-vote.
    for term in (5, 50):
        for target in (1, 2):
            vote = RequestVote(Term(term), Index(9), Term(9))
            cluster[target].core.step(Envelope(ReplicaId(3), ReplicaId(target), vote))
    cluster.settle()
    assert cluster.leaders == [1]
    assert [cluster[number].core.term for number in (1, 2)] == [1, 1]


def test_thesis_4_3_joint_consensus_needs_both_majorities_for_elections_too() -> None:
    both = joint((1, 4, 5), (1, 2, 3))
    cluster = Cluster(both)
    cluster.cut([1, 4, 5], [2, 3])
    assert cluster[1].core.campaign()
    cluster.settle()
    assert cluster.leaders == [], "the new majority alone does not elect"
    cluster.heal()
    cluster.cut([1, 2, 3], [4, 5])
    cluster.tick(1, 20)
    cluster.settle()
    assert cluster.leaders == [], "nor does the old one"
    cluster.heal()
    cluster.tick(1, 20)
    cluster.settle()
    assert cluster.leaders == [1]


def test_thesis_4_3_a_group_moves_to_three_other_servers() -> None:
    cluster = Cluster(voters(3), {number: empty_disk() for number in (4, 5, 6)})
    cluster.elect(1)
    cluster.propose(1, "a")
    for learners in ((4,), (4, 5), (4, 5, 6)):
        cluster.settle()
        cluster.change(1, voters(3, learners=learners))
    cluster.settle()
    cluster.change(1, joint((4, 5, 6), (1, 2, 3)))
    cluster.settle()
    assert cluster[1].core.wants_to_leave_joint
    assert cluster[1].core.transfer(ReplicaId(4), Timestamp(1))
    cluster.settle()
    assert cluster.leaders == [4]
    assert cluster[4].core.wants_to_leave_joint
    new = Configuration(tuple(map(ReplicaId, (4, 5, 6))), (), tuple(map(ReplicaId, (1, 2, 3))))
    cluster.change(4, new)
    cluster.settle()
    for number in (1, 2, 3):
        cluster.isolate(number)
    cluster.propose(4, "b")
    cluster.settle()
    assert cluster.payloads(5)[-1] == "b"


def test_thesis_6_4_a_new_leader_commits_a_noop_and_with_it_everything_before() -> None:
    cluster = cluster_with_logs((1, 1), (1, 1), (1, 1))
    cluster.elect(2)
    assert {node.core.commit_index for node in cluster.nodes.values()} == {3}
    assert cluster[3].log == [1, 1, 2]


def test_thesis_6_4_read_index_waits_for_the_new_leaders_first_commit() -> None:
    cluster = cluster_with_logs((1, 1), (1, 1), (1,), applied=1)
    cluster.holding.append("AppendEntriesReply")
    cluster.elect(1)
    assert not cluster[1].core.read_index(1)
    cluster.holding.clear()
    cluster.settle()
    assert cluster[1].core.read_index(2)


def test_thesis_9_6_a_partitioned_server_does_not_raise_its_term() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.isolate(3)
    cluster.withdraw(1, 3)
    for _ in range(20):
        cluster.tick(3, 20)
        cluster.settle()
    assert cluster[3].core.term == 1
    cluster.heal()
    cluster.tick(3, 20)
    cluster.settle()
    assert cluster.leaders == [1]
    assert cluster[1].core.term == 1


def test_thesis_10_2_1_appends_are_pipelined_and_may_arrive_in_any_order() -> None:
    cluster = Cluster(voters(2), config=RaftConfig(append_bytes_max=1))
    cluster.elect(1)
    for text in "abc":
        cluster.propose(1, text)
    cluster[1].turn()
    appends = cluster.take("1>2 AppendEntries")
    assert len(appends) == 3
    for flight in reversed(appends):
        cluster.arrive(flight)
    cluster.settle()
    assert cluster.payloads(2) == ["a", "b", "c"]


def test_paper_7_a_slow_follower_gets_a_snapshot_and_goes_on_from_there() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.isolate(3)
    for text in "abc":
        cluster.propose(1, text)
    cluster.settle()
    cluster[1].disk.truncate(cluster[1].core.applied_index)
    cluster[1].crash(9)
    cluster.heal()
    cluster[1].restart()
    cluster.elect(1)
    cluster.propose(1, "d")
    cluster.settle()
    assert cluster[3].core.first_index > 1, "it was restored"
    assert cluster.payloads(3) == ["d"]
    assert cluster[3].disk.written.machine == cluster[1].disk.written.machine


def test_thesis_10_2_1_the_leader_may_commit_before_its_own_disk_write() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.propose(1, "a")
    cluster[1].turn()
    cluster.deliver()
    for number in (2, 3):
        cluster[number].turn()
        cluster[number].sync()
    cluster.deliver()
    assert cluster[1].core.commit_index == 2
    assert cluster[1].core.log.durable_index == 1
    assert cluster[1].core.role is Role.LEADER
