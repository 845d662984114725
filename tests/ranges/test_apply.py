"""Commands as bytes, what applying refuses, and the applied index atomic with its effects."""

import asyncio
import typing

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.ids import Index, NodeId, RangeId, Timestamp
from multiraft.model import keys
from multiraft.model.descriptor import initial_descriptor
from multiraft.mvcc.statistics import RangeStats
from multiraft.ranges import apply, messages, triggers
from multiraft.ranges.apply import PhysicalSpan
from multiraft.ranges.messages import (
    Command,
    DescriptorTrigger,
    GcTrigger,
    MetaKnownTrigger,
    SplitTrigger,
    TruncateTrigger,
)
from multiraft.sim.cluster import Cluster
from multiraft.storage import layout
from multiraft.storage.memory import MemoryEngine
from tests.support.cluster import cluster_test

SPAN = initial_descriptor(RangeId(7), b"b", b"m", (NodeId(1),))
PACKED = [7, b"b", b"m", 1, [[1, 1, 1]], 2]


# -- the form that logs carry ----------------------------------------------------------------------


def test_a_command_has_the_documented_bytes() -> None:
    """Golden bytes: this is on disk. Fields are only ever appended."""
    command = Command(
        id=bytes(range(16)),
        timestamp=Timestamp(0x0102030405060708),
        puts=(b"\x04k", b"v"),
        stats=RangeStats(1, 2, 3, 4, 5),
    )
    assert messages.encode(command).hex() == (
        "97c410000102030405060708090a0b0c0d0e0fcf010203040506070892c402046bc40176950102030405c09090"
    )
    assert messages.decode_command(messages.encode(command)) == command
    resolved = Command(deletes=(b"\x03k",), also=((b"id", Timestamp(1)),))
    assert messages.encode(resolved).hex() == "97c4000090c0c091c402036b9192c402696401"
    assert messages.decode_command(messages.encode(resolved)) == resolved


@pytest.mark.parametrize(
    ("trigger", "packed"),
    [
        (
            SplitTrigger(SPAN, SPAN, RangeStats(1, 2, 3, 4, 5), Timestamp(9), NodeId(2)),
            [1, PACKED, PACKED, [1, 2, 3, 4, 5], 9, 2],
        ),
        (DescriptorTrigger(SPAN), [2, PACKED]),
        (TruncateTrigger(Index(300)), [3, 300]),
        (MetaKnownTrigger(4), [4, 4]),
        (GcTrigger(Timestamp(7)), [5, 7]),
    ],
)
def test_a_trigger_has_the_documented_tag_and_fields(
    trigger: messages.Trigger, packed: list[object]
) -> None:
    payload = messages.encode(Command(trigger=trigger))
    assert msgspec.msgpack.decode(payload) == [b"", 0, [], None, packed, [], []]
    assert messages.decode_command(payload).trigger == trigger


def test_a_command_of_an_older_form_is_understood() -> None:
    older = msgspec.msgpack.encode([bytes(16), 5, [b"\x04k", b"v"]])
    assert messages.decode_command(older) == Command(bytes(16), Timestamp(5), (b"\x04k", b"v"))


def test_every_trigger_has_a_row_in_the_table() -> None:
    assert set(triggers.PULL) == set(typing.get_args(messages.Trigger))


# -- the span --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"b", b"b\x00", b"c", b"l\xff\xff\xff"])
def test_keys_inside_the_span_belong_to_the_range(key: bytes) -> None:
    span = PhysicalSpan(SPAN)
    assert span.contains(layout.version_key(key, Timestamp(1)))
    assert span.contains(layout.lock_key(key))
    assert span.contains(layout.record_key(key, bytes(16)))


@pytest.mark.parametrize("key", [b"", b"a\xff", b"m", b"m\x00", b"z"])
def test_keys_outside_the_span_do_not(key: bytes) -> None:
    span = PhysicalSpan(SPAN)
    assert not span.contains(layout.version_key(key, Timestamp(1)))
    assert not span.contains(layout.lock_key(key))
    assert not span.contains(layout.record_key(key, bytes(16)))


def test_what_is_not_addressed_by_key_belongs_to_no_range() -> None:
    span = PhysicalSpan(SPAN)
    assert not span.contains(layout.STORE + b"c")
    assert not span.contains(layout.range_key(RangeId(7), b"d"))


def test_effects_go_into_the_batch_in_their_order() -> None:
    engine = MemoryEngine()
    batch = engine.new_batch()
    one, other = layout.lock_key(b"c"), layout.version_key(b"d", Timestamp(3))
    apply.put_effects(
        batch, engine.data, PhysicalSpan(SPAN), (one, b"first", other, b"v", one, b"last")
    )
    engine.write(batch)
    assert dict(engine.scan(b"", b"\xff", engine.data)) == {one: b"last", other: b"v"}


def test_what_a_command_deletes_is_gone() -> None:
    engine = MemoryEngine()
    lock, version = layout.lock_key(b"c"), layout.version_key(b"c", Timestamp(3))
    batch = engine.new_batch()
    apply.put_effects(batch, engine.data, PhysicalSpan(SPAN), (lock, b"l", version, b"v"))
    apply.delete_effects(batch, engine.data, PhysicalSpan(SPAN), (lock,))
    engine.write(batch)
    assert dict(engine.scan(b"", b"\xff", engine.data)) == {version: b"v"}


def test_a_key_outside_the_range_is_refused() -> None:
    engine = MemoryEngine()
    outside = layout.version_key(b"m", Timestamp(1))
    with pytest.raises(errors.StoreFailedError, match="outside its range"):
        apply.put_effects(engine.new_batch(), engine.data, PhysicalSpan(SPAN), (outside, b"v"))
    with pytest.raises(errors.StoreFailedError, match="outside its range"):
        apply.delete_effects(engine.new_batch(), engine.data, PhysicalSpan(SPAN), (outside,))


@cluster_test()
async def test_a_command_with_a_key_outside_its_range_stops_the_stores_that_apply_it(
    cluster: Cluster, db: Database
) -> None:
    """S2: applying asserts the span; our mistake must not become somebody's data."""
    leader = cluster.leader()
    assert leader is not None
    holder = leader.replica().leaseholder
    assert holder is not None
    outside = layout.version_key(keys.SYSTEM + b"x", Timestamp(1))

    class Ignored:
        def applied(self) -> None:
            raise AssertionError("it must not be applied")

        def failed(self, error: errors.MultiraftError) -> None:
            """The store stops."""

    assert holder.propose(Command(id=bytes(16), puts=(outside, b"v")), Ignored())
    await asyncio.sleep(5.0)
    found, cluster.errors = cluster.errors, []
    assert len(found) >= 2, "its proposer, and the next leader"
    assert all(isinstance(error, errors.StoreFailedError) for error in found)
    for member in cluster.members.values():
        assert member.engine.get(outside, member.engine.data) is None


# -- T5 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_increments_are_applied_once_whatever_a_crash_keeps(who: str) -> None:
    """T5: for every number of unsynced batches that reach the disk."""

    @cluster_test()
    async def run(cluster: Cluster, db: Database) -> None:
        total = keep = batches_max = 0
        while keep <= batches_max:
            await cluster.until_served()
            leader = cluster.leader()
            assert leader is not None
            victim = leader if who == "leader" else cluster.followers()[0]
            victim.sync_delay_s = 0.05
            for _ in range(4):
                await db.increment(b"n")
                await db.increment(b"m", 2)
                total += 1
            unsynced = victim.engine.unsynced_count
            batches_max = max(batches_max, unsynced)
            await cluster.crash(victim.number, keep=min(keep, unsynced))
            victim.sync_delay_s = 0.0
            await cluster.restart(victim.number)
            await cluster.until_served()
            await cluster.until(lambda: len(cluster.replicas()) == len(cluster.members))
            await cluster.until_applied()
            contents = [cluster.contents(number) for number in cluster.members]
            assert contents == contents[:1] * len(contents)
            cluster.check_statistics()
            keep += 1
        assert batches_max > 3, "there was something to lose"
        assert await db.increment(b"n", 0) == total
        assert await db.increment(b"m", 0) == 2 * total

    run()
