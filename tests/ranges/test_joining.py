"""What the requests of one turn put into the log together, and what becomes of each of them."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft.client.database import Database
from multiraft.ids import Index, NodeId, Timestamp
from multiraft.model.descriptor import initial_descriptor
from multiraft.model.requests import Increment
from multiraft.mvcc.statistics import RangeStats
from multiraft.ranges import joining, messages
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.leaseholder import GATHERED_BYTES_MAX
from multiraft.ranges.messages import Command, DescriptorTrigger, MetaKnownTrigger
from multiraft.sim.cluster import Cluster
from multiraft.storage.memory import MemoryEngine
from tests.support.cluster import cluster_test
from tests.support.serving import answered, ask, codes, get, holder_of, leader_of, plain, put

WRITERS = 10

OLD_KEYS = tuple(b"old%d" % number for number in range(6))
counts = st.integers(-9, 9)
plain_commands = st.builds(
    Command,
    id=st.binary(min_size=16, max_size=16),
    timestamp=st.integers(1, 1 << 50).map(Timestamp),
    puts=st.lists(st.tuples(st.binary(max_size=3), st.binary(max_size=3)), max_size=4).map(
        lambda pairs: tuple(part for pair in pairs for part in pair)
    ),
    stats=st.none() | st.builds(RangeStats, counts, counts, counts, counts, counts),
    # Parts do not conflict: what one of them removes none of the others puts.
    deletes=st.lists(st.sampled_from(OLD_KEYS), max_size=3).map(tuple),
    also=st.lists(st.tuples(st.just(b"i" * 16), st.just(Timestamp(1))), max_size=1).map(tuple),
)


def effects_of(commands: list[Command]) -> tuple[dict[bytes, bytes], RangeStats, int]:
    """Return what is there after the commands: rows, statistics, the greatest time."""
    engine = MemoryEngine()
    before = engine.new_batch()
    for key in OLD_KEYS:
        before.put(key, b"", engine.data)
    engine.write(before)
    stats, floor = RangeStats(), 0
    for command in commands:
        batch = engine.new_batch()
        for position in range(0, len(command.puts), 2):
            batch.put(command.puts[position], command.puts[position + 1], engine.data)
        for key in command.deletes:
            batch.delete(key, engine.data)
        engine.write(batch)
        stats = stats.plus(command.stats or RangeStats())
        floor = max(floor, command.timestamp)
    return dict(engine.scan(b"", b"\xff" * 4, engine.data)), stats, floor


@given(st.lists(plain_commands, min_size=1, max_size=6))
def test_a_joined_command_has_the_effects_of_its_parts(commands: list[Command]) -> None:
    assert all(joining.is_plain(command) for command in commands)
    joined = joining.join(commands)
    assert joining.is_plain(joined)
    assert joined.id == b""
    assert effects_of([joined]) == effects_of(commands)


@given(plain_commands)
def test_the_size_of_a_command_is_about_what_it_takes(command: Command) -> None:
    assert abs(len(messages.encode(command)) - joining.size_of(command)) < 64


JOINED = {"id", "timestamp", "puts", "stats", "deletes", "also"}


@pytest.mark.parametrize("name", sorted(set(Command.__struct_fields__) - JOINED))
def test_a_command_with_anything_else_in_it_is_not_joined(name: str) -> None:
    """Also with what later versions of a command may hold: joining would lose it."""
    filled = msgspec.structs.replace(Command(), **{name: ("something",)})
    assert not joining.is_plain(filled)


@cluster_test()
async def test_the_writes_of_one_turn_share_an_entry_and_keep_their_own_outcomes(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"k0", b"old")
    leader = leader_of(cluster)
    last = leader.replica().core.last_index
    ids = [number.to_bytes(16, "big") for number in range(1, WRITERS + 1)]
    asked = [
        ask(cluster, leader, Increment(plain(b"n%d" % number), number), id=write_id)
        for number, write_id in enumerate(ids)
    ]
    await answered(cluster, *asked)
    assert leader.replica().core.last_index == last + 1
    assert [each.number for each in asked] == list(range(WRITERS))
    times = [each.reply.timestamp for each in asked]
    assert sorted(set(times)) == times, "each has its own"
    # A second attempt finds the outcome of its own write, at its own time (rule L7).
    again = [
        ask(cluster, leader, Increment(plain(b"n%d" % number), number), id=write_id, attempt=2)
        for number, write_id in enumerate(ids)
    ]
    assert [(each.number, each.reply.timestamp) for each in again] == list(
        zip(range(WRITERS), times, strict=True)
    )
    await cluster.until_applied()
    cluster.check_statistics()
    assert len({tuple(cluster.contents(number)) for number in cluster.members}) == 1


@cluster_test()
async def test_a_command_with_a_trigger_comes_behind_what_was_proposed_before(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    holder = holder_of(leader)
    last = leader.replica().core.last_index
    order: list[str] = []

    class Noting:
        def __init__(self, name: str) -> None:
            self.name = name

        def applied(self) -> None:
            order.append(self.name)

        def failed(self, error: Exception) -> None:
            raise AssertionError(error)

    trigger = MetaKnownTrigger(1)
    assert holder.propose(Command(bytes(16)), Noting("first"))
    assert holder.propose(Command(bytes(16)), Noting("second"))
    assert holder.propose(Command(trigger=trigger), Noting("trigger"))
    assert holder.propose(Command(bytes(16)), Noting("last"))
    await cluster.until(lambda: len(order) == 4)
    assert order == ["first", "second", "trigger", "last"]
    assert leader.replica().core.last_index == Index(last + 3)


@cluster_test()
async def test_more_than_an_entry_should_hold_is_cut(cluster: Cluster, db: Database) -> None:
    leader = leader_of(cluster)
    last = leader.replica().core.last_index
    value = bytes(GATHERED_BYTES_MAX // 4)
    asked = [ask(cluster, leader, put(b"k%d" % number, value)) for number in range(WRITERS)]
    await answered(cluster, *asked)
    assert leader.replica().core.last_index == last + 3, "four and four and two"
    assert set(codes(asked)) == {""}


@cluster_test()
async def test_who_is_gathered_when_the_term_ends_is_sent_on(
    cluster: Cluster, db: Database
) -> None:
    """S17: what is not in the log of its term never gets there."""
    leader = leader_of(cluster)
    holder, core = holder_of(leader), leader.replica().core
    asked = [ask(cluster, leader, put(b"k%d" % number, b"v")) for number in range(WRITERS)]
    core.step_down()
    await answered(cluster, *asked)
    assert set(codes(asked)) == {"not_leaseholder"}
    assert leader.up.store.context.inflight_bytes == 0
    assert holder.latches.status().points == 0
    await cluster.until_served()
    await asyncio.sleep(0.1)
    assert ask(cluster, leader_of(cluster), get(b"k1")).value is None


def test_a_trigger_is_not_plain() -> None:
    span = initial_descriptor(USER_RANGE_ID, b"b", b"m", (NodeId(1),))
    assert not joining.is_plain(
        Command(bytes(16), puts=(b"k", b"v"), trigger=DescriptorTrigger(span))
    )
