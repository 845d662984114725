"""Writes happen once: whatever is lost, repeated, late or split in between."""

import asyncio

import pytest

from multiraft import errors
from multiraft.client.batch import Answer, Batch
from multiraft.client.database import Database
from multiraft.ids import Timestamp
from multiraft.model import encoding
from multiraft.model.requests import (
    BatchRequest,
    ConditionalPut,
    ConditionalPutResult,
    Delete,
    DeleteResult,
    Increment,
    Operation,
    PutResult,
    Result,
)
from multiraft.mvcc import reads
from multiraft.mvcc.reader import Reader
from multiraft.mvcc.versions import Version
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from tests.support.cluster import cluster_test
from tests.support.serving import Asked, answered, ask, leader_of, move, now_of, plain, put

# -- everything at once ------------------------------------------------------------------------


class Tally:
    """Callers that count, through replies that get lost; and what they were told."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.told: dict[bytes, list[int]] = {}
        self.swapped = 0

    async def count(self, key: bytes, times: int) -> None:
        """Increment `key` so often, one after the other."""
        for _ in range(times):
            self.told.setdefault(key, []).append(await self._db.increment(key))

    async def swap(self, key: bytes, times: int) -> None:
        """Raise the number at `key` so often by a conditional put, each caller on its own."""
        done = 0
        while done < times:
            held = await self._db.get(key)
            number = 0 if held is None else int(held)
            try:
                await self._db.put(key, b"%d" % (number + 1), expected=held)
            except errors.ConditionFailedError:
                continue
            done += 1
            self.swapped += 1


async def disturb(cluster: Cluster, db: Database, boundaries: tuple[bytes, ...]) -> None:
    """Crash leaders, split ranges and hand leadership around, a few times."""
    for round_, boundary in enumerate(boundaries):
        await asyncio.sleep(0.3)
        victim = cluster.leader()
        if victim is not None:
            await cluster.crash(victim.number)
            await asyncio.sleep(0.2)
            await cluster.restart(victim.number)
        await cluster.until_served()
        await db.admin.split(boundary)
        follower = cluster.random.choice(cluster.followers())
        if round_ % 2:
            await move(cluster, db, follower)


@pytest.mark.parametrize("seed", range(1, 7))
def test_every_acknowledged_write_happened_exactly_once(seed: int) -> None:
    """T20: every fifth reply is lost; leaders crash; ranges split; leadership moves."""

    @cluster_test(seed=seed)
    async def lossy(cluster: Cluster, db: Database) -> None:
        cluster.slow_down(sync_s=0.001, link_s=0.001)
        for member in cluster.members.values():
            cluster.conditions.losses[member.name, "counting"] = 0.2
        keys = (b"a", b"h", b"p")
        async with cluster.connect(name="counting", deadline_s=60.0) as lossy_db:
            tally = Tally(lossy_db)
            await asyncio.gather(
                *(tally.count(key, 25) for key in keys for _ in range(3)),
                *(tally.swap(b"s", 10) for _ in range(3)),
                disturb(cluster, db, (b"m", b"d", b"s")),
            )
            assert lossy_db.status().pursuits > 20, "attempts were repeated"
        for key in keys:
            assert sorted(tally.told[key]) == list(range(1, 76)), "each number was told once"
            assert await db.get(key) == encoding.pack_counter(75)
        assert await db.get(b"s") == b"%d" % tally.swapped == b"30"

    lossy()


@cluster_test(seed=5)
async def test_batches_are_applied_once_though_their_ranges_split(
    cluster: Cluster, db: Database
) -> None:
    """Each batch increments two keys; splits come between them while replies are lost."""
    cluster.slow_down(sync_s=0.001, link_s=0.001)
    for member in cluster.members.values():
        cluster.conditions.losses[member.name, "counting"] = 0.3
    async with cluster.connect(name="counting", deadline_s=60.0) as lossy_db:

        async def work(times: int) -> list[tuple[Answer, ...]]:
            told = []
            for _ in range(times):
                batch = Batch().increment(b"b").increment(b"n").increment(b"b").delete(b"never")
                told.append(tuple(await lossy_db.batch(batch)))
            return told

        told, more, _ = await asyncio.gather(
            work(30), work(30), disturb(cluster, db, (b"x", b"f", b"c"))
        )
    firsts = sorted((each[0], each[2]) for each in (*told, *more))
    assert firsts == [(number, number + 1) for number in range(1, 120, 2)]
    assert sorted(each[1] for each in (*told, *more)) == list(range(1, 61))  # type: ignore[type-var]
    assert all(each[3] is False for each in (*told, *more))


# -- S7: attempts that come late ---------------------------------------------------------------


async def set_up(cluster: Cluster, db: Database, held: bytes | None) -> tuple[Member, Member]:
    """Let `k` hold `held`; return the leader, and who will lead later."""
    if held is not None:
        await db.put(b"k", held)
    return leader_of(cluster), cluster.followers()[0]


K = plain(b"k")
LATE = [
    (b"theirs", ConditionalPut(K, b"me", None), ConditionalPutResult(False, b"theirs")),
    (b"theirs", ConditionalPut(K, None, b"mine"), ConditionalPutResult(False, b"theirs")),
    (None, ConditionalPut(K, b"me", b"theirs"), ConditionalPutResult(False, None)),
    (None, Delete(K), DeleteResult(False)),
]


@pytest.mark.parametrize(("held", "operation", "result"), LATE)
def test_an_attempt_that_comes_after_a_later_one_was_answered_changes_nothing(
    held: bytes | None, operation: Operation, result: Result
) -> None:
    """S7: attempt 1 waits in a socket; 2 is answered "no"; the key changes; then 1 is read."""

    @cluster_test()
    async def late(cluster: Cluster, db: Database) -> None:
        first_leader, next_leader = await set_up(cluster, db, held)
        write_id = cluster.random.randbytes(16)
        second = ask(cluster, first_leader, operation, id=write_id, attempt=2)
        issued_at = second.request.issued_at
        await answered(cluster, second)
        assert second.reply.results == (result,)
        # What would have let attempt 1 succeed.
        if held is None:
            await db.put(b"k", b"theirs")
        else:
            await db.delete(b"k")
        after = await db.get(b"k")
        await move(cluster, db, next_leader)
        for attempt in (1, 2):
            asked = ask(
                cluster, next_leader, operation, id=write_id, attempt=attempt, issued_at=issued_at
            )
            await answered(cluster, asked)
            assert asked.reply.results == (result,)
        assert await db.get(b"k") == after
        for number in cluster.members:
            await cluster.crash(number)
        await cluster.start()
        asked = ask(
            cluster, leader_of(cluster), operation, id=write_id, attempt=1, issued_at=issued_at
        )
        await answered(cluster, asked)
        assert asked.reply.results == (result,), "nor after a power cut of everybody"
        assert await db.get(b"k") == after

    late()


def test_a_leader_that_remembers_a_write_searches_no_versions_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """L7: on a hot key each attempt would look at the versions of all others."""
    searched: list[bytes] = []
    find_write = reads.find_write

    def counted(reader: Reader, key: bytes, write_id: bytes, newer: Timestamp) -> Version | None:
        searched.append(write_id)
        return find_write(reader, key, write_id, newer)

    monkeypatch.setattr(reads, "find_write", counted)

    @cluster_test()
    async def repeat(cluster: Cluster, db: Database) -> None:
        def ask_again(member: Member, first: BatchRequest, attempt: int) -> Asked:
            [operation], issued_at = first.operations, first.issued_at
            return ask(
                cluster, member, operation, id=first.id, attempt=attempt, issued_at=issued_at
            )

        leader = leader_of(cluster)
        # Not older than the leader's term: it would have to search for what its predecessor wrote.
        issued_at = now_of(leader)
        firsts = [ask(cluster, leader, Increment(K, 1), issued_at=issued_at) for _ in range(16)]
        await answered(cluster, *firsts)
        again = [ask_again(leader, first.request, 2) for first in firsts]
        await answered(cluster, *again)
        assert [each.number for each in again] == [each.number for each in firsts]
        assert searched == []
        await move(cluster, db, cluster.followers()[0])
        last = firsts[-1].request
        other = ask_again(leader_of(cluster), last, 3)
        await answered(cluster, other)
        assert other.number == 16
        assert searched == [last.id], "the next leader remembers nothing and has to search"

    repeat()


@cluster_test()
async def test_a_leader_vouches_for_absence_only_since_it_began_to_serve(
    cluster: Cluster, db: Database
) -> None:
    """L7: what its predecessor wrote is applied by then, and remembered only if it came late."""
    await db.put(b"k", b"v")
    await move(cluster, db, cluster.followers()[0])
    holder = leader_of(cluster).replica().leaseholder
    assert holder is not None
    unknown, since = bytes(16), holder.serving_since
    assert holder.recent.knows_absence(unknown, since)
    assert not holder.recent.knows_absence(unknown, Timestamp(since - 1))


@cluster_test()
async def test_a_late_attempt_of_an_increment_that_was_refused_is_refused(
    cluster: Cluster, db: Database
) -> None:
    leader, other = await set_up(cluster, db, b"text")
    write_id = cluster.random.randbytes(16)
    second = ask(cluster, leader, Increment(K, 1), id=write_id, attempt=2)
    await answered(cluster, second)
    assert second.code == "not_an_integer"
    await db.delete(b"k")
    await move(cluster, db, other)
    issued_at = second.request.issued_at
    first = ask(cluster, other, Increment(K, 1), id=write_id, attempt=1, issued_at=issued_at)
    await answered(cluster, first)
    assert first.code == "not_an_integer"
    assert await db.get(b"k") is None


@pytest.mark.parametrize("crash", [False, True])
def test_a_write_whose_leader_is_gone_is_told_the_first_outcome(crash: bool) -> None:
    """The reply is lost with the leader; what others wrote since does not count."""

    @cluster_test()
    async def gone(cluster: Cluster, db: Database) -> None:
        leader, other = await set_up(cluster, db, encoding.pack_counter(5))
        write_id = cluster.random.randbytes(16)
        first = ask(cluster, leader, Increment(K, 1), id=write_id)
        await answered(cluster, first)
        assert first.number == 6
        await db.increment(b"k", 100)
        if crash:
            await cluster.crash(leader.number)
            await cluster.until(lambda: cluster.leader() is not None)
        else:
            await move(cluster, db, other)
        again = ask(
            cluster,
            leader_of(cluster),
            Increment(K, 1),
            id=write_id,
            attempt=2,
            issued_at=first.request.issued_at,
        )
        await answered(cluster, again)
        assert again.number == 6
        assert again.reply.timestamp == first.reply.timestamp
        assert await db.increment(b"k", 0) == 106
        if crash:
            await cluster.restart(leader.number)

    gone()


@cluster_test()
async def test_a_write_in_the_log_of_a_deposed_leader_is_found_or_never_happens(
    cluster: Cluster, db: Database
) -> None:
    """The old leader says "not leaseholder" for what its log still holds: a resend decides."""
    leader, _ = await set_up(cluster, db, None)
    cluster.isolate(leader.number)
    write_id = cluster.random.randbytes(16)
    lost = ask(cluster, leader, Increment(K, 1), id=write_id)
    await cluster.until(lambda: cluster.leader() not in (None, leader))
    await answered(cluster, lost)
    assert lost.code == "not_leaseholder"
    again = ask(
        cluster,
        leader_of(cluster),
        Increment(K, 1),
        id=write_id,
        attempt=2,
        issued_at=lost.request.issued_at,
    )
    await answered(cluster, again)
    assert again.number == 1
    cluster.rejoin(leader.number)
    await cluster.until_applied()
    assert await db.increment(b"k", 0) == 1


# -- S8: parts that are cut --------------------------------------------------------------------


@cluster_test()
async def test_a_part_that_was_cut_in_two_is_not_applied_again(
    cluster: Cluster, db: Database
) -> None:
    """S8: the half that needed no change finds that it was settled, in its new range too."""
    leader, other = await set_up(cluster, db, None)
    write_id = cluster.random.randbytes(16)
    missing, z = Delete(plain(b"a")), put(b"z", b"1")
    whole = ask(cluster, leader, missing, z, id=write_id)
    issued_at = whole.request.issued_at
    await answered(cluster, whole)
    assert whole.reply.results == (DeleteResult(False), PutResult())
    await db.put(b"a", b"theirs")
    await db.put(b"z", b"theirs")
    _, right = await db.admin.split(b"m")
    await cluster.until_served()
    for target in (leader, other):
        await move(cluster, db, target)
        left_half = ask(cluster, target, missing, id=write_id, attempt=2, issued_at=issued_at)
        right_half = ask(
            cluster,
            leader_of(cluster, right.range_id),
            z,
            id=write_id,
            attempt=2,
            issued_at=issued_at,
            range_id=right.range_id,
        )
        await answered(cluster, left_half, right_half)
        assert left_half.reply.results == (DeleteResult(False),)
        assert right_half.reply.results == (PutResult(),)
    whole_again = ask(cluster, other, missing, z, id=write_id, issued_at=issued_at)
    assert whole_again.code == "range_mismatch"
    assert await db.get(b"a") == b"theirs"
    assert await db.get(b"z") == b"theirs"


@cluster_test()
async def test_a_client_whose_batch_is_cut_by_a_split_gets_the_first_outcome(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"warm", b"up")
    leader = leader_of(cluster)
    async with cluster.connect(name="unlucky", deadline_s=60.0) as unlucky:
        await unlucky.get(b"warm")
        cluster.network.cut(leader.name, "unlucky")
        batch = Batch().delete(b"a").increment(b"z", 5).put(b"b", b"1", expected=None)
        call = asyncio.create_task(unlucky.batch(batch))
        await cluster.until(lambda: leader.replica().applied.stats.live_keys == 3)
        await db.put(b"a", b"theirs")
        await db.increment(b"z", 100)
        await db.delete(b"b")
        await db.admin.split(b"m")
        await db.admin.split(b"b")
        assert not call.done()
        cluster.network.break_connections(leader.name, "unlucky")
        cluster.network.heal(leader.name, "unlucky")
        assert await call == [False, 5, None]
    assert await db.get(b"a") == b"theirs"
    assert await db.increment(b"z", 0) == 105
    assert await db.get(b"b") is None


@cluster_test()
async def test_a_batch_that_failed_is_failed_in_every_range_that_it_is_cut_into(
    cluster: Cluster, db: Database
) -> None:
    """What is told as written is there, and the condition that failed still fails."""
    await db.put(b"a", b"theirs")
    leader = leader_of(cluster)
    write_id = cluster.random.randbytes(16)
    fails = ConditionalPut(plain(b"a"), b"me", None)
    whole = ask(
        cluster, leader, fails, ConditionalPut(plain(b"z"), b"1", None), id=write_id, attempt=2
    )
    await answered(cluster, whole)
    await db.delete(b"a")
    _, right = await db.admin.split(b"m")
    await cluster.until_served()
    issued_at = whole.request.issued_at
    left_half = ask(cluster, leader_of(cluster), fails, id=write_id, attempt=3, issued_at=issued_at)
    right_half = ask(
        cluster,
        leader_of(cluster, right.range_id),
        ConditionalPut(plain(b"z"), b"1", None),
        id=write_id,
        attempt=3,
        issued_at=issued_at,
        range_id=right.range_id,
    )
    await answered(cluster, left_half, right_half)
    assert left_half.reply.results == (ConditionalPutResult(False, b"theirs"),)
    told = right_half.reply.results[0]
    assert isinstance(told, ConditionalPutResult)
    assert told.succeeded == (await db.get(b"z") == b"1")
    assert await db.get(b"a") is None
    assert leader_of(cluster, USER_RANGE_ID) is not None
