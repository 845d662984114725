"""What one turn does, and in which order."""

import asyncio
from unittest import mock

from multiraft import errors
from multiraft.client.database import Database
from multiraft.ids import Timestamp
from multiraft.model.requests import BatchReply, BatchRequest
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.messages import Command
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test
from tests.support.serving import (
    MARGIN,
    Asked,
    ask,
    get,
    holder_of,
    leader_of,
    now_of,
    put,
    scan,
)


@cluster_test()
async def test_a_put_costs_its_leader_two_batches(cluster: Cluster, db: Database) -> None:
    """Its entry, and then its effects together with the commit index."""
    leader = leader_of(cluster)
    await asyncio.sleep(1.0)
    with mock.patch.object(leader.engine, "write", wraps=leader.engine.write) as written:
        write = ask(cluster, leader, put(b"k", b"v"))
        await cluster.until(lambda: write.is_answered, step_s=0.0001)
    assert written.call_count == 2


@cluster_test()
async def test_what_is_to_be_done_at_the_end_is_done_with_the_turn_or_soon(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    turns = leader.up.store.turns
    order: list[str] = []

    class Waiting:
        def applied(self) -> None:
            cluster.loop.call_soon(order.append, "next")
            turns.at_the_end(lambda: order.append("end"))
            order.append("told")

        def failed(self, error: errors.MultiraftError) -> None:
            raise AssertionError(error)

    assert holder_of(leader).propose(Command(bytes(16)), Waiting())
    await cluster.until(lambda: len(order) == 3)
    assert order == ["told", "end", "next"]
    turns.at_the_end(lambda: order.append("soon"))
    assert len(order) == 3
    await asyncio.sleep(0)
    assert order[3] == "soon"


@cluster_test()
async def test_a_write_is_answered_before_its_effects_are_written_and_nobody_sees_that(
    cluster: Cluster, db: Database
) -> None:
    """Whoever asks in the very moment of the answer waits for the latch, and so for the effects."""
    leader = leader_of(cluster)
    family = leader.engine.data
    there: list[bool] = []
    later: list[Asked] = []

    def answered_now(_: BatchReply) -> None:
        there.append(any(b"new" in row for _, row in leader.engine.scan(b"", b"\xff", family)))
        later.extend(ask(cluster, leader, each) for each in (get(b"k"), scan(b"a", b"z")))
        assert not any(each.is_answered for each in later)

    issued_at = Timestamp(now_of(leader) - MARGIN)
    write = BatchRequest(USER_RANGE_ID, (put(b"k", b"new"),), bytes(16), 1, issued_at)
    leader.up.store.submit(write, answered_now)
    await cluster.until(lambda: len(later) == 2 and all(each.is_answered for each in later))
    assert there == [False]
    assert later[0].value == b"new"
    assert b"new" in later[1].rows
