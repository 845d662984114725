"""Leadership that is handed over, given up or lost with its replica (safety rules S6, L1)."""

import asyncio
from functools import partial

import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.ids import NodeId, ReplicaId, Term, Timestamp
from multiraft.raft.messages import ReleaseFortification, StillLeading
from multiraft.raft.role import Role
from multiraft.ranges import messages
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.messages import GroupEnvelope, PeerFrame
from multiraft.ranges.outbox import SendFrame
from multiraft.ranges.replica import DOUBT_INTERVAL_S, DOUBT_MEMORY_S
from multiraft.ranges.state import Tombstone
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from tests.support.cluster import cluster_test
from tests.support.serving import (
    Asked,
    answered,
    ask,
    get,
    heal,
    holder_of,
    leader_of,
    move,
    now_of,
    put,
)

# -- handing over ------------------------------------------------------------------------------


@cluster_test()
async def test_the_new_leader_starts_above_the_clock_of_the_old_one(
    cluster: Cluster, db: Database
) -> None:
    """S6: the old leader's time goes with the hand-over, though the target's clock is behind."""
    old = leader_of(cluster)
    target = cluster.followers()[0]
    old.clock.step_wall(0.2)
    read = ask(cluster, old, get(b"k"))
    await move(cluster, db, target)
    assert now_of(target) > read.reply.timestamp
    assert holder_of(target).cache.low_water > read.reply.timestamp
    assert old.replica().leaseholder is None
    assert ask(cluster, old, get(b"k")).code == "not_leaseholder"


@cluster_test()
async def test_a_hand_over_to_a_node_that_does_not_answer_is_given_up_and_serving_goes_on(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"k", b"v")
    old = leader_of(cluster)
    target = cluster.followers()[0]
    await cluster.crash(target.number)
    await db.put(b"k", b"w")  # The target lacks this one, so nothing is sent to it.
    holder = holder_of(old)
    replica = old.replica()
    assert replica.core.transfer(replica_on(old, target), old.up.store.context.hlc.now())
    waiting = ask(cluster, old, get(b"k"))
    refused = ask(cluster, old, put(b"j", b"v"))
    assert not waiting.is_answered, "no lease is held meanwhile"
    assert not refused.is_answered
    old.up.store.context.mark_dirty(replica)
    await answered(cluster, waiting, refused)
    assert waiting.value == b"w"
    assert refused.code == ""
    assert replica.leaseholder is holder, "the same term"
    await cluster.restart(target.number)


@cluster_test()
async def test_a_node_that_stops_waits_no_longer_for_its_heirs_than_it_was_told_to(
    cluster: Cluster, db: Database
) -> None:
    old = leader_of(cluster)
    replica = old.replica()
    cluster.wiretap.drop = lambda *_: True
    write = ask(cluster, old, put(b"k", b"v"))  # Which nobody else gets.
    await cluster.until(lambda: replica.core.last_index > replica.core.commit_index)
    began = cluster.loop.time()
    await old.up.store.hand_over_all(1.0)
    assert cluster.loop.time() - began == pytest.approx(1.0, abs=0.01)
    assert replica.leaseholder is not None, "who lacks an entry must not lead"
    cluster.wiretap.drop = None
    await answered(cluster, write)
    assert write.code == ""


def replica_on(member: Member, target: Member) -> ReplicaId:
    descriptor = member.replica().descriptor
    assert descriptor is not None
    found = descriptor.replica_on(NodeId(target.number))
    assert found is not None
    return found.replica_id


@cluster_test()
async def test_writes_in_flight_at_the_hand_over_are_answered_or_refused_and_never_lost(
    cluster: Cluster, db: Database
) -> None:
    cluster.slow_down(sync_s=0.01, link_s=0.005)
    old = leader_of(cluster)
    asked = [ask(cluster, old, put(b"k%d" % number, b"v")) for number in range(20)]
    target = cluster.followers()[0]
    task = asyncio.create_task(db.admin.transfer(USER_RANGE_ID, NodeId(target.number)))
    later: list[Asked] = []
    while not task.done():
        later.append(ask(cluster, old, put(b"l%d" % len(later), b"v")))
        await asyncio.sleep(0.002)
    await task
    await answered(cluster, *asked, *later)
    assert {each.code for each in (*asked, *later)} <= {"", "not_leaseholder"}
    await cluster.until_served()
    for name, group in ((b"k", asked), (b"l", later)):
        for number, each in enumerate(group):
            if not each.code:
                assert await db.get(name + b"%d" % number) == b"v"


@cluster_test()
async def test_a_hand_over_to_a_node_without_a_replica_is_refused(
    cluster: Cluster, db: Database
) -> None:
    with pytest.raises(errors.AdminRefusedError, match="not on n9"):
        await db.admin.transfer(USER_RANGE_ID, NodeId(9))
    leader = leader_of(cluster)
    await db.admin.transfer(USER_RANGE_ID, NodeId(leader.number))
    assert leader_of(cluster) is leader, "handing over to itself changes nothing"


# -- giving up ---------------------------------------------------------------------------------


@cluster_test()
async def test_a_leader_that_steps_down_frees_its_followers_at_once(
    cluster: Cluster, db: Database
) -> None:
    """L1: nobody waits for the support of its store to run out, which it does not."""
    old = leader_of(cluster)
    old.replica().core.step_down(old.up.store.context.hlc.now())
    old.up.store.context.mark_dirty(old.replica())
    await cluster.until(lambda: cluster.leader() is not None, within_s=0.9)


@pytest.mark.parametrize("both_ways", [False, True])
def test_a_release_is_repeated_to_followers_that_were_away(both_ways: bool) -> None:
    """L1: until it was confirmed; a follower that comes back much later gets it, too."""

    @cluster_test()
    async def away(cluster: Cluster, db: Database) -> None:
        old = leader_of(cluster)
        for follower in cluster.followers():
            cluster.network.cut(old.name, follower.name)
            if both_ways:
                cluster.network.cut(follower.name, old.name)
        replica = old.replica()
        replica.core.step_down(old.up.store.context.hlc.now())
        old.up.store.context.mark_dirty(replica)
        await asyncio.sleep(20.0)
        assert replica.core.releasing is not None
        heal(cluster)
        await cluster.until_served()
        await cluster.until(lambda: replica.core.releasing is None, within_s=5.0)
        bound = [r.core.fortified_leader for r in cluster.replicas()]
        leader = leader_of(cluster).replica()
        assert set(bound) == {leader.replica_id}

    away()


# -- leaders that are gone ---------------------------------------------------------------------


def destroy(member: Member, *, quietly: bool) -> None:
    """Let a node lose its replica of the users' range while the node lives on.

    `quietly`: the releases it sends are lost.
    """
    store = member.up.store
    replica = member.replica()
    before = store.outbox.envelopes.copy()
    store._destroy(replica, Tombstone(ReplicaId(replica.replica_id + 10), replica.descriptor))
    if quietly:
        store.outbox.envelopes = before


@cluster_test()
async def test_a_leader_whose_replica_is_destroyed_releases_its_followers(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"k", b"v")
    gone = leader_of(cluster)
    destroy(gone, quietly=False)
    gone.up.store.turns.schedule()
    await cluster.until(lambda: cluster.leader() is not None, within_s=0.9)
    assert await db.get(b"k") == b"v"


@cluster_test()
async def test_followers_of_a_replica_that_is_gone_find_out_when_clients_keep_coming(
    cluster: Cluster, db: Database
) -> None:
    """L1: its store lives and renews its support for ever; nobody else may be elected."""
    await db.put(b"k", b"v")
    gone = leader_of(cluster)
    followers = cluster.followers()
    destroy(gone, quietly=True)
    await asyncio.sleep(5.0)
    assert cluster.leader() is None, "they are bound, and have no timer"
    assert all(not f.replica().core.needs_tick for f in followers)
    began = cluster.loop.time()
    assert await db.get(b"k") == b"v"
    assert cluster.loop.time() - began < 3.0
    await db.put(b"k", b"w")
    assert leader_of(cluster) in followers


@cluster_test()
async def test_a_leader_that_forgot_nothing_says_that_it_still_leads(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    holder = holder_of(leader)
    follower = cluster.followers()[0]
    asked = count_questions(cluster)
    for _ in range(100):
        refused = ask(cluster, follower, get(b"k"))
        assert refused.code == "not_leaseholder"
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert leader.replica().leaseholder is holder
    assert 3 <= len(asked) <= 1.1 / DOUBT_INTERVAL_S, "at most one question per interval"
    assert follower.replica().core.fortified_leader == leader.replica().replica_id


@cluster_test()
async def test_one_client_that_went_astray_makes_nobody_ask(cluster: Cluster, db: Database) -> None:
    follower = cluster.followers()[0]
    asked = count_questions(cluster)
    for _ in range(3):
        assert ask(cluster, follower, get(b"k")).code == "not_leaseholder"
        await asyncio.sleep(DOUBT_MEMORY_S + 0.1)
    assert not asked


def count_questions(cluster: Cluster) -> list[GroupEnvelope]:
    """Keep what is asked with StillLeading from now on."""
    asked: list[GroupEnvelope] = []

    def tap(send: SendFrame, node: NodeId, payload: bytes) -> None:
        frame = messages.decode_peer_frame(payload)
        asked.extend(e for e in frame.envelopes if type(e.message) is StillLeading)
        send(node, payload)

    for member in cluster.running():
        store = member.up.store
        store.outbox.send_frame = partial(tap, store.outbox.send_frame)
    return asked


@cluster_test()
async def test_a_store_answers_for_replicas_that_it_does_not_have(
    cluster: Cluster, db: Database
) -> None:
    """Whoever asks names the replica it follows: an older one, a newer one, or none at all."""
    member = leader_of(cluster)
    store = member.up.store
    sent: list[GroupEnvelope] = []

    def tap(node: NodeId, payload: bytes) -> None:
        frame = messages.decode_peer_frame(payload)
        sent.extend(
            e for e in frame.envelopes if type(e.message) is ReleaseFortification and node == 2
        )

    send, store.outbox.send_frame = store.outbox.send_frame, tap
    mine = member.replica().replica_id
    for range_id, target in ((77, 1), (USER_RANGE_ID, mine + 5)):
        question = GroupEnvelope(
            type(USER_RANGE_ID)(range_id), ReplicaId(2), ReplicaId(target), StillLeading(Term(9))
        )
        frame = PeerFrame(Timestamp(store.context.hlc.last), (), (question,))
        store.receive_frame(NodeId(2), messages.encode(frame))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (answer,) = sent
        sent.clear()
        assert (answer.range_id, answer.source, answer.target) == (range_id, target, 2)
        assert isinstance(answer.message, ReleaseFortification)
        assert answer.message.release.term == 9
        assert answer.message.release.leader == target
        assert answer.message.release.clock > 0
        assert answer.message.release.clock <= store.context.hlc.last
    assert 77 not in store.replicas, "a question makes no replica"
    assert member.replica().replica_id == mine, "nor does it replace one"
    assert member.replica().core.role is Role.LEADER
    store.outbox.send_frame = send
