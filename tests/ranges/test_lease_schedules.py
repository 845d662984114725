"""Leases against time: frozen nodes, wrong clocks, cut links, late messages.

Every test ends with a check of all that clients saw: see tests/support/history.py.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.ids import NodeId, Timestamp
from multiraft.liveness import records
from multiraft.model import hlc
from multiraft.model.requests import GetResult
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from tests.support.cluster import cluster_test
from tests.support.history import History
from tests.support.serving import (
    Asked,
    answered,
    ask,
    get,
    heal,
    holder_of,
    leader_of,
    now_of,
    put,
)

KEYS = (b"a", b"b")


@contextlib.asynccontextmanager
async def load(
    cluster: Cluster, db: Database, *, callers: int = 3, pause_s: float = 0.02
) -> AsyncIterator[History]:
    """Read and write two keys all the time; in the end, check what was seen."""
    history = History(cluster)
    over = False

    async def work(number: int) -> None:
        turn = number
        while not over:
            key = KEYS[turn % 2]
            if (turn // 2) % 3:
                await history.read(db, key)
            else:
                await history.write(db, key)
            turn += 1
            await asyncio.sleep(pause_s)

    callers_at_work = [asyncio.create_task(work(number)) for number in range(callers)]
    try:
        yield history
    finally:
        over = True
        await asyncio.gather(*callers_at_work)
    await cluster.until_served()
    history.check()


def note(history: History, asked: Asked, key: bytes, moment: float) -> bool:
    """Note a read that a store was given directly; return whether it was served."""
    if asked.code:
        return False
    result = asked.reply.results[0]
    assert isinstance(result, GetResult)
    history.note_read(key, moment, asked.reply.timestamp, result)
    return True


# -- nobody does anything --------------------------------------------------------------------------


@cluster_test()
async def test_an_idle_leader_keeps_its_lease_without_a_message_of_its_group(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"k", b"v")
    await cluster.until_applied()
    leader = leader_of(cluster)
    holder = holder_of(leader)
    for _ in range(200):
        await asyncio.sleep(0.05)
        assert leader.replica().leaseholder is holder
        assert holder.may_serve(leader.up.store.context.hlc.now())
    assert all(not replica.core.needs_tick for replica in cluster.replicas())


# -- frozen nodes ------------------------------------------------------------------------------


async def read_from(db: Database, member: Member, key: bytes) -> errors.MultiraftError | None:
    """Ask exactly that node; return its refusal, None if it served the read."""
    try:
        await db._router.send_to_node(NodeId(member.number), USER_RANGE_ID, (get(key),), 30.0)
    except errors.MultiraftError as error:
        return error
    return None


@cluster_test()
async def test_a_leader_that_was_frozen_serves_nothing_when_it_wakes_up(
    cluster: Cluster, db: Database
) -> None:
    """T9, T10: requests wait in its socket while another leads and writes."""
    await db.put(b"k", b"old")
    leader = leader_of(cluster)
    assert await read_from(db, leader, b"k") is None
    cluster.freeze(leader.number)
    waiting = [asyncio.create_task(read_from(db, leader, b"k")) for _ in range(3)]
    async with cluster.connect(name="other") as other:
        await other.put(b"k", b"new")
        assert cluster.leader() is not leader
        late = asyncio.create_task(read_from(db, leader, b"k"))
        await asyncio.sleep(1.0)
        assert not any(task.done() for task in (*waiting, late))
        cluster.thaw(leader.number)
        for task in (*waiting, late):
            refusal = await task
            assert isinstance(refusal, errors.NotLeaseholderError)
        assert await other.get(b"k") == b"new"


@cluster_test()
async def test_a_leader_frozen_between_reading_and_answering_gives_an_old_but_right_answer(
    cluster: Cluster, db: Database
) -> None:
    """T10: the lease was checked and the key was read; the answer leaves seconds later."""
    history = History(cluster)
    await history.write(db, b"k")
    leader = leader_of(cluster)
    holder = holder_of(leader)
    served = holder.requests_served
    cluster.freeze_when(leader.number, lambda: holder.requests_served > served)
    # It must not be sent again elsewhere: the answer of the frozen one is what is looked at.
    async with cluster.connect(name="patient", attempt_timeout_ms=20_000) as patient:
        slow = asyncio.create_task(history.read(patient, b"k"))
        await cluster.until(lambda: cluster.is_frozen(leader.number))
        async with cluster.connect(name="other") as other:
            await history.write(other, b"k")
            await history.read(other, b"k")
        assert not slow.done()
        cluster.thaw(leader.number)
        await slow
    await cluster.until_served()
    history.check()
    assert [event.value for event in history.events] == [b"1", b"2", b"2", b"1"]


@cluster_test()
async def test_a_write_of_a_leader_frozen_before_it_was_sent_does_not_come_back(
    cluster: Cluster, db: Database
) -> None:
    history = History(cluster)
    leader = leader_of(cluster)
    holder = holder_of(leader)
    cluster.freeze_when(leader.number, lambda: len(holder.proposals) > 0)
    slow = asyncio.create_task(history.write(db, b"k"))
    await cluster.until(lambda: cluster.is_frozen(leader.number))
    async with cluster.connect(name="other") as other:
        await history.write(other, b"k")
        await history.read(other, b"k")
        cluster.thaw(leader.number)
        await slow
        await history.read(other, b"k")
    await cluster.until_served()
    history.check()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nodes_that_are_frozen_at_random_never_give_a_stale_answer(seed: int) -> None:
    @cluster_test(seed=seed)
    async def frozen(cluster: Cluster, db: Database) -> None:
        cluster.slow_down(sync_s=0.001, link_s=0.0)
        async with load(cluster, db) as history:
            for _ in range(8):
                leader = cluster.leader()
                number = (
                    leader.number
                    if leader is not None and cluster.random.random() < 0.7
                    else cluster.random.choice([1, 2, 3])
                )
                cluster.freeze(number)
                await asyncio.sleep(cluster.random.choice([0.1, 0.5, 0.9, 1.1, 1.5, 3.0]))
                cluster.thaw(number)
                await asyncio.sleep(cluster.random.choice([0.0, 0.1, 0.5]))
            await cluster.until_served()
        assert len(history.events) > 100

    frozen()


# -- clocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_clocks_that_differ_by_half_the_bound_are_not_noticed(seed: int) -> None:
    """Leaders change all the time, by hand-over, isolation and crash."""

    @cluster_test(seed=seed)
    async def skewed(cluster: Cluster, db: Database) -> None:
        for member, offset_s in zip(cluster.members.values(), (-0.06, 0.0, 0.06), strict=True):
            member.clock.step_wall(offset_s)
        async with load(cluster, db) as history:
            for round_ in range(9):
                await asyncio.sleep(0.3)
                await cluster.until_served()
                leader = leader_of(cluster)
                match round_ % 3:
                    case 0:
                        target = cluster.random.choice(cluster.followers())
                        await db.admin.transfer(USER_RANGE_ID, NodeId(target.number))
                    case 1:
                        cluster.isolate(leader.number)
                        await asyncio.sleep(1.5)
                        cluster.rejoin(leader.number)
                    case _:
                        await cluster.crash(leader.number)
                        await asyncio.sleep(0.1)
                        await cluster.restart(leader.number)
        assert len(history.events) > 200

    skewed()


async def expect_failure(cluster: Cluster, member: Member) -> None:
    """Wait until the node stops because of its clock; that is no failure of the test."""
    await asyncio.sleep(0)
    deadline = cluster.loop.time() + 10.0
    while not member.up.failed.done():
        assert cluster.loop.time() < deadline, "the node should have stopped"
        await asyncio.sleep(0.01)
    error = member.up.failed.result()
    assert isinstance(error, errors.StoreFailedError)
    assert "clock" in error.message
    await asyncio.sleep(0)
    cluster.errors.remove(error)


def ahead_of_wall_ms(member: Member) -> float:
    """Return how far a node's hybrid clock is ahead of its wall clock."""
    clock = member.up.store.context.hlc
    return (clock.last - clock.wall()) / hlc.from_ms(1)


@cluster_test()
async def test_a_node_whose_clock_is_eight_hours_ahead_drags_nobody_along(
    cluster: Cluster, db: Database
) -> None:
    """T24: it is refused, it notices and stops, and the others' times stay their own."""
    await db.put(b"k", b"v")
    leader = leader_of(cluster)
    wrong = cluster.followers()[0]
    others = [member for member in cluster.members.values() if member is not wrong]
    await cluster.crash(wrong.number)
    wrong.clock.step_wall(8 * 3600)
    await cluster.restart(wrong.number)
    async with load(cluster, db):
        await expect_failure(cluster, wrong)
        await cluster.crash(wrong.number)
        for member in others:
            assert ahead_of_wall_ms(member) < 250
    assert leader_of(cluster) is leader, "it disturbed nobody"
    write = ask(cluster, leader, put(b"k", b"w"))
    await answered(cluster, write)
    assert write.reply.timestamp - leader.up.store.context.hlc.wall() < hlc.from_ms(250)


@pytest.mark.parametrize("step_s", [0.6, -0.6, 3600.0, -3600.0])
def test_a_leader_whose_clock_leaves_the_bound_stops_and_no_write_is_lost(step_s: float) -> None:
    @cluster_test()
    async def stepped(cluster: Cluster, db: Database) -> None:
        await db.put(b"a", b"0")
        wrong = leader_of(cluster)
        history = History(cluster)
        for _ in range(3):
            await history.write(db, b"a")
        wrong.clock_is_wrong = True
        wrong.clock.step_wall(step_s)
        await expect_failure(cluster, wrong)
        refused = ask(cluster, wrong, get(b"a"))
        await asyncio.sleep(0.1)
        assert not refused.is_answered, "a store that has stopped says nothing"
        await cluster.crash(wrong.number)
        for _ in range(3):
            await history.write(db, b"a")
            await history.read(db, b"a")
        await cluster.until_served()
        history.check()

    stepped()


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_restart_with_an_earlier_clock_does_not_write_below_what_was_read(nodes: int) -> None:
    """S3, the asker: a read was served; the leader restarts with its clock set back."""

    @cluster_test(nodes=nodes)
    async def set_back(cluster: Cluster, db: Database) -> None:
        await db.put(b"k", b"v")
        leader = leader_of(cluster)
        leader.clock.step_wall(0.15)
        history = History(cluster)
        read = ask(cluster, leader, get(b"k"))
        note(history, read, b"k", cluster.loop.time())
        promised = leader.replica().lease.end()
        await cluster.crash(leader.number)
        leader.clock.step_wall(-0.15 - 0.2)
        restart = asyncio.create_task(cluster.restart(leader.number))
        # The others may lead when the lease has ended on their clocks; so may this one on its own.
        await asyncio.sleep(0)
        while not restart.done():
            assert leader.node is None or not leader.node.store.liveness.status().running
            await asyncio.sleep(0.01)
        await restart
        assert leader.up.store.context.hlc.wall() > promised, "it waited for its own promise"
        await cluster.until_served()
        write = ask(cluster, leader_of(cluster), put(b"k", b"w"))
        await answered(cluster, write)
        assert write.reply.timestamp > read.reply.timestamp
        await history.read(db, b"k")
        history.check()

    set_back()


@cluster_test()
async def test_a_supporter_that_restarts_with_an_earlier_clock_remembers_when_it_withdrew(
    cluster: Cluster, db: Database
) -> None:
    """S3, the supporter: its clock ran ahead when it withdrew; the leader still reads below."""
    await db.put(b"k", b"v")
    leader = leader_of(cluster)
    supporter, third = cluster.followers()
    history = History(cluster)
    cluster.network.cut(leader.name, supporter.name)
    supporter.clock.step_wall(0.51)
    await cluster.until(
        lambda: not supporter.up.store.liveness.support_for(NodeId(leader.number)), step_s=0.001
    )
    ended_at = records.load(supporter.engine).clock_floor
    await cluster.crash(supporter.number, keep=supporter.engine.unsynced_count)
    supporter.clock.step_wall(-0.51)
    assert leader.replica().leaseholder is not None, "the leader knows nothing of it"
    restart = asyncio.create_task(cluster.restart(supporter.number))
    heal(cluster)
    read_until = Timestamp(0)
    while not restart.done():
        read = ask(cluster, leader, get(b"k"))
        if read.is_answered and note(history, read, b"k", cluster.loop.time()):
            read_until = read.reply.timestamp
        await asyncio.sleep(0.02)
    assert supporter.up.store.context.hlc.wall() > ended_at
    assert now_of(supporter) >= ended_at
    await cluster.crash(leader.number)
    await cluster.until(lambda: cluster.leader() is not None)
    write = ask(cluster, leader_of(cluster), put(b"k", b"w"))
    await answered(cluster, write)
    assert write.reply.timestamp > read_until
    await history.read(db, b"k")
    history.check()
    await cluster.restart(leader.number)
    await cluster.until(lambda: len(cluster.replicas()) == 3)
    assert third.node is not None


# -- links -------------------------------------------------------------------------------------


@pytest.mark.parametrize("others_ahead_s", [0.0, 0.19, -0.19])
def test_a_leader_that_is_cut_off_stops_to_serve_before_the_next_one_writes(
    others_ahead_s: float,
) -> None:
    """However far ahead the clocks of the others are, within the bound."""

    @cluster_test()
    async def cut_off(cluster: Cluster, db: Database) -> None:
        old = leader_of(cluster)
        for follower in cluster.followers():
            follower.clock.step_wall(others_ahead_s)
        await db.put(b"k", b"old")
        history = History(cluster)
        cluster.isolate(old.number)
        last_served, last_moment = Timestamp(0), 0.0
        write: Asked | None = None
        began = 0.0
        while write is None or not write.is_answered or cluster.loop.time() < began + 1.0:
            moment = cluster.loop.time()
            read = ask(cluster, old, get(b"k"))
            if read.is_answered and note(history, read, b"k", moment):
                last_served, last_moment = read.reply.timestamp, moment
            new = cluster.leader()
            if write is None and new not in (None, old):
                assert new is not None
                write, began = ask(cluster, new, put(b"k", b"new")), moment
            await asyncio.sleep(0.002)
        assert write.code == ""
        assert write.reply.timestamp > last_served > 0
        assert began > last_moment, "by everybody's watch, too"
        cluster.rejoin(old.number)
        await cluster.until_applied()
        await history.read(db, b"k")
        history.check()

    cut_off()


@pytest.mark.parametrize("seed", [1, 2])
def test_reads_right_after_elections_and_restarts_see_the_latest_write(seed: int) -> None:
    """T8: a leader that has not applied an entry of its own term knows too little to answer."""

    @cluster_test(seed=seed)
    async def eager(cluster: Cluster, db: Database) -> None:
        cluster.slow_down(sync_s=0.003, link_s=0.002)
        history = History(cluster)
        for round_ in range(6):
            for _ in range(3):
                await history.write(db, b"k")
            leader = leader_of(cluster)
            await cluster.crash(leader.number)
            restart = None
            served = 0
            began = cluster.loop.time()
            while served < 10:
                if restart is None and cluster.loop.time() > began + round_ * 0.3:
                    restart = asyncio.create_task(cluster.restart(leader.number))
                for member in cluster.running():
                    moment = cluster.loop.time()
                    read = ask(cluster, member, get(b"k"))
                    if read.is_answered and note(history, read, b"k", moment):
                        served += 1
                await asyncio.sleep(0.001)
            if restart is None:
                restart = asyncio.create_task(cluster.restart(leader.number))
            await restart
        await cluster.until_served()
        history.check()

    eager()


def pairs() -> list[tuple[int, int]]:
    return [(one, other) for one in (1, 2, 3) for other in (1, 2, 3) if one != other]


@pytest.mark.parametrize(("source", "destination"), pairs())
def test_one_direction_of_one_link_may_be_cut(source: int, destination: int) -> None:
    """T21: everybody is served, in at most two changes of leader, and nothing is stale."""

    @cluster_test(seed=source * 10 + destination)
    async def one_way(cluster: Cluster, db: Database) -> None:
        await db.put(b"a", b"0")
        term = max(replica.core.term for replica in cluster.replicas())
        async with load(cluster, db) as history:
            cluster.network.cut(f"n{source}", f"n{destination}")
            await asyncio.sleep(4.0)
            served = len(history.events)
            await asyncio.sleep(2.0)
            assert len(history.events) > served + 20, "the cut is got used to"
            heal(cluster)
            await asyncio.sleep(1.0)
        assert max(replica.core.term for replica in cluster.replicas()) <= term + 2
        await cluster.until_applied()

    one_way()


@pytest.mark.parametrize("direction", ["to", "from"])
def test_a_leader_may_be_cut_off_in_one_direction(direction: str) -> None:
    """It hears nobody, or nobody hears it: another one takes over, and the lease is respected."""

    @cluster_test(seed=7)
    async def one_way(cluster: Cluster, db: Database) -> None:
        await db.put(b"a", b"0")
        old = leader_of(cluster)
        async with load(cluster, db) as history:
            for follower in cluster.followers():
                if direction == "to":
                    cluster.network.cut(follower.name, old.name)
                else:
                    cluster.network.cut(old.name, follower.name)
            reads = []
            while cluster.leader() in (None, old):
                moment = cluster.loop.time()
                read = ask(cluster, old, get(b"a"))
                reads.append(read.is_answered and note(history, read, b"a", moment))
                await asyncio.sleep(0.01)
            assert True in reads
            await asyncio.sleep(1.0)
            heal(cluster)
        await cluster.until_applied()

    one_way()


# -- transfers ---------------------------------------------------------------------------------


@cluster_test()
async def test_a_hand_over_that_arrives_late_disturbs_nobody(
    cluster: Cluster, db: Database
) -> None:
    """S6: TimeoutNow is held; the old leader is elected again and serves; then it arrives."""
    await db.put(b"k", b"old")
    history = History(cluster)
    old = leader_of(cluster)
    target, third = cluster.followers()
    term = old.replica().core.term
    cluster.network.cut(old.name, target.name)
    old.replica().core.transfer(target.replica().replica_id, old.up.store.context.hlc.now())
    old.up.store.context.mark_dirty(old.replica())
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    assert old.replica().leaseholder is None, "it stopped serving before the message left"
    assert ask(cluster, old, get(b"k")).code == "not_leaseholder"
    cluster.network.cut(third.name, target.name)
    cluster.network.cut(target.name, third.name)
    cluster.network.cut(target.name, old.name)
    await cluster.until(lambda: cluster.leader() in (old, third))
    leader = leader_of(cluster)
    assert leader.replica().core.term > term, "a new term, for good"
    served = Timestamp(0)
    for _ in range(20):
        moment = cluster.loop.time()
        read = ask(cluster, leader, get(b"k"))
        await answered(cluster, read)
        if note(history, read, b"k", moment):
            served = read.reply.timestamp
        await asyncio.sleep(0.02)
    heal(cluster)
    await asyncio.sleep(2.0)
    await cluster.until_served()
    write = ask(cluster, leader_of(cluster), put(b"k", b"new"))
    await answered(cluster, write)
    assert write.reply.timestamp > served
    await history.read(db, b"k")
    history.check()
    assert leader_of(cluster) is leader, "the late message counted for nothing"


@pytest.mark.parametrize("seed", [1, 2])
def test_leadership_that_moves_all_the_time_stays_linearizable(seed: int) -> None:
    """T12: a hundred transfers, forth and back, under reads and writes."""

    @cluster_test(seed=seed)
    async def moving(cluster: Cluster, db: Database) -> None:
        cluster.slow_down(sync_s=0.0005, link_s=0.0005)
        async with load(cluster, db, pause_s=0.005) as history:
            for _ in range(50):
                await cluster.until_served()
                target = cluster.random.choice(cluster.followers())
                with contextlib.suppress(errors.RetryableError):
                    await db.admin.transfer(USER_RANGE_ID, NodeId(target.number))
        assert len(history.events) > 100

    moving()


# -- everything at once ------------------------------------------------------------------------


class Troubles:
    """One trouble after the other, drawn from the cluster's randomness."""

    def __init__(self, cluster: Cluster, db: Database) -> None:
        self._cluster = cluster
        self._db = db
        self._random = cluster.random
        self._boundaries = [b"a0", b"a5", b"b0", b"b5"]

    async def next(self) -> None:
        """Cause a trouble, and wait until it is over."""
        victim = self._random.choice([member.number for member in self._cluster.running()])
        trouble = self._random.choice(
            (self._freeze, self._isolate, self._cut, self._crash, self._crash_all, self._rearrange)
        )
        await trouble(victim)

    async def _freeze(self, victim: int) -> None:
        self._cluster.freeze(victim)
        await asyncio.sleep(self._random.choice([0.05, 0.3, 1.2, 2.5]))
        self._cluster.thaw(victim)

    async def _isolate(self, victim: int) -> None:
        self._cluster.isolate(victim)
        await asyncio.sleep(self._random.choice([0.1, 0.9, 2.0]))
        self._cluster.rejoin(victim)

    async def _cut(self, victim: int) -> None:
        other = self._random.choice([n for n in self._cluster.members if n != victim])
        self._cluster.network.cut(f"n{victim}", f"n{other}")
        await asyncio.sleep(self._random.choice([0.3, 1.5, 3.0]))
        heal(self._cluster)

    async def _crash(self, victim: int) -> None:
        await self._cluster.crash(victim)
        await asyncio.sleep(self._random.choice([0.0, 0.1, 1.5]))
        await self._cluster.restart(victim)

    async def _crash_all(self, _victim: int) -> None:
        numbers = list(self._cluster.members)
        for number in numbers:
            await self._cluster.crash(number)
        await asyncio.gather(*(self._cluster.restart(number) for number in numbers))

    async def _rearrange(self, victim: int) -> None:
        with contextlib.suppress(errors.MultiraftError):
            if self._boundaries and self._random.random() < 0.5:
                await self._db.admin.split(self._boundaries.pop(), deadline_s=5.0)
            else:
                range_id = self._random.choice(self._cluster.range_ids())
                await self._db.admin.transfer(range_id, NodeId(victim), deadline_s=5.0)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_all_troubles_together_break_no_promise(seed: int) -> None:
    """Also with lost replies and clocks apart; in the end all replicas hold the same bytes."""

    @cluster_test(seed=seed)
    async def troubled(cluster: Cluster, db: Database) -> None:
        cluster.slow_down(sync_s=0.002, link_s=0.001)
        for member in cluster.members.values():
            member.clock.step_wall(cluster.random.uniform(-0.06, 0.06))
            cluster.conditions.losses[member.name, "lossy"] = 0.1
        told = []
        over = False

        async def count(lossy: Database) -> None:
            while not over:
                told.append(await lossy.increment(b"n"))
                await asyncio.sleep(0.05)

        async with (
            cluster.connect(name="lossy", deadline_s=60.0) as lossy,
            load(cluster, lossy) as history,
        ):
            counting = asyncio.create_task(count(lossy))
            troubles = Troubles(cluster, db)
            for _ in range(10):
                await troubles.next()
                await asyncio.sleep(cluster.random.uniform(0.0, 0.4))
            over = True
            await counting
        assert told == list(range(1, len(told) + 1))
        assert len(history.events) > 100
        for range_id in cluster.range_ids():
            await cluster.until_applied(range_id)
            contents = [cluster.contents(number, range_id) for number in cluster.members]
            assert contents[0] == contents[1] == contents[2]
        cluster.check_statistics()

    troubled()
