"""The races around a split, one test each (rules S2, S16, A4; traps T13, T14)."""

import asyncio

import msgspec

from multiraft import errors
from multiraft.client.database import Database
from multiraft.config import LimitsConfig
from multiraft.ids import Epoch, Index, NodeId, RangeId, ReplicaId, Term, Timestamp
from multiraft.model import encoding, hlc, keys
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.requests import AdminSplit, Get, GetResult, Put, Scan
from multiraft.raft.messages import Fortify, Message, RequestVote
from multiraft.raft.ready import HardState
from multiraft.ranges import messages, state
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.messages import GroupEnvelope, PeerFrame, ReplicaRemoved
from multiraft.ranges.store import Store
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.inspection import Member
from multiraft.storage import raft_log
from tests.support.cluster import cluster_test
from tests.support.serving import error_of, leader_of

ROWS = {b"%c%d" % (letter, n): b"v%d" % n for letter in b"afkmqtx" for n in range(5)}
LATER = Term(state.INITIAL_TERM + 3)


def plain(key: bytes) -> bytes:
    return keys.PLAIN + key


def withhold_splits_from(cluster: Cluster, member: Member, range_id: int = USER_RANGE_ID) -> None:
    """Lose everything that is for the node's replica of a range: it applies nothing meanwhile."""
    cluster.wiretap.drop = lambda _, target, envelope: (
        target == member.number and envelope.range_id == range_id
    )


def inject(store: Store, source: int, range_id: int, target: int, message: Message) -> None:
    """Deliver a message for a range whose span nothing here covers, as far as the store can see."""
    envelope = GroupEnvelope(
        RangeId(range_id), ReplicaId(source), ReplicaId(target), message, start=keys.END
    )
    frame = PeerFrame(store.context.hlc.now(), envelopes=(envelope,))
    store.receive_frame(NodeId(source), messages.encode(frame))


def vote_request() -> RequestVote:
    return RequestVote(LATER, Index(state.INITIAL_INDEX + 1), LATER)


def hard_state_on_disk(member: Member, descriptor: RangeDescriptor) -> HardState:
    log = raft_log.load(member.engine, descriptor.range_id, applied_index=state.INITIAL_INDEX)
    return log.hard_state


async def rows_of(db: Database) -> dict[bytes, bytes]:
    found = [row async for row in db.scan()]
    assert [key for key, _ in found] == sorted({key for key, _ in found}), "each row exactly once"
    return dict(found)


async def until_right_is_everywhere(cluster: Cluster, right: RangeDescriptor) -> None:
    await cluster.until(lambda: len(cluster.replicas(right.range_id)) == len(cluster.members))
    await cluster.until_served()
    await cluster.until_applied(right.range_id)
    await cluster.until_applied()


# -- messages that come before the split -----------------------------------------------------------


@cluster_test()
async def test_messages_for_a_split_not_applied_yet_are_held_and_replayed(
    cluster: Cluster, db: Database
) -> None:
    slow = cluster.followers()[0]
    store = slow.up.store
    withhold_splits_from(cluster, slow)
    _, right = await db.admin.split(b"m")
    await db.put(b"x", b"written on the right")
    await asyncio.sleep(0.5)
    assert right.range_id not in store.replicas, "no uninitialised replica was made"
    held = len(store._held)
    assert held, "the messages wait"

    cluster.wiretap.drop = lambda *_: bool(cluster.replicas(right.range_id)[2:])
    await cluster.until(lambda: right.range_id in store.replicas)
    replica = slow.replica(right.range_id)
    assert replica.descriptor == right
    assert not len(store._held)
    assert replica.core.last_index > state.INITIAL_INDEX, "the held append was replayed"

    cluster.wiretap.drop = None
    await until_right_is_everywhere(cluster, right)
    assert cluster.snapshots_sent() == 0
    assert cluster.contents(1, right.range_id) == cluster.contents(slow.number, right.range_id)


@cluster_test()
async def test_two_splits_in_a_row_reach_a_slow_follower_without_a_snapshot(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many(ROWS)
    slow = cluster.followers()[0]
    withhold_splits_from(cluster, slow)
    _, middle = await db.admin.split(b"k")
    _, last = await db.admin.split(b"t")
    for key in ROWS:
        await db.put(key, b"new")
    await asyncio.sleep(0.5)
    cluster.wiretap.drop = None
    await until_right_is_everywhere(cluster, middle)
    await until_right_is_everywhere(cluster, last)
    assert cluster.snapshots_sent() == 0
    assert await rows_of(db) == dict.fromkeys(ROWS, b"new")
    cluster.check_statistics()


# -- a right replica that is here already ----------------------------------------------------------


@cluster_test()
async def test_an_uninitialised_right_replica_keeps_its_vote(
    cluster: Cluster, db: Database
) -> None:
    slow, other = cluster.followers()
    store = slow.up.store
    withhold_splits_from(cluster, slow)
    _, right = await db.admin.split(b"m")
    inject(store, other.number, right.range_id, slow.number, vote_request())
    await cluster.until(lambda: slow.replica(right.range_id).core.vote == other.number)
    assert slow.replica(right.range_id).descriptor is None

    cluster.wiretap.drop = lambda _, __, envelope: envelope.range_id == right.range_id
    await cluster.until(lambda: slow.replica(right.range_id).descriptor == right)
    core = slow.replica(right.range_id).core
    assert (core.term, core.vote) == (LATER, other.number)
    stored = hard_state_on_disk(slow, right)
    assert (stored.term, stored.vote) == (LATER, other.number)

    cluster.wiretap.drop = None
    await until_right_is_everywhere(cluster, right)
    assert cluster.snapshots_sent() == 0


@cluster_test()
async def test_a_right_replica_binds_itself_once_the_split_is_applied_and_not_before(
    cluster: Cluster, db: Database
) -> None:
    """S16: a promise survives every rewrite; where that cannot be ensured none is given."""
    slow, other = cluster.followers()
    store = slow.up.store
    withhold_splits_from(cluster, slow)
    _, right = await db.admin.split(b"m")
    cluster.wiretap.drop = lambda _, target, envelope: (
        envelope.range_id == right.range_id or target == slow.number
    )
    supported = store.liveness.support_for(NodeId(other.number))
    assert supported != Epoch(0)
    fortify = Fortify(LATER, supported)
    inject(store, other.number, right.range_id, slow.number, fortify)
    await cluster.until(lambda: slow.replica(right.range_id).core.term == LATER)
    assert slow.replica(right.range_id).core.fortified_leader == 0

    cluster.wiretap.drop = lambda _, __, envelope: envelope.range_id == right.range_id
    await cluster.until(lambda: slow.replica(right.range_id).descriptor == right)
    inject(store, other.number, right.range_id, slow.number, fortify)
    await asyncio.sleep(0.1)
    core = slow.replica(right.range_id).core
    stored = hard_state_on_disk(slow, right)
    expected = (other.number, LATER, supported)
    assert (stored.fortified_leader, stored.fortified_term, stored.fortified_epoch) == expected
    leader = leader_of(cluster)
    inject(store, leader.number, right.range_id, slow.number, vote_request())
    await asyncio.sleep(0.1)
    assert core.vote != leader.number, "bound to another leader, it votes for nobody"

    cluster.wiretap.drop = None
    await until_right_is_everywhere(cluster, right)


@cluster_test()
async def test_a_right_replica_that_was_removed_and_added_again_is_left_alone(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many(ROWS)
    slow, other = cluster.followers()
    store = slow.up.store
    withhold_splits_from(cluster, slow)
    _, right = await db.admin.split(b"m")
    again = right.next_replica_id + 2
    inject(store, other.number, right.range_id, again, vote_request())
    await cluster.until(lambda: right.range_id in store.replicas)

    cluster.wiretap.drop = None
    await cluster.until_applied()
    replica = slow.replica(right.range_id)
    assert (replica.replica_id, replica.descriptor) == (again, None)
    assert replica.core.vote == other.number, "and it keeps what it promised"
    left_rows = [row for row in ROWS if row < b"m"]
    rows_here = list(slow.engine.scan(b"\x02", b"\xff", slow.engine.data))
    user_rows = [key for key, _ in rows_here if key[1:2] == keys.PLAIN]
    assert len(user_rows) == len(left_rows), "the data of the right half was dropped here"
    assert await rows_of(db) == ROWS


@cluster_test()
async def test_a_tombstone_forbids_the_return_of_a_removed_right_replica(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many(ROWS)
    slow, other = cluster.followers()
    store = slow.up.store
    withhold_splits_from(cluster, slow)
    _, right = await db.admin.split(b"m")
    inject(store, other.number, right.range_id, slow.number, vote_request())
    await cluster.until(lambda: right.range_id in store.replicas)
    without = msgspec.structs.replace(
        right,
        generation=right.generation + 2,
        replicas=tuple(r for r in right.replicas if r.node_id != slow.number),
    )
    removal = PeerFrame(store.context.hlc.now(), removals=(ReplicaRemoved(without),))
    store.receive_frame(NodeId(other.number), messages.encode(removal))
    assert right.range_id not in store.replicas

    cluster.wiretap.drop = None
    await cluster.until_applied()
    assert slow.replica().descriptor == cluster.range_at(b"a")
    await db.put(b"x", b"the others go on")
    await asyncio.sleep(1.0)
    assert right.range_id not in store.replicas
    await cluster.crash(slow.number)
    await cluster.restart(slow.number)
    await asyncio.sleep(1.0)
    assert right.range_id not in slow.up.store.replicas, "nor after a restart"
    assert cluster.snapshots_sent() == 0


# -- requests during the split ---------------------------------------------------------------------


async def _split_in_flight(
    cluster: Cluster, db: Database, key: bytes
) -> "tuple[Member, asyncio.Task[tuple[RangeDescriptor, RangeDescriptor]]]":
    """Begin a split whose command cannot commit yet; return its leader, and the split's task."""
    leader = leader_of(cluster)
    cluster.wiretap.drop = lambda _, __, envelope: envelope.range_id == USER_RANGE_ID
    task = asyncio.create_task(db.admin.split(key))
    holder = leader.replica().leaseholder
    assert holder is not None
    await cluster.until(lambda: len(holder.proposals) > 0)
    return leader, task


@cluster_test()
async def test_a_read_sequenced_before_and_evaluated_after_a_split_is_sent_to_the_right_range(
    cluster: Cluster, db: Database
) -> None:
    """Pitfall (h): a read is not answered by the range that had its key when it came."""
    await db.put_many(ROWS)
    leader, task = await _split_in_flight(cluster, db, b"m")
    on_the_right = cluster.submit(leader.number, (Get(plain(b"x1")),))
    across = cluster.submit(leader.number, (Scan(plain(b""), keys.END),))
    on_the_left = cluster.submit(leader.number, (Get(plain(b"a1")),))
    await asyncio.sleep(0.05)
    assert not on_the_right, "the latch over the right half is held until the split is applied"
    assert not across
    assert isinstance(on_the_left[0].results[0], GetResult), "the left half serves meanwhile"

    cluster.wiretap.drop = None
    left, right = await task
    for replies in (on_the_right, across):
        error = error_of(replies)
        assert isinstance(error, errors.RangeMismatchError)
        known = {d.range_id: d for d in map(_descriptor, error.descriptors)}
        assert known[right.range_id] == right, "and the reply brings the descriptor to go on with"
    assert left.range_id == USER_RANGE_ID


@cluster_test()
async def test_requests_during_a_split_are_answered_by_the_client_library_all_the_same(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many(ROWS)
    _, task = await _split_in_flight(cluster, db, b"m")
    get = asyncio.create_task(db.get(b"x1"))
    scan = asyncio.create_task(rows_of(db))
    put = asyncio.create_task(db.put(b"z", b"new"))
    await asyncio.sleep(0.05)
    assert not any(t.done() for t in (get, scan, put))
    cluster.wiretap.drop = None
    await task
    assert await get == ROWS[b"x1"]
    await put
    found = await scan
    assert {key: found[key] for key in ROWS} == ROWS


@cluster_test(config=msgspec.structs.replace(FAST, limits=LimitsConfig(scan_keys_max=4)))
async def test_a_scan_across_a_boundary_made_under_it_sees_every_row_once_as_of_its_start(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many(ROWS)
    found: list[tuple[bytes, bytes]] = []
    async for row in db.scan():
        found.append(row)
        if len(found) == 3:
            await db.admin.split(b"k2")
            await db.admin.split(b"m")
            await db.put_many(dict.fromkeys(ROWS, b"too new to be seen"))
        if len(found) == 20:
            await db.admin.split(b"m3")
            await db.admin.split(b"t1")
    assert found == sorted(ROWS.items())


@cluster_test(config=msgspec.structs.replace(FAST, limits=LimitsConfig(scan_keys_max=4)))
async def test_a_reverse_scan_across_a_boundary_made_under_it_sees_every_row_once(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many(ROWS)
    found: list[tuple[bytes, bytes]] = []
    async for row in db.scan(reverse=True):
        found.append(row)
        if len(found) == 3:
            await db.admin.split(b"m")
            await db.admin.split(b"f")
    assert found == sorted(ROWS.items(), reverse=True)


@cluster_test()
async def test_of_two_splits_at_one_key_both_end_with_the_same_halves(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many(ROWS)
    both = await asyncio.gather(db.admin.split(b"m"), db.admin.split(b"m"))
    assert both[0] == both[1]
    assert len(cluster.range_ids()) == 3


@cluster_test(nodes=4)
async def test_a_split_where_a_boundary_is_already_names_the_range_before_it_wherever_that_is(
    cluster: Cluster, db: Database
) -> None:
    first, _ = await db.admin.split(b"d")
    middle, last = await db.admin.split(b"m")
    await cluster.until(lambda: len(cluster.meta_records()) == 4)
    here, elsewhere = (1, 2, 3), (2, 3, 4)
    for each, nodes in ((first, here), (middle, elsewhere), (last, here)):
        await db.admin.change_replicas(each.range_id, tuple(map(NodeId, nodes)))
    await db.admin.transfer(last.range_id, NodeId(1))
    await cluster.until(lambda: middle.range_id not in cluster.members[1].up.store.replicas)
    left, right = await db.admin.split(b"m")
    assert (left.range_id, left.end) == (middle.range_id, right.start)
    assert right.range_id == last.range_id


@cluster_test()
async def test_splits_at_different_keys_of_one_range_all_happen(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many(ROWS)
    cuts = [b"f", b"k", b"m", b"q", b"t"]
    await asyncio.gather(*(db.admin.split(cut) for cut in cuts))
    starts = {keys.MIN, keys.PLAIN, *map(plain, cuts)}
    await cluster.until(lambda: set(cluster.meta_records()) == starts)
    assert await rows_of(db) == ROWS


@cluster_test()
async def test_the_first_range_is_never_split(cluster: Cluster, db: Database) -> None:
    leader = leader_of(cluster, 1)
    replies = cluster.submit(leader.number, (AdminSplit(b"\x01x"),), range_id=1)
    await cluster.until(lambda: bool(replies))
    assert isinstance(error_of(replies), errors.AdminRefusedError)


# -- S2: the left leader and the right range -------------------------------------------------------


@cluster_test()
async def test_a_paused_left_leader_cannot_serve_the_right_half_stale(
    cluster: Cluster, db: Database
) -> None:
    """S2: the left leader stops between telling of the commit and applying it, and wakes up."""
    await db.put(b"x", b"old")
    leader = leader_of(cluster)
    number = leader.number
    holder = leader.replica().leaseholder
    assert holder is not None
    cluster.slow_down(sync_s=0.001, link_s=0.001)
    task = asyncio.create_task(db.admin.split(b"m"))
    await cluster.until(lambda: len(holder.proposals) > 0, step_s=0.0005)
    # The command is on its way; the leader will not live to see it committed.
    cluster.freeze(number)
    lease_end = leader.replica().lease.end()
    early = cluster.submit(number, (Get(plain(b"x")),))
    await asyncio.sleep(0.3)
    now = leader.up.store.context.hlc.now()
    assert now + hlc.from_ms(250) < lease_end, "its lease would still allow to serve the read"
    late = cluster.submit(number, (Get(plain(b"x")),))
    assert not early, "but the latch over the right half does not"
    assert not late

    cluster.thaw(number)
    await task
    await cluster.until(lambda: bool(early and late))
    for replies in (early, late):
        assert isinstance(error_of(replies), errors.RangeMismatchError)


@cluster_test()
async def test_a_right_range_elsewhere_writes_above_everything_the_left_leader_served(
    cluster: Cluster, db: Database
) -> None:
    """S2: the floor. The left leader's clock is ahead; reads there must not be overwritten."""
    await db.put(b"x", b"old")
    leader = leader_of(cluster)
    leader.clock.step_wall(0.1)
    read = cluster.submit(leader.number, (Get(plain(b"x")),))
    await cluster.until(lambda: bool(read))
    _, right = await db.admin.split(b"m")
    await cluster.until(lambda: len(cluster.replicas(right.range_id)) == 3)
    for replica in cluster.replicas(right.range_id):
        assert replica.applied.clock_floor > read[0].timestamp, "above what was served before"
    await cluster.crash(leader.number)
    await cluster.until(lambda: cluster.leader(right.range_id) is not None)
    heir = leader_of(cluster, right.range_id)
    holder = heir.replica(right.range_id).leaseholder
    assert holder is not None
    assert holder.cache.low_water > heir.replica(right.range_id).applied.clock_floor
    wrote = cluster.submit(heir.number, (Put(plain(b"x"), b"new"),), range_id=right.range_id)
    await cluster.until(lambda: bool(wrote))
    assert wrote[0].timestamp > read[0].timestamp


@cluster_test()
async def test_a_leader_starts_above_the_floor_even_if_no_clock_ever_told_it(
    cluster: Cluster, db: Database
) -> None:
    """S2: the floor alone must do, since messages that carry clocks may be lost."""
    ahead = Timestamp(leader_of(cluster).up.store.context.hlc.now() + hlc.from_ms(5_000))
    for member in cluster.members.values():
        member.clock_is_wrong = True
    for replica in cluster.replicas():
        replica.applied = msgspec.structs.replace(replica.applied, clock_floor=ahead)
    await cluster.crash(leader_of(cluster).number)
    await cluster.until(lambda: cluster.leader() is not None)
    holder = leader_of(cluster).replica().leaseholder
    assert holder is not None
    assert holder.cache.low_water > ahead


def _descriptor(packed: bytes) -> RangeDescriptor:
    return encoding.unpack_descriptor(packed)
