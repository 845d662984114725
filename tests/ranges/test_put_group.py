"""Puts that are evaluated together: which ones are, and that nobody can tell."""

from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from multiraft.client.database import Database
from multiraft.model.requests import BatchReply, Increment
from multiraft.mvcc.statistics import RangeStats
from multiraft.ranges import leaseholder
from multiraft.ranges.put_group import Call, PutGroup
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from tests.support.cluster import cluster_test
from tests.support.serving import (
    MARGIN,
    Asked,
    answered,
    ask,
    codes,
    get,
    holder_of,
    leader_of,
    now_of,
    plain,
    put,
)


class Watched(PutGroup):
    """Notes what was begun together, and what of that was left to the slow path."""

    taken: list[int] = []  # noqa: RUF012 - of all groups of a test
    left: list[Sequence[Call]] = []  # noqa: RUF012

    def take(self, calls: Sequence[Call]) -> Sequence[Call]:
        """As PutGroup.take."""
        left = super().take(calls)
        self.taken.append(len(calls) - len(left))
        self.left.append(left)
        return left


class Refusing(PutGroup):
    """Takes nothing, so that the slow path serves everything."""

    def take(self, calls: Sequence[Call]) -> Sequence[Call]:
        """As PutGroup.take."""
        return calls


@pytest.fixture(autouse=True)
def groups() -> Iterator[type[Watched]]:
    """Watch the groups of a test."""
    Watched.taken, Watched.left = [], []
    with mock.patch.object(leaseholder, "PutGroup", Watched):
        yield Watched


async def until_complete(cluster: Cluster) -> None:
    """Wait until nothing that is asked is as old as the term."""
    began = now_of(leader_of(cluster))
    await cluster.until(lambda: now_of(leader_of(cluster)) - MARGIN > began, step_s=0.05)


def test_puts_of_a_turn_share_an_entry_and_each_has_its_own_time(groups: type[Watched]) -> None:
    @cluster_test()
    async def together(cluster: Cluster, db: Database) -> None:
        await until_complete(cluster)
        leader = leader_of(cluster)
        before = leader.replica().core.last_index
        asked = [ask(cluster, leader, put(b"k%d" % n, b"v%d" % n)) for n in range(5)]
        await answered(cluster, *asked)
        assert groups.taken == [5]
        assert leader.replica().core.last_index == before + 1
        times = [each.reply.timestamp for each in asked]
        assert times == sorted(set(times)), "each at a time of its own"
        assert [await db.get(b"k%d" % n) for n in range(5)] == [b"v%d" % n for n in range(5)]
        latches = holder_of(leader).latches.status()
        assert (latches.held, latches.points) == (0, 0)

    together()


Ask = Callable[[Cluster, Member], list[Asked]]

LEFT_ALONE: dict[str, Ask] = {
    "its key is written": lambda cluster, leader: [
        ask(cluster, leader, Increment(plain(b"n"), 1)),
        ask(cluster, leader, put(b"n", b"v")),
    ],
    "another put of its key is in the group": lambda cluster, leader: [
        ask(cluster, leader, put(b"same", b"v")),
        ask(cluster, leader, put(b"same", b"w")),
    ],
    "its key is elsewhere": lambda cluster, leader: [
        ask(cluster, leader, put(b"z", b"v")),
    ],
    "it is from the future": lambda cluster, leader: [
        ask(cluster, leader, put(b"f", b"v"), issued_at=now_of(leader) + (100_000 << 12)),
    ],
    "it may have been applied": lambda cluster, leader: [
        ask(cluster, leader, put(b"o", b"v"), issued_at=0),
    ],
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_a_put_is_left_to_the_slow_path_when(why: str, groups: type[Watched]) -> None:
    @cluster_test()
    async def left(cluster: Cluster, db: Database) -> None:
        await db.admin.split(b"y")
        await cluster.until_served()
        await until_complete(cluster)
        leader = leader_of(cluster)
        groups.taken.clear()
        groups.left.clear()
        first = ask(cluster, leader, put(b"a", b"v"))
        asked = LEFT_ALONE[why](cluster, leader)
        last = ask(cluster, leader, put(b"b", b"v"))
        await answered(cluster, first, *asked, last)
        assert [request for left in groups.left for request, _ in left] == [asked[-1].request]
        assert sum(groups.taken) == 2 + (why == "another put of its key is in the group")
        others = {"range_mismatch"} if why == "its key is elsewhere" else {""}
        assert {asked[-1].code} == others
        assert codes([first, last]) == ["", ""]

    left()


def test_an_attempt_that_was_applied_is_answered_as_before(groups: type[Watched]) -> None:
    @cluster_test()
    async def again(cluster: Cluster, db: Database) -> None:
        await until_complete(cluster)
        leader = leader_of(cluster)
        write_id = cluster.random.randbytes(16)
        first = ask(cluster, leader, put(b"k", b"v"), id=write_id)
        await answered(cluster, first)
        await db.put(b"k", b"w")
        second = ask(cluster, leader, put(b"k", b"v"), id=write_id, attempt=2)
        await answered(cluster, second)
        assert groups.taken == [1, 1, 0]
        assert second.reply.timestamp == first.reply.timestamp
        assert await db.get(b"k") == b"w"

    again()


def test_no_put_is_taken_where_a_transaction_has_locks(groups: type[Watched]) -> None:
    @cluster_test()
    async def locked(cluster: Cluster, db: Database) -> None:
        await until_complete(cluster)
        leader = leader_of(cluster)
        async with db.transaction() as txn:
            await txn.put(b"t", b"1")
            await txn.get(b"other", for_update=True)
            groups.taken.clear()
            write = ask(cluster, leader, put(b"k", b"v"))
            await answered(cluster, write)
            assert groups.taken == [0]
            assert write.code == ""

    locked()


def test_no_put_is_taken_below_a_read_of_a_later_time(groups: type[Watched]) -> None:
    @cluster_test()
    async def read_later(cluster: Cluster, db: Database) -> None:
        await until_complete(cluster)
        leader = leader_of(cluster)
        later = now_of(leader) + (50_000 << 12)
        holder_of(leader).cache.add_point(plain(b"k"), later)  # type: ignore[arg-type]
        write = ask(cluster, leader, put(b"k", b"v"))
        await answered(cluster, write)
        assert groups.taken == [0]
        assert write.reply.timestamp > later

    read_later()


def test_puts_that_were_not_begun_are_told_that_the_term_has_ended() -> None:
    @cluster_test()
    async def ended(cluster: Cluster, db: Database) -> None:
        leader = leader_of(cluster)
        write = ask(cluster, leader, put(b"k", b"v"))
        assert not write.is_answered
        leader.replica().stop_serving()
        assert write.code == "not_leaseholder"

    ended()


def test_a_get_sees_the_put_that_came_before_it() -> None:
    @cluster_test()
    async def in_order(cluster: Cluster, db: Database) -> None:
        leader = leader_of(cluster)
        write = ask(cluster, leader, put(b"k", b"new"))
        read = ask(cluster, leader, get(b"k"))
        await answered(cluster, write, read)
        assert read.value == b"new"

    in_order()


some_puts = st.lists(
    st.tuples(st.sampled_from([b"", b"a", b"a\x00", b"b", b"\xff"]), st.binary(max_size=8)),
    min_size=1,
    max_size=12,
)


def outcome(turns: Sequence[Sequence[tuple[bytes, bytes]]]) -> tuple[object, ...]:
    """Put what each turn says, and return what can be seen of it."""
    seen: list[tuple[object, ...]] = []

    @cluster_test()
    async def run(cluster: Cluster, db: Database) -> None:
        await until_complete(cluster)
        leader = leader_of(cluster)
        replies: list[BatchReply] = []
        stats: list[RangeStats] = []
        for puts in turns:
            asked = [ask(cluster, leader, put(key, value)) for key, value in puts]
            await answered(cluster, *asked)
            replies += [each.reply for each in asked]
            stats.append(leader.replica().applied.stats)
        rows = [row async for row in db.scan()]
        seen.append(([(reply.results, reply.error) for reply in replies], stats, rows))

    run()
    return seen[0]


@given(st.lists(some_puts, min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_what_comes_of_puts_is_the_same_on_the_slow_path(
    turns: list[list[tuple[bytes, bytes]]],
) -> None:
    with mock.patch.object(leaseholder, "PutGroup", PutGroup):
        fast = outcome(turns)
    with mock.patch.object(leaseholder, "PutGroup", Refusing):
        slow = outcome(turns)
    assert fast == slow
